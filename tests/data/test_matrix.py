from __future__ import annotations

import logging
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

import indiseek_sc as isk
from indiseek_sc.data._matrix import as_readable, iterate_blocks, iterate_rows, principal_components

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("chunk_size", [1, 7, 60, None])
def test_rows_are_sorted_dense_and_float32(
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
def test_repeated_rows_and_no_rows(rows: list[int], chunk_size: int, is_sparse: bool):
    dense = np.arange(60, dtype=np.float32).reshape(20, 3)
    chunks = list(iterate_rows(sp.csr_array(dense) if is_sparse else dense, np.array(rows, dtype=int), chunk_size))
    read = np.concatenate(chunks) if chunks else np.empty((0, 3))
    np.testing.assert_array_equal(read, dense[sorted(rows)])


def test_chunks_may_be_modified(as_format: Callable[[np.ndarray], Any], counts: np.ndarray):
    matrix = as_format(counts)
    for chunk in iterate_rows(matrix, np.arange(60)):
        chunk[:] = -1.0
    np.testing.assert_array_equal(np.concatenate(list(iterate_rows(matrix, np.arange(60)))), counts)


def test_default_chunks_limit_memory(counts: np.ndarray):
    with isk.settings.override(values_at_once=100):
        sizes = [chunk.size for chunk in iterate_rows(sp.csr_matrix(counts), np.arange(60))]
    assert max(sizes) <= 100
    assert sum(sizes) == counts.size


def test_blocks_cover_the_matrix_once(as_format: Callable[[np.ndarray], Any], counts: np.ndarray):
    with isk.settings.override(values_at_once=150):
        blocks = list(iterate_blocks(as_readable(as_format(counts))))
    read = np.zeros_like(counts)
    for row, column, block in blocks:
        assert block.shape[0] * block.shape[1] <= 150
        read[row : row + block.shape[0], column : column + block.shape[1]] += (
            block.toarray() if sp.issparse(block) else block
        )
    np.testing.assert_array_equal(read, counts)


def test_matrices_in_memory_are_not_copied(counts: np.ndarray):
    for matrix in (counts, sp.csr_matrix(counts), sp.csc_array(counts)):
        assert as_readable(matrix) is matrix


def test_unsupported_type_raises():
    with pytest.raises(TypeError, match=r"values of type builtins\.list cannot be read.*numpy array"):
        as_readable([[1.0, 2.0]])


def in_chunks(x: np.ndarray, size: int = 13) -> list[torch.Tensor]:
    return list(torch.from_numpy(x.astype(np.float32)).split(size))


@pytest.mark.parametrize(("n_cells", "n_features"), [(80, 12), (12, 80), (30, 30), (31, 30)])
def test_equals_sklearn_up_to_sign(n_cells: int, n_features: int):
    x = np.random.default_rng(0).normal(size=(n_cells, n_features)) @ np.diag(np.linspace(3, 1, n_features)) + 5
    mean, components, variances = principal_components(in_chunks(x), n_cells, n_features, 6)
    reference = PCA(6, svd_solver="full").fit(x)
    np.testing.assert_allclose(mean, reference.mean_, rtol=1e-5)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(components * reference.components_.T, axis=0)), 1, rtol=1e-4)


def test_components_of_few_cells_need_little_memory():
    n_cells, n_features = 200, 6_000
    chunks = np.random.default_rng(0).normal(size=(10, n_cells // 10, n_features)).astype(np.float32)
    tracemalloc.start()
    with isk.settings.override(values_at_once=2**16):
        principal_components(map(torch.from_numpy, chunks), n_cells, n_features, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * chunks.nbytes


def test_components_with_a_large_mean():
    x = np.random.default_rng(0).normal(size=(400, 30)) * np.linspace(1, 0.1, 30) + 1_000
    x = x.astype(np.float32)
    mean, components, variances = principal_components(in_chunks(x), 400, 30, 6)
    reference = PCA(6, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(mean, reference.mean_, rtol=1e-6)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(components * reference.components_.T, axis=0)), 1, rtol=1e-4)


@pytest.mark.parametrize("n_features", [10, 60])
def test_components_of_low_rank(n_features: int):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 3)) @ generator.normal(size=(3, n_features))
    _, components, variances = principal_components(in_chunks(x), 40, n_features, 8)
    assert components.shape == (n_features, 3)
    assert (variances > 0).all()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 4)])
def test_components_of_constant_data(shape: tuple[int, int]):
    mean, components, variances = principal_components(in_chunks(np.ones(shape)), *shape, 2)
    assert variances.size == 0
    assert components.shape == (shape[1], 0)
    np.testing.assert_allclose(mean, 1)


def test_signs_do_not_depend_on_the_order_of_cells():
    x = np.random.default_rng(0).normal(size=(70, 9))
    _, first, _ = principal_components(in_chunks(x), 70, 9, 4)
    _, second, _ = principal_components(in_chunks(x[::-1].copy()), 70, 9, 4)
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert (first[np.abs(first).argmax(axis=0), np.arange(4)] > 0).all()


@pytest.mark.slow
def test_many_features_log_a_hint(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """The covariance of more than 6,000 features is in single precision."""
    generator = np.random.default_rng(0)
    shape = (6_100, 6_001)
    x = generator.normal(size=(shape[0], 3)) * [3, 2, 1] @ generator.normal(size=(3, shape[1]))
    x += 0.1 * generator.normal(size=shape)
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    with caplog.at_level(logging.INFO):
        _, components, variances = principal_components(in_chunks(x, 1000), *shape, 3)
    assert "n_top_genes=2000" in caplog.text
    reference = PCA(3, svd_solver="arpack", random_state=0).fit(x)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(components * reference.components_.T, axis=0)), 1, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2_500, 2_100), (2_100, 2_500)])
@pytest.mark.parametrize("rank", [2, 25])
def test_leading_components_of_large_data_equal_sklearn(shape: tuple[int, int], rank: int):
    """More than 2,000 cells and features are decomposed by an iterative solver."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(shape[0], rank)) * np.linspace(3, 1, rank) @ generator.normal(size=(rank, shape[1]))
    _, components, variances = principal_components(in_chunks(x, 500), *shape, 2)
    reference = PCA(2, svd_solver="arpack", random_state=0).fit(x)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(components * reference.components_.T, axis=0)), 1, rtol=1e-5)
