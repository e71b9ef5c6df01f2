from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mudata import MuData

import indiseek_sc as isk
from indiseek_sc.data._scan import scan_values
from indiseek_sc.data._source import InputSource
from indiseek_sc.data._values import examine_values

if TYPE_CHECKING:
    from collections.abc import Callable


VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.0, 7.0, 0.5, -2.0, -0.25, np.nan, np.inf])
MATRICES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=VALUES)
CONSTRUCTORS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]


@given(dense=MATRICES, constructor=st.sampled_from(CONSTRUCTORS), size=st.integers(1, 40))
def test_scan_equals_a_loop(dense: np.ndarray, constructor: Callable[[np.ndarray], Any], size: int):
    with isk.settings.override(values_at_once=size):
        scan = scan_values(constructor(dense))
    expected = {"nonfinite": set(), "negative": set(), "fractional": set()}
    for (i, j), value in np.ndenumerate(dense):
        if not np.isfinite(value):
            expected["nonfinite"].add((i, j))
        elif value != round(float(value)):
            expected["fractional"].add((i, j))
        if value < 0:
            expected["negative"].add((i, j))
    for name in ("nonfinite", "negative"):
        found = getattr(scan, name)
        assert found.count == len(expected[name])
        assert len(found.first) == min(5, found.count)
        assert {(i, j) for i, j, _ in found.first} <= expected[name]
        assert all(np.array_equal(dense[i, j], np.float32(value), equal_nan=True) for i, j, value in found.first)
    assert scan.are_counts == (not any(expected.values()))
    np.testing.assert_array_equal(scan.empty_rows, np.flatnonzero((dense == 0).all(axis=1)))
    np.testing.assert_array_equal(scan.empty_columns, np.flatnonzero((dense == 0).all(axis=0)))


def test_scan_of_every_format(as_format: Callable[[np.ndarray], Any], counts: np.ndarray):
    counts[3] = 0
    counts[:, 5] = 0
    scan = scan_values(as_format(counts))
    assert scan.are_counts
    np.testing.assert_array_equal(scan.n_nonzero_per_row, (counts != 0).sum(axis=1))
    np.testing.assert_array_equal(scan.n_nonzero_per_column, (counts != 0).sum(axis=0))


def test_explicit_zeros():
    matrix = sp.csr_matrix(np.array([[1.0, 2.0], [3.0, 0.0]]))
    matrix.data[:2] = 0.0
    np.testing.assert_array_equal(scan_values(matrix).empty_rows, [0])


def test_negative_integers():
    scan = scan_values(np.array([[1, -3], [0, 2]], dtype=np.int16))
    assert scan.negative.first == [(0, 1, -3.0)]
    assert not scan.are_counts


@pytest.mark.parametrize("dtype", [object, complex, "U3"])
def test_other_types_than_numbers_are_rejected(dtype: Any):
    with pytest.raises(TypeError, match="are not real numbers"):
        scan_values(np.array([[1, 2]]).astype(dtype))


@pytest.mark.parametrize("role", ["rna", "adt"])
@pytest.mark.parametrize("is_sample_enough", [False, True])
def test_sample_of_cells_is_scanned(
    as_format: Callable[[np.ndarray], Any],
    counts: np.ndarray,
    role: Any,
    is_sample_enough: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    counts = np.tile(counts, (20, 1))
    matrix = as_format(counts)
    source = InputSource(role, "mod", "X")
    monkeypatch.setattr(InputSource, "get_values", lambda self, mdata: matrix)
    kind, scan = examine_values(MuData({"mod": ad.AnnData(counts)}), source, "auto", is_sample_enough=is_sample_enough)
    assert kind == "counts"
    assert scan.n_nonzero_per_row.size == (1_000 if is_sample_enough else 1_200)


def test_error_names_cells_of_a_sample(counts: np.ndarray):
    counts = np.tile(counts, (20, 1))
    mdata = MuData({"rna": ad.AnnData(np.log1p(counts))})
    with pytest.raises(ValueError, match=r"fractional values: .*in cell '0'.*in cell '0'"):
        examine_values(mdata, InputSource("rna", "rna", "X"), "counts", is_sample_enough=True)
    mdata["rna"].X[:] = counts
    mdata["rna"].X[1_199, 3] = np.nan
    with pytest.raises(ValueError, match="nan in cell '1199', '3'"):
        examine_values(mdata, InputSource("rna", "rna", "X"), "counts", is_sample_enough=True)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_empty_matrix(shape: tuple[int, int]):
    mdata = MuData({"prot": ad.AnnData(np.zeros(shape, np.float32))})
    with pytest.raises(ValueError, match=r"adt_layer: mdata\['prot'\]\.X is empty, its shape is"):
        examine_values(mdata, InputSource("adt", "prot", "X"), "auto")


def test_cells_without_proteins_are_accepted():
    mdata = MuData({"adt": ad.AnnData(np.eye(4, 3, dtype=np.float32))})
    kind, scan = examine_values(mdata, InputSource("adt", "adt", "X"), "auto")
    assert kind == "counts"
    assert scan.empty_rows.tolist() == [3]
