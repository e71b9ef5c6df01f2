from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from indiseek_sc.nn import FourierRegression, PrincipalMap, RidgeMap
from indiseek_sc.nn._linear import FourierFeatures


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_ridge_map_agrees_with_sklearn(ridge):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) * [1, 2, 3, 4] + 7
    y = x @ rng.standard_normal((4, 3)) + rng.standard_normal((50, 3)) - 2
    linear = RidgeMap(4, 3).double()
    linear.fit(torch.from_numpy(x), torch.from_numpy(y), ridge=ridge)
    expected = Ridge(alpha=ridge).fit(x, y)
    np.testing.assert_allclose(linear(torch.from_numpy(x)), expected.predict(x), atol=1e-9)
    np.testing.assert_allclose(linear.weight, expected.coef_.T, atol=1e-9)


def test_ridge_map_is_finite_with_constant_and_repeated_columns():
    x = torch.randn(20, 1).repeat(1, 3)
    x[:, 1] = 5.0
    linear = RidgeMap(3, 1)
    linear.fit(x, 2 * x[:, :1], ridge=1e-3)
    torch.testing.assert_close(linear(x), 2 * x[:, :1], atol=1e-3, rtol=0)
    assert linear.weight[1] == 0


def test_an_unfitted_ridge_map_is_zero_and_has_no_parameters():
    linear = RidgeMap(3, 2)
    assert (linear(torch.randn(4, 3)) == 0).all()
    assert list(linear.parameters()) == []
    assert set(linear.state_dict()) == {"weight", "bias"}


def draw_correlated(n_cells: int = 100) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal((n_cells, 5)) * [5, 4, 3, 2, 1] @ rng.standard_normal((5, 5)) + 3)


def fit(x: torch.Tensor, n_components: int, n_largest: int | None = None) -> PrincipalMap:
    principal = PrincipalMap(x.shape[1], n_components).double()
    principal.fit(x, n_largest=n_largest)
    return principal


def test_principal_map_agrees_with_sklearn_up_to_signs():
    x = draw_correlated()
    principal = fit(x, 3)
    pca = PCA(3).fit(x.numpy())
    signs = np.sign((principal.components.numpy() * pca.components_.T).sum(axis=0))
    np.testing.assert_allclose(principal.components, pca.components_.T * signs, atol=1e-10)
    np.testing.assert_allclose(principal(x), pca.transform(x.numpy()) * signs, atol=1e-9)
    np.testing.assert_allclose(
        principal.inverse(principal(x)), pca.inverse_transform(pca.transform(x.numpy())), atol=1e-9
    )


def test_the_largest_loading_of_each_component_is_positive():
    x = draw_correlated()
    principal = fit(x, 5)
    largest = principal.components.abs().argmax(dim=0)
    assert (principal.components.gather(0, largest[None]) > 0).all()
    torch.testing.assert_close(fit(-x, 5).components, principal.components)


def test_the_number_of_components_is_limited():
    x = draw_correlated()
    principal = fit(x, 4, n_largest=2)
    torch.testing.assert_close(principal.components[:, :2], fit(x, 2).components)
    assert (principal.components[:, 2:] == 0).all()
    assert (principal(x)[:, 2:] == 0).all()
    torch.testing.assert_close(fit(x, 4, n_largest=9).components, fit(x, 4).components)


def test_components_of_no_variance_are_zero():
    x = draw_correlated()[:, [0, 0, 1, 1, 1]]
    principal = fit(x, 5)
    assert (principal.components[:, 2:] == 0).all()
    torch.testing.assert_close(principal.inverse(principal(x)), x)
    few = fit(draw_correlated(3), 5)
    assert (few.components.norm(dim=0) > 0).tolist() == [True, True, False, False, False]


def test_constant_data_have_no_components():
    x = torch.full((10, 3), 2.0, dtype=torch.float64)
    principal = fit(x, 2)
    assert (principal(x) == 0).all()
    torch.testing.assert_close(principal.inverse(principal(x)), x)


N_FIT = 2000


def draw_regression(n_cells: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_cells, 3, generator=generator) * torch.tensor([1.0, 20.0, 0.1]) + 5
    noise = torch.randn(n_cells, 2, generator=generator)
    return x, noise


def test_an_unfitted_fourier_regression_predicts_zero():
    x, _ = draw_regression()
    assert (FourierRegression(3, 2)(x) == 0).all()


def test_fourier_regression_fits_a_curve_and_the_mean_of_noise():
    x, noise = draw_regression()
    curve = ((x[:, 0] - 5).square() + (x[:, 1] - 5) / 10)[:, None]
    y = torch.cat([curve + 0.1 * noise[:, :1], 3 + noise[:, 1:]], dim=1)
    regression = FourierRegression(3, 2)
    regression.fit(x, y, N_FIT, each=True)
    assert regression.weight.dtype == torch.float32
    missed = regression(x)[N_FIT:, :1] - curve[N_FIT:]
    assert missed.square().mean() < 0.05 * curve.var()
    torch.testing.assert_close(regression(x)[N_FIT:, 1], torch.full((1000,), 3.0), atol=0.15, rtol=0)


def test_noise_is_rarely_fitted():
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(700, 4, generator=generator), torch.randn(700, 200, generator=generator)
    regression = FourierRegression(4, 200)
    regression.fit(x, y, 500, each=True)
    is_fitted = regression(x).std(dim=0) > 0
    assert is_fitted.float().mean() < 0.1  # a gain of more than two standard errors, one-sided
    y[:, :100] += x[:, :1].sin()
    regression.fit(x, y, 500, each=True)
    assert (regression(x)[:, :100].std(dim=0) > 0).float().mean() > 0.7


def test_a_column_that_does_not_generalise_is_predicted_by_its_mean():
    """No penalty reduces the error if the validation cells contradict the training cells."""
    x, _ = draw_regression()
    y = x[:, :1].repeat(1, 2)
    y[N_FIT:, 0] = 10 - y[N_FIT:, 0]
    regression = FourierRegression(3, 2)
    regression.fit(x, y, N_FIT, each=True)
    assert regression(x)[:, 0].unique().numel() == 1
    assert (regression(x)[:, 1] - y[:, 1]).abs().mean() < 0.1


def test_linear_columns_do_not_enter_the_fourier_features():
    x, _ = draw_regression()
    batches = torch.eye(20, dtype=x.dtype)[torch.arange(len(x)) % 20]
    alone, beside = FourierFeatures(3, 8).to(x.dtype), FourierFeatures(23, 8, n_linear=20).to(x.dtype)
    beside.frequencies[:3], beside.phases[:] = alone.frequencies, alone.phases
    both = torch.cat([x, batches], dim=1)
    alone.fit(x)
    beside.fit(both)
    torch.testing.assert_close(beside(both)[:, 23:], alone(x)[:, 3:])
    torch.testing.assert_close(beside(both)[:, :3], alone(x)[:, :3])


def test_fourier_regression_is_invariant_to_scale_and_constant_columns():
    x, noise = draw_regression()
    y = x[:, :2].sin() + 0.1 * noise
    predictions = []
    for columns in (x, x * torch.tensor([3.0, 0.01, 100.0]) - 7):
        regression = FourierRegression(3, 2, seed=1)
        regression.fit(columns, y, N_FIT)
        predictions.append(regression(columns))
    torch.testing.assert_close(*predictions, atol=1e-3, rtol=0)
    regression = FourierRegression(4, 2)
    with_constant = torch.cat([x, torch.full((3000, 1), 2.0)], dim=1)
    regression.fit(with_constant, y, N_FIT)
    assert torch.isfinite(regression(with_constant)).all()
    assert (regression.features.scale[3] == 0).all()
