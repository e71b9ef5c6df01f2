from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from indiseek_sc.data import _matrix
from indiseek_sc.data._matrix import principal_components


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


@pytest.mark.parametrize("n_features", [10, 60])
def test_fewer_directions_than_asked_for(n_features: int):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 3)) @ generator.normal(size=(3, n_features))
    _, components, variances = principal_components(in_chunks(x), 40, n_features, 8)
    assert components.shape == (n_features, 3)
    assert (variances > 0).all()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 4)])
def test_no_direction_at_all(shape: tuple[int, int]):
    mean, components, variances = principal_components(in_chunks(np.ones(shape)), *shape, 2)
    assert variances.size == 0
    assert components.shape == (shape[1], 0)
    np.testing.assert_allclose(mean, 1)


def test_sign_does_not_depend_on_the_order_of_cells():
    x = np.random.default_rng(0).normal(size=(70, 9))
    _, first, _ = principal_components(in_chunks(x), 70, 9, 4)
    _, second, _ = principal_components(in_chunks(x[::-1].copy()), 70, 9, 4)
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert (first[np.abs(first).argmax(axis=0), np.arange(4)] > 0).all()


def test_many_features_say_what_would_be_quicker_and_give_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 3)) @ generator.normal(size=(3, 40)) + 0.1 * generator.normal(size=(200, 40))
    _, exact, variances = principal_components(in_chunks(x), 200, 40, 3)
    monkeypatch.setattr(_matrix, "LARGEST_DOUBLE", 20)
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    with caplog.at_level(logging.INFO):
        _, components, approximate = principal_components(in_chunks(x), 200, 40, 3)
    assert "n_top_genes=2000" in caplog.text
    np.testing.assert_allclose(approximate, variances, rtol=1e-4)
    np.testing.assert_allclose(components, exact, atol=1e-3)


@pytest.mark.parametrize("n_cells", [90, 30])
@pytest.mark.parametrize("rank", [2, 25])
def test_the_solver_for_many_features_gives_the_same(n_cells: int, rank: int, monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n_cells, rank)) * np.linspace(3, 1, rank) @ generator.normal(size=(rank, 60))
    _, exact, variances = principal_components(in_chunks(x), n_cells, 60, 2)
    monkeypatch.setattr(_matrix, "LARGEST_DENSE", 20)
    monkeypatch.setattr(_matrix, "eigh", None)
    _, components, same = principal_components(in_chunks(x), n_cells, 60, 2)
    np.testing.assert_allclose(same, variances, rtol=1e-10)
    np.testing.assert_allclose(components, exact, atol=1e-10)
