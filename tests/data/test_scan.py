from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from indiseek_sc.data import _matrix
from indiseek_sc.data._values import scan_values

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.0, 7.0, 0.5, -2.0, -0.25, np.nan, np.inf])
MATRICES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=VALUES)
CONSTRUCTORS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]


@given(dense=MATRICES, constructor=st.sampled_from(CONSTRUCTORS), size=st.integers(1, 40))
def test_equals_a_look_at_each_value(dense: np.ndarray, constructor: Callable[[np.ndarray], Any], size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_matrix, "N_VALUES", size)
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


def test_every_format_is_read(as_format: Callable[[np.ndarray], Any], counts: np.ndarray):
    counts[3] = 0
    counts[:, 5] = 0
    scan = scan_values(as_format(counts))
    assert scan.are_counts
    np.testing.assert_array_equal(scan.n_nonzero_per_row, (counts != 0).sum(axis=1))
    np.testing.assert_array_equal(scan.n_nonzero_per_column, (counts != 0).sum(axis=0))


def test_stored_zeros_are_zeros():
    matrix = sp.csr_matrix(np.array([[1.0, 2.0], [3.0, 0.0]]))
    matrix.data[:2] = 0.0
    np.testing.assert_array_equal(scan_values(matrix).empty_rows, [0])


def test_integers_may_be_negative():
    scan = scan_values(np.array([[1, -3], [0, 2]], dtype=np.int16))
    assert scan.negative.first == [(0, 1, -3.0)]
    assert not scan.are_counts


@pytest.mark.parametrize("dtype", [object, complex, "U3"])
def test_other_things_than_numbers_are_refused(dtype: Any):
    with pytest.raises(TypeError, match="are not real numbers"):
        scan_values(np.array([[1, 2]]).astype(dtype))
