from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pytest
from mudata import MuData

from indiseek_sc.data import _values
from indiseek_sc.data._source import InputSource
from indiseek_sc.data._values import examine_values

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("role", ["rna", "adt"])
@pytest.mark.parametrize("is_sample_enough", [False, True])
def test_a_sample_is_a_tenth_of_the_look(
    as_format: Callable[[np.ndarray], Any],
    counts: np.ndarray,
    role: Any,
    is_sample_enough: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(_values, "N_SAMPLED", 6)
    matrix = as_format(counts)
    source = InputSource(role, "mod", "X")
    monkeypatch.setattr(InputSource, "get_values", lambda self, mdata: matrix)
    kind, scan = examine_values(MuData({"mod": ad.AnnData(counts)}), source, "auto", is_sample_enough=is_sample_enough)
    assert kind == "counts"
    assert scan.n_nonzero_per_row.size == (6 if is_sample_enough else 60)


def test_cells_of_a_sample_are_named(counts: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_values, "N_SAMPLED", 6)
    mdata = MuData({"rna": ad.AnnData(np.log1p(counts))})
    with pytest.raises(ValueError, match=r"fractional values: .*in cell '0'.*in cell '0'"):
        examine_values(mdata, InputSource("rna", "rna", "X"), "counts", is_sample_enough=True)
    mdata["rna"].X[:] = counts
    mdata["rna"].X[59, 3] = np.nan
    with pytest.raises(ValueError, match="nan in cell '59', '3'"):
        examine_values(mdata, InputSource("rna", "rna", "X"), "counts", is_sample_enough=True)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_no_values_at_all(shape: tuple[int, int]):
    mdata = MuData({"prot": ad.AnnData(np.zeros(shape, np.float32))})
    with pytest.raises(ValueError, match=r"adt_layer: mdata\['prot'\]\.X is empty, its shape is"):
        examine_values(mdata, InputSource("adt", "prot", "X"), "auto")


def test_proteins_may_be_zero_in_a_cell():
    mdata = MuData({"adt": ad.AnnData(np.eye(4, 3, dtype=np.float32))})
    kind, scan = examine_values(mdata, InputSource("adt", "adt", "X"), "auto")
    assert kind == "counts"
    assert scan.empty_rows.tolist() == [3]
