from __future__ import annotations

import numpy as np
import pytest
import torch

from indiseek_sc.losses import canonical_correlation_loss


def draw(n_cells: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of 4 and 3 dimensions that share two, away from the origin."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n_cells, 2))
    first = np.hstack([common, rng.standard_normal((n_cells, 2))]) @ rng.standard_normal((4, 4)) + 5
    second = np.hstack([common[:, :1] + rng.standard_normal((n_cells, 1)), common[:, 1:], rng.random((n_cells, 1))]) - 3
    return torch.from_numpy(first), torch.from_numpy(second)


def test_without_ridge_it_is_the_squared_canonical_correlations():
    first, second = draw()
    bases = [np.linalg.qr(x.numpy() - x.numpy().mean(axis=0))[0] for x in (first, second)]
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    value = canonical_correlation_loss(first, second, ridge=0.0)
    assert value.item() == pytest.approx(-np.sum(correlations**2), rel=1e-10)


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_the_ridge_is_added_to_both_covariances(ridge):
    first, second = draw()
    a, b = (x.numpy() - x.numpy().mean(axis=0) for x in (first, second))
    inverse_a, inverse_b = (np.linalg.inv(x.T @ x / 300 + ridge * np.eye(x.shape[1])) for x in (a, b))
    cross = a.T @ b / 300
    expected = -np.trace(inverse_a @ cross @ inverse_b @ cross.T)
    assert canonical_correlation_loss(first, second, ridge=ridge).item() == pytest.approx(expected, rel=1e-10)


def test_affine_maps_do_not_matter_up_to_the_ridge():
    first, second = draw()
    generator = torch.Generator().manual_seed(1)
    turn = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    value = canonical_correlation_loss(first, second, ridge=1e-9)
    torch.testing.assert_close(
        canonical_correlation_loss(first @ turn + 7, -2 * second, ridge=1e-9), value, rtol=1e-6, atol=0
    )
    torch.testing.assert_close(canonical_correlation_loss(second, first, ridge=1e-9), value)
    assert canonical_correlation_loss(1e-3 * first, second, ridge=1e-3) > value + 0.5  # tiny dimensions are discounted


def test_independent_codes_earn_nothing_and_equal_ones_all():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 20_000, 3, generator=generator)
    assert -2e-3 < canonical_correlation_loss(first, second).item() <= 0  # by chance, 9 pairs / 20,000 cells
    assert canonical_correlation_loss(first, first, ridge=1e-6).item() == pytest.approx(-3, abs=1e-4)


def test_gradients_are_those_of_the_formula():
    first, second = (x[:12].clone().requires_grad_() for x in draw())
    assert torch.autograd.gradcheck(lambda a, b: canonical_correlation_loss(a, b, ridge=0.1), (first, second))


def test_constant_dimensions_and_a_single_cell_stay_finite():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(50, 3, generator=generator)
    first[:, 1] = 4.0
    second = first[:, [0, 2]].clone()
    first.requires_grad_()
    value = canonical_correlation_loss(first, second)
    value.backward()
    assert value.item() == pytest.approx(-2, abs=0.01)
    assert torch.isfinite(first.grad).all()
    assert canonical_correlation_loss(first[:1], second[:1]).item() == 0
