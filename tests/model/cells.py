"""Simulated cells, and fingerprints to detect changes of a MuData."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

N_CELLS, N_GENES, N_PROTEINS = 40, 12, 5


def make_mdata(rna: str = "rna", adt: str = "adt", n_cells: int = N_CELLS, seed: int = 0) -> MuData:
    """Draw dense counts of genes and proteins, with batches and principal components of RNA."""
    generator = np.random.default_rng(seed)
    cells = [f"cell{i}" for i in range(n_cells)]
    modalities = {}
    for name, n_features, letter in ((rna, N_GENES, "g"), (adt, N_PROTEINS, "p")):
        counts = (generator.poisson(2.0, size=(n_cells, n_features)) + np.eye(n_cells, n_features)).astype(np.float32)
        counts[:, 0] += 1
        names = [f"{letter}{i}" for i in range(n_features)]
        modalities[name] = AnnData(counts, pd.DataFrame(index=cells), pd.DataFrame(index=names))
        modalities[name].layers["counts"] = counts.copy()
        modalities[name].layers["logs"] = np.log1p(counts)
    modalities[rna].obs["batch"] = pd.Categorical(np.where(np.arange(n_cells) % 3 == 0, "a", "b"))
    modalities[rna].obsm["X_pca"] = generator.normal(size=(n_cells, 3)).astype(np.float32)
    return MuData(modalities)


def fingerprint(mdata: MuData) -> dict[str, Any]:
    """Return all contents of a MuData by place, in a form that can be compared."""

    def plain(value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            return value.to_csv(), value.dtypes.astype(str).to_dict()
        if sp.issparse(value):
            return type(value), value.dtype, value.data.tobytes(), value.indices.tobytes(), value.indptr.tobytes()
        if isinstance(value, np.ndarray):
            content = value.tolist() if value.dtype == object else value.tobytes()
            return value.dtype, value.flags["F_CONTIGUOUS"], value.shape, content
        return str(value)

    found = {}
    for name, holder in {"mdata": mdata, **mdata.mod}.items():
        found[f"{name}/id"] = id(holder)
        for attribute in ("obs", "var"):
            found[f"{name}/{attribute}"] = plain(getattr(holder, attribute))
        mappings = ("obsm", "uns") if holder is mdata else ("obsm", "uns", "layers")
        for attribute in mappings:
            for key, value in getattr(holder, attribute).items():
                found[f"{name}/{attribute}/{key}"] = plain(value)
        if holder is not mdata:
            found[f"{name}/X"] = plain(holder.X)
    return found
