from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from sklearn.cross_decomposition import CCA

from indiseek_sc.nn import (
    CanonicalRotation,
    LinearMap,
    chance_correlation,
    regularized_cca,
    shared_strength,
)
from indiseek_sc.nn._canonical_analysis import correlate


def draw(n_cells: int = 400, n_first: int = 6, n_second: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw features of two modalities that share two directions, one of them noisy."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n_cells, 2))
    first, second = (rng.standard_normal((n_cells, n)) for n in (n_first, n_second))
    first[:, :2] = common
    second[:, :2] = common + rng.standard_normal((n_cells, 2)) * [0.3, 1.0]
    first = first @ rng.standard_normal((n_first, n_first)) + 4
    return torch.from_numpy(first), torch.from_numpy(second - 2)


def rows(*ranges: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.arange(*bounds) for bounds in ranges]


def reference(a: np.ndarray, b: np.ndarray, ridges: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weights of both modalities by matrix powers in SciPy."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    roots = []
    for x, ridge in zip((a, b), ridges, strict=True):
        covariance = x.T @ x / len(x)
        covariance += ridge * np.diag(covariance).mean() * np.eye(len(covariance))
        roots.append(fractional_matrix_power(covariance, -0.5))
    left, _, right = np.linalg.svd(roots[0] @ (a.T @ b / len(a)) @ roots[1], full_matrices=False)
    return roots[0] @ left, roots[1] @ right.T


def column_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(x.shape[1])])


def test_without_ridge_it_equals_cca():
    first, second = draw()
    everyone = torch.arange(400)
    *maps, correlation = regularized_cca(first, second, everyone, everyone, 5, ridges=(0.0,))
    bases = [np.linalg.qr(x.numpy() - x.numpy().mean(axis=0))[0] for x in (first, second)]
    np.testing.assert_allclose(correlation, np.linalg.svd(bases[0].T @ bases[1], compute_uv=False), atol=1e-10)

    other = CCA(n_components=2, max_iter=5000, tol=1e-12).fit(first.numpy(), second.numpy())
    for linear, x, scores in zip(maps, (first, second), other.transform(first.numpy(), second.numpy()), strict=True):
        np.testing.assert_allclose(np.abs(column_correlations(linear(x)[:, :2].numpy(), scores)), 1, atol=1e-5)


def test_chosen_ridges_maximise_the_validation_correlation():
    first, second = draw(n_first=40, n_second=30)
    train, validation = rows((0, 100), (100, 400))
    ridges = (1e-3, 0.1, 10.0)
    scores = {}
    for pair in product(ridges, repeat=2):
        weights = reference(first[train].numpy(), second[train].numpy(), pair)
        r = column_correlations(first[validation].numpy() @ weights[0], second[validation].numpy() @ weights[1])[:4]
        scores[pair] = np.sum(r[r > 2 / math.sqrt(300)] ** 2), r.clip(min=0)
    best = max(scores, key=lambda pair: scores[pair][0])
    assert best != (1e-3, 1e-3)  # 100 cells with 70 features need regularisation
    *_, correlation = regularized_cca(first, second, train, validation, 4, ridges=ridges)
    np.testing.assert_allclose(correlation, scores[best][1], atol=1e-8)


@pytest.mark.parametrize("refit", [False, True])
def test_the_standard_deviation_of_each_column_is_its_validation_correlation(refit):
    first, second = draw()
    train, validation = rows((0, 300), (300, 400))
    *maps, correlation = regularized_cca(first, second, train, validation, 4, refit=refit)
    fitted = torch.arange(400) if refit else train
    for linear, x in zip(maps, (first, second), strict=True):
        latents = linear(x[fitted])
        torch.testing.assert_close(latents.std(dim=0, correction=0), correlation)
        torch.testing.assert_close(latents.mean(dim=0), torch.zeros(4, dtype=torch.float64))
    if not refit:
        torch.testing.assert_close(correlate(maps[0](first[validation]), maps[1](second[validation])), correlation)
    assert correlation[0] > 0.9


def test_refit_uses_training_and_validation_cells():
    first, second = draw(n_cells=100)
    train, validation = rows((0, 60), (60, 100))
    linear, *_, correlation = regularized_cca(first, second, train, validation, 2, ridges=(0.1,), refit=True)
    expected = reference(first.numpy(), second.numpy(), (0.1, 0.1))[0][:, :2]
    cosines = (linear.weight.numpy() * expected).sum(axis=0) / np.linalg.norm(expected, axis=0)
    np.testing.assert_allclose(np.abs(cosines), np.linalg.norm(linear.weight, axis=0), rtol=1e-8)
    *_, unrefitted = regularized_cca(first, second, train, validation, 2, ridges=(0.1,))
    assert torch.equal(correlation, unrefitted)  # computed before the refit, on held-out cells


def test_cells_outside_both_sets_have_no_influence():
    first, second = draw()
    train, validation = rows((0, 200), (200, 300))
    before = regularized_cca(first, second, train, validation, 3, refit=True)
    after = regularized_cca(first[:300], second[:300], train, validation, 3, refit=True)
    for x, y in zip([*before[0], *before[1], before[2]], [*after[0], *after[1], after[2]], strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("constant", [[0], [0, 1, 2, 3, 4, 5]])
def test_constant_columns_have_no_influence(constant):
    first, second = draw()
    first[:, constant] = 3.0
    train, validation = rows((0, 300), (300, 400))
    *maps, correlation = regularized_cca(first, second, train, validation, 5)
    for linear, x in zip(maps, (first, second), strict=True):
        assert torch.isfinite(linear(x)).all()
    assert torch.isfinite(correlation).all()
    if len(constant) == 6:
        assert (correlation == 0).all()
        assert (maps[0](first) == 0).all()


def test_correlations_of_columns_agree_with_numpy():
    first, second = draw()
    first[:, 1] = 3.0
    correlation = correlate(first[:, :5], second)
    np.testing.assert_allclose(correlation[2:], column_correlations(first[:, 2:5].numpy(), second[:, 2:].numpy()))
    assert correlation[1] == 0


def make_rotation() -> tuple[CanonicalRotation, LinearMap]:
    torch.manual_seed(0)
    linear = LinearMap(torch.randn(4), torch.randn(4, 4))
    rotation = CanonicalRotation(4)
    rotation.set(linear, torch.tensor([0.9, 0.5, 0.0, 0.0]))
    return rotation, linear


def test_a_rotation_starts_as_the_identity():
    x = torch.randn(5, 4)
    rotation = CanonicalRotation(4)
    assert torch.equal(rotation(x), x)
    assert torch.equal(rotation.standardize(x), x)
    assert rotation.n_kept == 4


def test_dropped_directions_are_columns_of_zero():
    rotation, linear = make_rotation()
    x = torch.randn(50, 4)
    assert rotation.n_kept == 2
    torch.testing.assert_close(rotation(x)[:, :2], linear(x)[:, :2])
    assert (rotation(x)[:, 2:] == 0).all()
    assert (rotation.standardize(rotation(x))[:, 2:] == 0).all()


def test_standardized_directions_have_unit_variance():
    first, second = draw()
    everyone = torch.arange(400)
    rotation = CanonicalRotation(5)
    first = first[:, :5]
    linear, _, correlation = regularized_cca(first, second, everyone, everyone, 5)
    rotation.set(linear, correlation)
    latents = rotation(first.float())
    torch.testing.assert_close(latents.std(dim=0, correction=0), correlation.float(), rtol=1e-4, atol=0)
    std = rotation.standardize(latents).std(dim=0, correction=0)
    torch.testing.assert_close(std, torch.ones(5), rtol=1e-4, atol=0)


def test_strength_leaves_out_correlations_at_chance_level():
    correlation = torch.tensor([0.9, 0.5, 0.19, 0.0])
    assert chance_correlation(100) == pytest.approx(0.2)
    assert shared_strength(correlation, 100) == pytest.approx(0.81 + 0.25)
    assert shared_strength(correlation, 400) == pytest.approx(0.81 + 0.25 + 0.19**2)


def test_independent_variables_exceed_chance_in_five_percent_of_cases():
    torch.manual_seed(0)
    first, second = torch.randn(2, 400, 5000, dtype=torch.float64)
    share = (correlate(first, second).abs() > chance_correlation(400)).double().mean().item()
    assert share == pytest.approx(0.05, abs=0.01)
