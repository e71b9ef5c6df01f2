"""Tests of feature importance against closed forms for simple encoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import indiseek_sc as isk
from indiseek_sc.metrics import mean_squared_jacobian, permutation_importance, probe_r2

WEIGHT = torch.tensor([[1.0, 0.0], [-2.0, 1.0], [0.0, 0.0], [0.5, 3.0]])
WIDTHS = torch.tensor([1.0, 0.5, 2.0, 1.5])


def linear(features: torch.Tensor, cells: slice) -> torch.Tensor:
    return features @ WEIGHT


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)) * WIDTHS


def test_jacobian_of_a_linear_encoder(x: torch.Tensor) -> None:
    found = mean_squared_jacobian(linear, x)
    np.testing.assert_allclose(found.value, (WEIGHT**2).sum(dim=1), rtol=1e-6)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-6)


@pytest.mark.parametrize("n_at_once", [2**23, 4 * 7])
def test_jacobian_of_squares_in_batches_of_cells(x: torch.Tensor, n_at_once: int) -> None:
    """For z = x^2 the squared derivative is 4 x^2; for normal x: mean 4 v, variance 32 v^2."""
    with isk.settings.override(values_at_once=n_at_once):
        found = mean_squared_jacobian(lambda features, cells: features**2, x)
    np.testing.assert_allclose(found.value, 4 * (x**2).mean(dim=0), rtol=1e-5)
    np.testing.assert_allclose(found.standard_error, (4 * x**2).std(dim=0) / 4000**0.5, rtol=1e-4)
    assert (np.abs(found.value - 4 * WIDTHS.numpy() ** 2) < 4 * found.standard_error).all()


def test_jacobian_includes_components(x: torch.Tensor) -> None:
    components = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(2))

    def bent(features: torch.Tensor, cells: slice) -> torch.Tensor:
        return torch.tanh(features @ WEIGHT)

    found = mean_squared_jacobian(bent, features @ components, components)
    slopes = torch.func.vmap(torch.func.jacrev(lambda u: torch.tanh(u @ components @ WEIGHT)))(features)
    np.testing.assert_allclose(found.value, (slopes**2).sum(dim=1).mean(dim=0), rtol=1e-5)


def test_encoder_receives_the_slice_of_cells(x: torch.Tensor) -> None:
    factor = torch.arange(4000.0)
    with isk.settings.override(values_at_once=4 * 300):
        found = mean_squared_jacobian(lambda features, cells: features[:, :1] * factor[cells, None], x)
    assert found.value[0] == pytest.approx(float((factor**2).mean()), rel=1e-5)


def test_permutation_in_a_linear_encoder(x: torch.Tensor) -> None:
    """Permuting x_j among independent cells moves z by w_j times a difference of variance 2 v_j."""
    found = permutation_importance(linear, x, x, n_repeats=20)
    expected = (WEIGHT**2).sum(dim=1) * x.var(dim=0) / (x @ WEIGHT).var(dim=0).sum()
    np.testing.assert_allclose(found.value, expected, rtol=0.03)
    assert found.value[2] == 0
    assert found.standard_error[2] == 0
    assert (found.standard_error[[0, 1, 3]] > 0).all()


def test_permutation_of_features_with_components(x: torch.Tensor) -> None:
    components = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    u = torch.randn(500, 6, generator=torch.Generator().manual_seed(2))
    behind = permutation_importance(linear, u @ components, u, components, n_repeats=3, seed=5)
    direct = permutation_importance(lambda v, cells: v @ components @ WEIGHT, u, u, n_repeats=3, seed=5)
    np.testing.assert_allclose(behind.value, direct.value, rtol=1e-4)


def test_a_single_feature_counts_1_and_a_constant_representation_0(x: torch.Tensor) -> None:
    alone = permutation_importance(lambda features, cells: features[:, :1] ** 3, x, x, n_repeats=20)
    np.testing.assert_allclose(alone.value, [1, 0, 0, 0], atol=0.05)
    nothing = permutation_importance(lambda features, cells: 0 * features, x, x)
    np.testing.assert_array_equal(nothing.value, 0)


def test_global_random_state_is_unchanged(x: torch.Tensor) -> None:
    state = torch.get_rng_state()
    permutation_importance(linear, x[:50], x[:50])
    probe_r2(x.numpy()[:60], x.numpy()[:60], np.arange(40), np.arange(40, 60))
    assert torch.equal(state, torch.get_rng_state())


def test_probe_r2_equals_the_simulated_content() -> None:
    rng = np.random.default_rng(0)
    latent, noise = rng.normal(size=(1600, 2)), rng.normal(size=(1600, 2))
    columns = [100 * latent[:, 0], latent[:, 1] + 0.5 * noise[:, 0], latent[:, 0] ** 2, noise[:, 1], np.ones(1600)]
    train, test = np.arange(600), np.arange(600, 1600)
    found = probe_r2(latent, np.column_stack(columns), train, test)
    np.testing.assert_allclose(found.value[[0, 1, 3]], [1, 1 / 1.25, 0], atol=0.03)
    assert found.value[2] > 0.9
    assert np.isnan(found.value[4])
    assert np.isnan(found.standard_error[4])
    # The reference is the delta method for the ratio of mean squared error to variance.
    missed = 0.25 * noise[600:, 0] ** 2
    whole = 1.25
    expected = np.std(missed - 0.2 * (columns[1][600:]) ** 2) / whole / np.sqrt(1000)
    assert found.standard_error[1] == pytest.approx(expected, rel=0.1)
