from __future__ import annotations

import math
import warnings

import pytest
import torch
from pyro.distributions.transforms.spline import ConditionedSpline
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import indiseek_sc as isk
from indiseek_sc.nn import ConditionalSpline
from indiseek_sc.nn._flow import MonotoneSpline


def make_spline(n_columns: int = 3, n_condition: int = 2, *, trained: bool = True, **kwargs) -> ConditionalSpline:
    torch.manual_seed(0)
    spline = ConditionalSpline(n_condition, n_columns, 16, **kwargs)
    if trained:
        nn.init.normal_(spline.network.layers[-1].weight, std=0.6)  # as after training
        nn.init.normal_(spline.network.layers[-1].bias, std=0.6)
    return spline.eval()


def draw_values(n_cells: int = 200, n_columns: int = 3, n_condition: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = 2 * torch.randn(n_cells, n_columns, generator=generator)
    return values, torch.randn(n_cells, n_condition, generator=generator)


def draw_lopsided(n_cells: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw two columns whose conditional means, variances and correlations are constant.

    They are rotated by 45 degrees from an exponential variable, whose tail is on the side given by
    the condition, and a normal one.
    """
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(0, 2, (n_cells, 1), generator=generator) * 2.0 - 1
    exponential = -torch.rand(n_cells, 1, generator=generator).clamp(min=1e-6).log() - 1
    sources = torch.cat([side * exponential, torch.randn(n_cells, 1, generator=generator)], dim=1)
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    return sources @ turn, side


def test_an_untrained_flow_is_the_identity():
    values, condition = draw_values()
    spline = make_spline(trained=False)
    torch.testing.assert_close(
        spline(values, condition), values, atol=1e-3, rtol=0
    )  # initial slopes are 1 up to rounding
    torch.testing.assert_close(
        spline.loss(values, condition), 0.5 * values.square().sum(dim=1).mean(), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("n_columns", [1, 3, 20])  # 20 exceeds the number of hidden units
def test_the_inverse_recovers_the_values(n_columns):
    values, condition = draw_values(n_columns=n_columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spline = make_spline(n_columns)
    transformed = spline(values, condition)
    assert (transformed - values).abs().mean() > 0.05
    torch.testing.assert_close(spline.inverse(transformed, condition), values, atol=2e-3, rtol=0)


def test_each_column_depends_on_those_before_it_and_on_the_condition():
    values, condition = draw_values(1)
    spline = make_spline()
    jacobian, of_condition = torch.autograd.functional.jacobian(spline, (values, condition))
    jacobian = jacobian[0, :, 0]
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.diagonal() > 0).all()
    assert (jacobian.tril(-1)[torch.tril_indices(3, 3, -1).unbind()] != 0).all()
    assert (of_condition != 0).all()


def test_the_loss_is_the_negative_log_likelihood_by_change_of_variables():
    values, condition = draw_values(20)
    spline = make_spline()
    slow = []
    for cell in range(20):
        row, given = values[[cell]], condition[[cell]]
        jacobian = torch.autograd.functional.jacobian(lambda x, given=given: spline(x, given), row)[0, :, 0]
        slow.append(0.5 * spline(row, given).square().sum() - jacobian.det().log())
    torch.testing.assert_close(
        spline.negative_log_likelihood(values, condition), torch.stack(slow), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(spline.loss(values, condition), torch.stack(slow).mean(), rtol=1e-4, atol=1e-4)


def train(values: torch.Tensor, side: torch.Tensor, seed: int = 0) -> ConditionalSpline:
    torch.manual_seed(seed)
    spline = ConditionalSpline(1, 2, 32)
    optimizer = torch.optim.Adam(spline.parameters(), lr=1e-2)
    for step in range(400):
        rows = torch.arange(step * 500, (step + 1) * 500) % len(values)
        optimizer.zero_grad()
        spline.loss(values[rows], side[rows]).backward()
        optimizer.step()
    return spline.eval()


@pytest.fixture(scope="module")
def trained() -> ConditionalSpline:
    return train(*draw_lopsided(4000, seed=0))


@pytest.mark.slow
def test_the_condition_increases_the_likelihood_only_if_the_distribution_depends_on_it(trained):
    """The difference of log-likelihoods of new cells estimates the mutual information."""
    values, side = draw_lopsided(4000, seed=0)
    new, new_side = draw_lopsided(2000, seed=1)
    without = train(values, torch.zeros_like(side)).negative_log_likelihood(new, torch.zeros_like(new_side))
    gain = (without - trained.negative_log_likelihood(new, new_side)).detach()
    useless = (without - train(values, side.flip(0)).negative_log_likelihood(new, new_side.flip(0))).detach()
    assert gain.shape == (2000,)
    # The information about one of two sides is at most log 2.
    assert 0.1 < gain.mean() < math.log(2)
    assert useless.mean() < 2 * useless.std() / math.sqrt(2000)


def test_the_result_does_not_depend_on_the_number_of_cells_at_once():
    values, condition = draw_values()
    spline = make_spline()
    with torch.no_grad():
        transformed = spline(values, condition)
        inverted = spline.inverse(transformed, condition)
        with isk.settings.override(cells_at_once=14):
            torch.testing.assert_close(spline(values, condition), transformed)
            torch.testing.assert_close(spline.inverse(transformed, condition), inverted)
        assert spline.inverse(transformed[:0], condition[:0]).shape == (0, transformed.shape[1])


def test_a_flow_that_was_given_up_is_the_identity():
    values, condition = draw_values()
    spline = make_spline()
    spline.disable()
    assert torch.equal(spline(values, condition), values)
    assert torch.equal(spline.inverse(values, condition), values)


def test_the_flow_removes_dependence_of_the_shape_on_the_condition(trained):
    """A nearest-neighbour classifier predicts the side before the flow, but hardly after it."""

    def predict(values: torch.Tensor, side: torch.Tensor) -> float:
        probe = KNeighborsClassifier(50).fit(values[:2000], side[:2000, 0])
        return probe.score(values[2000:], side[2000:, 0])  # chance is 0.5, with a standard error of 0.011

    values, side = draw_lopsided(4000, seed=1)
    splines = [trained, *(train(*draw_lopsided(4000, seed=0), seed) for seed in (1, 2))]
    with torch.no_grad():
        transformed = [spline(values, side) for spline in splines]
    assert predict(values, side) > 0.7
    assert sum(predict(x, side) for x in transformed) / len(transformed) < 0.54
    for x in transformed:
        torch.testing.assert_close(x.T.cov(), torch.eye(2), atol=0.15, rtol=0)


def draw_spline(bound: float = 4.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Draw values, some of them beyond the square, and unbounded parameters of eight pieces."""
    generator = torch.Generator().manual_seed(0)
    sizes = [8, 8, 7, 8]
    numbers = [torch.randn(200, 3, n, generator=generator, dtype=torch.float64) for n in sizes]
    return 0.6 * bound * torch.randn(200, 3, generator=generator, dtype=torch.float64), numbers


def test_splines_agree_with_pyro():
    """Compare with Pyro, whose slope at the ends is .999 instead of 1."""
    values, (widths, heights, slopes, cuts) = draw_spline()
    spline = MonotoneSpline.from_unbounded(widths, heights, slopes, cuts, bound=4.0)
    ends = spline.slopes.clone()
    ends[..., [0, -1]] = 0.999
    spline = spline._replace(slopes=ends)
    share = torch.nn.functional.softplus(slopes + math.log(math.expm1(0.999)))
    numbers = (widths.softmax(dim=-1), heights.softmax(dim=-1), share, cuts.sigmoid())
    reference = ConditionedSpline(numbers, bound=4.0)
    expected = reference(values)
    transformed, log_slope = spline(values)
    torch.testing.assert_close(transformed, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_slope, reference.log_abs_det_jacobian(values, expected), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(spline.inverse(expected), values, rtol=1e-6, atol=1e-6)


def test_splines_are_smooth_and_the_identity_outside_the_square():
    values, numbers = draw_spline()
    spline = MonotoneSpline.from_unbounded(*numbers, bound=4.0)
    values.requires_grad_()
    transformed, log_slope = spline(values)
    (slope,) = torch.autograd.grad(transformed.sum(), values)
    torch.testing.assert_close(slope.log(), log_slope)
    beyond = values.abs() > 4
    assert beyond.any()
    assert torch.equal(transformed[beyond], values[beyond])
    for knot in range(9):  # values and slopes are continuous, including at the edges of the square
        (low, log_low), (high, log_high) = (spline(spline.x[..., knot] + step) for step in (-1e-9, 1e-9))
        torch.testing.assert_close(low, high, atol=1e-5, rtol=0)
        torch.testing.assert_close(log_low, log_high, atol=1e-4, rtol=0)
        torch.testing.assert_close((low + high) / 2, spline.y[..., knot], atol=1e-5, rtol=0)


def test_constant_columns_are_not_transformed_or_trained():
    values, condition = draw_values()
    spline = make_spline()
    spline.varies.copy_(torch.tensor([1.0, 0.0, 1.0]))
    transformed = spline(values, condition)
    assert torch.equal(transformed[:, 1], values[:, 1])
    torch.testing.assert_close(spline.inverse(transformed, condition)[:, 1], values[:, 1])
    other = values.clone()
    spline.loss(other, condition).backward()
    gradient = spline.network.layers[-1].bias.grad.reshape(-1, 3)  # one column for each column of the values
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, 0] != 0).any()
