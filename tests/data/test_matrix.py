from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from indiseek_sc.data import _matrix
from indiseek_sc.data._matrix import as_readable, iterate_blocks, iterate_rows

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("chunk_size", [1, 7, 60, None])
def test_rows_come_sorted_dense_and_float32(
    as_format: Callable[[np.ndarray], Any], counts: np.ndarray, chunk_size: int | None
):
    rows = np.random.default_rng(1).permutation(60)[:41]
    chunks = list(iterate_rows(as_format(counts), rows, chunk_size))
    assert all(type(chunk) is np.ndarray and chunk.dtype == np.float32 for chunk in chunks)
    assert all(chunk.flags["C_CONTIGUOUS"] for chunk in chunks)
    assert max(map(len, chunks)) <= (chunk_size or 60)
    np.testing.assert_array_equal(np.concatenate(chunks), counts[np.sort(rows)])


@given(
    rows=st.lists(st.integers(0, 19), max_size=30),
    chunk_size=st.integers(1, 25),
    is_sparse=st.booleans(),
)
def test_any_rows_repeated_or_none(rows: list[int], chunk_size: int, is_sparse: bool):
    dense = np.arange(60, dtype=np.float32).reshape(20, 3)
    chunks = list(iterate_rows(sp.csr_array(dense) if is_sparse else dense, np.array(rows, dtype=int), chunk_size))
    read = np.concatenate(chunks) if chunks else np.empty((0, 3))
    np.testing.assert_array_equal(read, dense[sorted(rows)])


def test_chunks_are_the_callers_own(as_format: Callable[[np.ndarray], Any], counts: np.ndarray):
    matrix = as_format(counts)
    for chunk in iterate_rows(matrix, np.arange(60)):
        chunk[:] = -1.0
    np.testing.assert_array_equal(np.concatenate(list(iterate_rows(matrix, np.arange(60)))), counts)


def test_default_chunks_bound_the_memory(counts: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_matrix, "N_VALUES", 100)
    sizes = [chunk.size for chunk in iterate_rows(sp.csr_matrix(counts), np.arange(60))]
    assert max(sizes) <= 100
    assert sum(sizes) == counts.size


def test_blocks_cover_the_matrix_once(
    as_format: Callable[[np.ndarray], Any], counts: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_matrix, "N_VALUES", 150)
    read = np.zeros_like(counts)
    for row, column, block in iterate_blocks(as_readable(as_format(counts))):
        assert block.shape[0] * block.shape[1] <= 150
        read[row : row + block.shape[0], column : column + block.shape[1]] += (
            block.toarray() if sp.issparse(block) else block
        )
    np.testing.assert_array_equal(read, counts)


def test_a_matrix_in_memory_is_not_copied(counts: np.ndarray):
    for matrix in (counts, sp.csr_matrix(counts), sp.csc_array(counts)):
        assert as_readable(matrix) is matrix


def test_an_unknown_type_is_named():
    with pytest.raises(TypeError, match=r"values of type builtins\.list cannot be read.*numpy array"):
        as_readable([[1.0, 2.0]])
