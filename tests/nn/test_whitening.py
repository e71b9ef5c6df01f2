from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from indiseek_sc.nn import ConditionalWhitening, Whitening


def make_whitening(n_cells: int = 5, n_columns: int = 4) -> Whitening:
    torch.manual_seed(0)
    n_cholesky = n_columns * (n_columns - 1) // 2
    return Whitening(*(torch.randn(n_cells, n, dtype=torch.float64) for n in (n_columns, n_columns, n_cholesky)))


def test_whitening_agrees_with_a_loop_over_cells_and_columns():
    whitening = make_whitening()
    values = torch.randn(5, 4, dtype=torch.float64)
    whitened = whitening.whiten(values)
    for cell in range(5):
        scaled = [(values[cell, j] - whitening.mean[cell, j]) / whitening.log_scale[cell, j].exp() for j in range(4)]
        for row in range(4):
            first = row * (row - 1) // 2
            explained = sum(whitening.cholesky[cell, first + column] * scaled[column] for column in range(row))
            torch.testing.assert_close(whitened[cell, row], scaled[row] + explained)


def test_unwhitening_inverts_whitening():
    whitening = make_whitening()
    values = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(whitening.unwhiten(whitening.whiten(values)), values)


def test_the_true_decomposition_whitens_correlated_values():
    torch.manual_seed(0)
    loadings = torch.randn(3, 3, dtype=torch.float64)
    covariance = loadings @ loadings.T + torch.eye(3, dtype=torch.float64)
    values = 2 + torch.randn(200_000, 3, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    # covariance = (L^-1 D)(L^-1 D)^T, where L has a diagonal of 1
    root = torch.linalg.cholesky(covariance)
    scale = root.diagonal()
    lower = torch.linalg.inv(root / scale)
    # L is applied after division by the scale, so its entries are converted to these units.
    lower = lower * scale / scale[:, None]
    rows, columns = torch.tril_indices(3, 3, -1)
    whitening = Whitening(torch.full((3,), 2.0, dtype=torch.float64), scale.log(), lower[rows, columns])
    whitened = whitening.whiten(values)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(3, dtype=torch.float64), atol=0.02, rtol=0)


def test_one_column_has_no_cholesky_entries():
    whitening = Whitening(torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.zeros(1, 0))
    values = torch.tensor([[3.0]])
    assert whitening.whiten(values).item() == 2
    assert torch.equal(whitening.unwhiten(whitening.whiten(values)), values)


def test_the_likelihood_agrees_with_a_gaussian_of_the_same_precision():
    whitening = make_whitening()
    values = torch.randn(5, 4, dtype=torch.float64)
    root = whitening.matrix()
    density = MultivariateNormal(whitening.mean, precision_matrix=root.mT @ root)
    expected = -density.log_prob(values) - 2 * math.log(2 * math.pi)
    torch.testing.assert_close(whitening.negative_log_likelihood(values), expected)


def test_the_shift_is_subtracted_from_whitened_values():
    whitening = make_whitening()
    shift, values = torch.randn(2, 5, 4, dtype=torch.float64)
    shifted = whitening._replace(shift=shift)
    torch.testing.assert_close(shifted.whiten(values), whitening.whiten(values) - shift)
    torch.testing.assert_close(shifted.unwhiten(shifted.whiten(values)), values)


def draw_gaussian(n_cells: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw two dimensions given one condition, with their true mean and log-scale."""
    generator = torch.Generator().manual_seed(seed)
    condition = torch.rand(n_cells, 1, generator=generator) * 4 - 2
    mean = torch.cat([condition.sin() * 2, 30 * condition.square()], dim=1)
    log_scale = torch.cat([condition / 2, math.log(10) - condition / 3], dim=1)
    values = mean + log_scale.exp() * torch.randn(n_cells, 2, generator=generator)
    return values, condition, mean, log_scale


N_FIT = 4000


def draw_correlated(n_cells: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Draw the same values with a correlation that changes from negative to positive."""
    values, condition, mean, log_scale = draw_gaussian(n_cells, seed)
    slope = condition[:, 0]  # of the second column's residual on that of the first
    values[:, 1] += slope * (values[:, 0] - mean[:, 0]) / log_scale[:, 0].exp() * log_scale[:, 1].exp()
    return values, condition, mean, log_scale, slope


@pytest.fixture(scope="module")
def fitted() -> ConditionalWhitening:
    whitening = ConditionalWhitening(1, 2)
    values, condition, *_ = draw_correlated(N_FIT + 600, seed=0)
    whitening.fit(values, condition, N_FIT)
    return whitening


def test_the_fit_recovers_a_known_mean_scale_and_correlation(fitted):
    _, condition, mean, log_scale, slope = draw_correlated(4000, seed=1)
    found = fitted(condition)
    error = ((found.mean - mean) / log_scale.exp()).square().mean(dim=0).sqrt()
    assert (error < 0.2).all()  # in units of the true scale
    assert ((found.log_scale - log_scale).square().mean(dim=0).sqrt() < 0.15).all()
    assert (found.cholesky[:, 0] + slope).square().mean().sqrt() < 0.15


def test_whitened_moments_of_new_cells_do_not_depend_on_the_condition(fitted):
    values, condition, *_ = draw_correlated(20_000, seed=2)
    whitened = fitted(condition).whiten(values)
    for part in torch.argsort(condition[:, 0]).chunk(5):
        assert whitened[part].mean(dim=0).abs().max() < 0.12
        torch.testing.assert_close(whitened[part].T.cov(), torch.eye(2), atol=0.15, rtol=0)


def test_independent_values_get_a_constant_whitening():
    generator = torch.Generator().manual_seed(0)
    turn = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.3]])
    values, condition = torch.randn(1000, 3, generator=generator) @ turn, torch.randn(1000, 2, generator=generator)
    whitening = ConditionalWhitening(2, 3)
    whitening.fit(values, condition, 750)
    found = whitening(condition)
    assert (found.log_scale.std(dim=0) < 0.1).all()
    assert (found.mean.std(dim=0) < 0.1 * values.std(dim=0)).all()
    # The second column is half the first plus noise of variance 1; its slope of 1/2 is converted
    # to units of the residual scales.
    assert found.cholesky[:, 0].mean() == pytest.approx(-0.5 * 2 / 1, abs=0.1)


def test_constant_columns_have_no_influence_and_are_unchanged():
    values, condition, *_ = draw_correlated(600, seed=0)
    whitening, alone = ConditionalWhitening(1, 3), ConditionalWhitening(1, 2)
    padded = torch.cat([values[:, :1], torch.zeros(600, 1), values[:, 1:]], dim=1)
    whitening.fit(padded, condition, 500)
    alone.fit(values, condition, 500)
    assert whitening.varies.tolist() == [1, 0, 1]
    whitened = whitening(condition).whiten(padded)
    assert (whitened[:, 1] == 0).all()
    torch.testing.assert_close(whitened[:, [0, 2]], alone(condition).whiten(values), atol=1e-4, rtol=1e-4)


def test_a_second_fit_does_not_depend_on_the_first(fitted):
    values, condition, *_ = draw_gaussian(800, seed=3)
    refitted, fresh = ConditionalWhitening(1, 2), ConditionalWhitening(1, 2)
    refitted.load_state_dict(fitted.state_dict())
    for whitening in (refitted, fresh):
        whitening.fit(values, condition, 700)
    for name, value in fresh.state_dict().items():
        assert torch.equal(refitted.state_dict()[name], value), name


@settings(max_examples=25, deadline=None)
@given(
    n_fit=st.integers(4, 60),
    n_more=st.integers(2, 20),
    n_condition=st.integers(1, 4),
    n_output=st.integers(1, 6),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_values_of_any_shape_are_whitened_and_recovered(n_fit, n_more, n_condition, n_output, size, seed):
    generator = torch.Generator().manual_seed(seed)
    values = size * torch.randn(n_fit + n_more, n_output, generator=generator)
    condition = torch.randn(n_fit + n_more, n_condition, generator=generator)
    whitening = ConditionalWhitening(n_condition, n_output)
    whitening.fit(values, condition, n_fit)
    found = whitening(condition)
    whitened = found.whiten(values)
    assert whitened.isfinite().all()
    torch.testing.assert_close(found.unwhiten(whitened), values, atol=2e-3 * size, rtol=1e-3)
