"""A small matrix of counts in every format that AnnData supports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS = [
    "dense",
    "fortran",
    "float64",
    "int64",
    "uint8",
    "dataframe",
    "csr_matrix",
    "csc_matrix",
    "csr_array",
    "csc_array",
    "coo_matrix",
    "backed_dense",
    "backed_csr",
    "backed_csc",
]


@pytest.fixture(params=FORMATS)
def as_format(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[np.ndarray], Any]:
    """Return a function that converts a dense array to one of the formats."""

    def convert(dense: np.ndarray) -> Any:
        name = request.param
        if name == "dense":
            return dense.copy()
        if name == "fortran":
            return np.asfortranarray(dense)
        if name in ("float64", "int64", "uint8"):
            return dense.astype(name)
        if name == "dataframe":
            return pd.DataFrame(dense)
        if name.startswith("backed_"):
            values = dense if name == "backed_dense" else getattr(sp, name.removeprefix("backed_") + "_matrix")(dense)
            ad.AnnData(values).write_h5ad(tmp_path / "backed.h5ad")
            return ad.read_h5ad(tmp_path / "backed.h5ad", backed="r").X
        return getattr(sp, name)(dense)

    return convert


@pytest.fixture
def counts() -> np.ndarray:
    """Counts of 60 cells and 24 genes, some genes with structure."""
    generator = np.random.default_rng(0)
    rate = np.exp(generator.normal(size=(60, 3)) @ generator.normal(size=(3, 24)) * 0.7)
    return (generator.poisson(rate) + np.eye(60, 24)).clip(max=250).astype(np.float32)
