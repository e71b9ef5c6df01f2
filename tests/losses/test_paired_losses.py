from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from indiseek_sc.losses import canonical_correlation_loss, info_nce, normalized_error, remove_linear


def draw_pairs(n_cells: int = 7, n_dimensions: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n_cells, n_dimensions, generator=generator, dtype=torch.float64) for _ in range(2))


def reference(first: torch.Tensor, second: torch.Tensor, scale: float) -> float:
    """Compute InfoNCE in both directions, cell by cell."""
    n_cells = len(first)

    def similarity(i: int, j: int) -> float:
        a, b = first[i].tolist(), second[j].tolist()
        return scale * sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    total = 0.0
    for i in range(n_cells):
        among_second = sum(math.exp(similarity(i, j)) for j in range(n_cells))
        among_first = sum(math.exp(similarity(j, i)) for j in range(n_cells))
        total -= 2 * similarity(i, i) - math.log(among_second) - math.log(among_first)
    return total / (2 * n_cells)


@pytest.mark.parametrize("scale", [0.5, 1.0, 14.0])
def test_info_nce_agrees_with_a_loop_over_cells(scale):
    first, second = draw_pairs()
    value = info_nce(first, second, torch.tensor(scale, dtype=torch.float64).log())
    assert value.item() == pytest.approx(reference(first, second, scale), rel=1e-12)


@pytest.mark.parametrize("n_cells", [1, 2, 16])
def test_identical_representations_give_log_n(n_cells):
    same = torch.ones(n_cells, 3)
    torch.testing.assert_close(info_nce(same, same, torch.tensor(2.0)), torch.tensor(math.log(n_cells)))


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_info_nce_of_matching_orthogonal_representations(scale):
    latents = torch.eye(6, dtype=torch.float64)
    value = info_nce(latents, 3 * latents, torch.tensor(scale, dtype=torch.float64).log())
    assert value.item() == pytest.approx(math.log1p(5 * math.exp(-scale)))


def test_info_nce_depends_on_the_pairing_but_not_on_the_order_of_cells():
    first, second = draw_pairs()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    log_scale = torch.tensor(1.0)
    value = info_nce(first, second, log_scale)
    torch.testing.assert_close(info_nce(first[order], second[order], log_scale), value)
    torch.testing.assert_close(info_nce(second, first, log_scale), value)
    assert not torch.isclose(info_nce(first[order], second, log_scale), value)


def test_info_nce_is_invariant_to_the_length_of_vectors():
    first, second = draw_pairs()
    lengths = torch.linspace(0.1, 50, 7)[:, None]
    torch.testing.assert_close(
        info_nce(first * lengths, second, torch.tensor(1.0)), info_nce(first, second, torch.tensor(1.0))
    )


def test_a_gradient_step_brings_true_pairs_closer():
    first, second = draw_pairs()
    first.requires_grad_()
    loss = info_nce(first, second, torch.tensor(1.0))
    loss.backward()
    torch.testing.assert_close(
        (first * first.grad).sum(dim=1), torch.zeros(7, dtype=torch.float64)
    )  # no radial gradient
    with torch.no_grad():
        moved = first - 0.1 * first.grad
        assert info_nce(moved, second, torch.tensor(1.0)) < loss
        assert F.cosine_similarity(moved, second).mean() > F.cosine_similarity(first, second).mean()


@pytest.mark.parametrize(("shift", "sign"), [(0, -1), (1, 1)])
def test_the_temperature_decreases_for_true_pairs_and_increases_for_false_pairs(shift, sign):
    log_scale = torch.tensor(1.0, requires_grad=True)
    info_nce(torch.eye(5), torch.eye(5).roll(shift, dims=0), log_scale).backward()
    assert log_scale.grad.sign().item() == sign


def test_info_nce_is_finite_at_extreme_inputs():
    first, second = (x.float().requires_grad_() for x in draw_pairs())
    with torch.no_grad():
        first[0] = 0.0
        second[1] = 1e18
    loss = info_nce(first, second, torch.tensor(8.0))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()


@pytest.mark.parametrize(
    ("first", "second"), [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((2, 4, 3), (2, 4, 3))]
)
def test_representations_of_different_shapes_are_rejected(first, second):
    with pytest.raises(ValueError, match="one shape"):
        info_nce(torch.ones(first), torch.ones(second), torch.tensor(0.0))


def draw_latents(n_cells: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw representations of 4 and 3 dimensions that share two, with means other than 0."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n_cells, 2))
    first = np.hstack([common, rng.standard_normal((n_cells, 2))]) @ rng.standard_normal((4, 4)) + 5
    second = np.hstack([common[:, :1] + rng.standard_normal((n_cells, 1)), common[:, 1:], rng.random((n_cells, 1))]) - 3
    return torch.from_numpy(first), torch.from_numpy(second)


def test_loss_without_ridge_is_minus_the_sum_of_squared_canonical_correlations():
    first, second = draw_latents()
    bases = [np.linalg.qr(x.numpy() - x.numpy().mean(axis=0))[0] for x in (first, second)]
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    value = canonical_correlation_loss(first, second, ridge=0.0)
    assert value.item() == pytest.approx(-np.sum(correlations**2), rel=1e-10)


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_the_ridge_is_added_to_both_covariances(ridge):
    first, second = draw_latents()
    a, b = (x.numpy() - x.numpy().mean(axis=0) for x in (first, second))
    inverse_a, inverse_b = (np.linalg.inv(x.T @ x / 300 + ridge * np.eye(x.shape[1])) for x in (a, b))
    cross = a.T @ b / 300
    expected = -np.trace(inverse_a @ cross @ inverse_b @ cross.T)
    assert canonical_correlation_loss(first, second, ridge=ridge).item() == pytest.approx(expected, rel=1e-10)


def test_canonical_loss_is_invariant_to_affine_maps_up_to_the_ridge():
    first, second = draw_latents()
    generator = torch.Generator().manual_seed(1)
    turn = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    value = canonical_correlation_loss(first, second, ridge=1e-9)
    torch.testing.assert_close(
        canonical_correlation_loss(first @ turn + 7, -2 * second, ridge=1e-9), value, rtol=1e-6, atol=0
    )
    torch.testing.assert_close(canonical_correlation_loss(second, first, ridge=1e-9), value)
    assert (
        canonical_correlation_loss(1e-3 * first, second, ridge=1e-3) > value + 0.5
    )  # low-variance dimensions have less weight


def test_canonical_loss_of_independent_and_of_equal_representations():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 20_000, 3, generator=generator)
    assert -2e-3 < canonical_correlation_loss(first, second).item() <= 0  # expected by chance: 9 pairs / 20,000 cells
    assert canonical_correlation_loss(first, first, ridge=1e-6).item() == pytest.approx(-3, abs=1e-4)


def test_canonical_loss_gradients_agree_with_finite_differences():
    first, second = (x[:12].clone().requires_grad_() for x in draw_latents())
    assert torch.autograd.gradcheck(lambda a, b: canonical_correlation_loss(a, b, ridge=0.1), (first, second))


def test_canonical_loss_is_finite_for_constant_dimensions_and_a_single_cell():
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


def draw_features() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    target = rng.standard_normal((40, 3)) * [1, 5, 0.1] + 2
    return torch.from_numpy(target), torch.from_numpy(target + rng.standard_normal((40, 3)) * [1, 1, 0.05])


def error(target: torch.Tensor, estimate: torch.Tensor) -> float:
    return normalized_error(target, estimate, target.var(dim=0, correction=0).sum()).item()


def test_normalized_error_is_one_minus_r2():
    target, estimate = draw_features()
    expected = 1 - r2_score(target.numpy(), estimate.numpy(), multioutput="variance_weighted")
    assert error(target, estimate) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_normalized_error_is_invariant_to_units(scale, shift):
    target, estimate = draw_features()
    expected = error(target, estimate)
    assert error(scale * (target + shift), scale * (estimate + shift)) == pytest.approx(expected, rel=1e-6)


def test_normalized_error_is_zero_for_the_target_and_one_for_its_mean():
    target, _ = draw_features()
    assert error(target, target) == 0
    assert error(target, target.mean(dim=0).expand_as(target)) == pytest.approx(1)


def test_normalized_error_is_a_mean_over_cells():
    target, estimate = draw_features()
    total = target.var(dim=0, correction=0).sum()
    halves = [normalized_error(target[rows], estimate[rows], total) for rows in (slice(0, 20), slice(20, 40))]
    torch.testing.assert_close(normalized_error(target, estimate, total), torch.stack(halves).mean())


def test_info_nce_with_negatives_of_the_same_batch():
    """The loss within batches is the mean of the losses of batches of equal size."""
    first, second = torch.randn(30, 4), torch.randn(30, 4)
    batch, scale = torch.arange(30) % 3, torch.tensor(1.0)
    within = info_nce(first, second, scale, batch[:, None] == batch)
    alone = torch.stack([info_nce(first[batch == b], second[batch == b], scale) for b in range(3)]).mean()
    torch.testing.assert_close(within, alone)
    assert within < info_nce(first, second, scale)
    everyone = torch.ones(30, 30, dtype=torch.bool)
    torch.testing.assert_close(info_nce(first, second, scale, everyone), info_nce(first, second, scale))


def test_batch_effects_do_not_contribute_to_correlations_within_batches():
    first, second = torch.randn(2, 400, 3)
    batch = torch.eye(4)[torch.arange(400) % 4]
    shift = batch @ (5 * torch.randn(4, 3))
    assert canonical_correlation_loss(first + shift, second + shift) < -0.9
    removed = [remove_linear(latent + shift, batch) for latent in (first, second)]
    assert canonical_correlation_loss(*removed) > -0.1


def test_remove_linear_returns_the_residuals_of_a_regression():
    design = torch.randn(50, 3, dtype=torch.float64)
    values = torch.randn(50, 2, dtype=torch.float64) + design @ torch.randn(3, 2, dtype=torch.float64) + 7
    table = np.column_stack([np.ones(50), design])
    expected = values - table @ np.linalg.lstsq(table, values.numpy(), rcond=None)[0]
    torch.testing.assert_close(remove_linear(values, design, ridge=1e-9), expected)
    # Repeating columns of the design does not change the residuals.
    torch.testing.assert_close(remove_linear(values, torch.cat([design, design], dim=1), ridge=1e-9), expected)
