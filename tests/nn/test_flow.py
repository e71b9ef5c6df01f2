from __future__ import annotations

import math
import warnings

import pytest
import torch
from pyro.distributions.transforms.spline import ConditionedSpline
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from indiseek_sc.nn import ConditionalSpline, _flow
from indiseek_sc.nn._flow import MonotoneSpline


def make_spline(n_columns: int = 3, n_condition: int = 2, *, trained: bool = True, **kwargs) -> ConditionalSpline:
    torch.manual_seed(0)
    spline = ConditionalSpline(n_condition, n_columns, 16, **kwargs)
    if trained:
        nn.init.normal_(spline.network.layers[-1].weight, std=0.6)  # as if trained
        nn.init.normal_(spline.network.layers[-1].bias, std=0.6)
    return spline.eval()


def draw_values(n_cells: int = 200, n_columns: int = 3, n_condition: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = 2 * torch.randn(n_cells, n_columns, generator=generator)
    return values, torch.randn(n_cells, n_condition, generator=generator)


def draw_lopsided(n_cells: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two columns with the same conditional means, variances and correlations everywhere, turned by 45 degrees.

    The first of what they are made of has its long tail on the side that the condition says; the second is normal.
    """
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(0, 2, (n_cells, 1), generator=generator) * 2.0 - 1
    exponential = -torch.rand(n_cells, 1, generator=generator).clamp(min=1e-6).log() - 1
    sources = torch.cat([side * exponential, torch.randn(n_cells, 1, generator=generator)], dim=1)
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    return sources @ turn, side


def test_it_starts_as_the_identity():
    values, condition = draw_values()
    spline = make_spline(trained=False)
    torch.testing.assert_close(spline(values, condition), values, atol=1e-3, rtol=0)  # Pyro's outermost slopes are .999
    torch.testing.assert_close(
        spline.loss(values, condition), 0.5 * values.square().sum(dim=1).mean(), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("n_columns", [1, 3, 20])  # 20 is more than there are hidden units
def test_the_inverse_undoes_it(n_columns):
    values, condition = draw_values(n_columns=n_columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spline = make_spline(n_columns)
    bent = spline(values, condition)
    assert (bent - values).abs().mean() > 0.05
    torch.testing.assert_close(spline.inverse(bent, condition), values, atol=2e-3, rtol=0)


def test_each_column_depends_on_those_before_it_and_on_the_condition():
    values, condition = draw_values(1)
    spline = make_spline()
    jacobian, of_condition = torch.autograd.functional.jacobian(spline, (values, condition))
    jacobian = jacobian[0, :, 0]
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.diagonal() > 0).all()
    assert (jacobian.tril(-1)[torch.tril_indices(3, 3, -1).unbind()] != 0).all()
    assert (of_condition != 0).all()


def test_the_loss_is_the_negative_log_likelihood_by_the_change_of_variables():
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


def test_the_condition_helps_where_it_tells_of_the_shape_and_not_else(trained):
    """As the mutual information of both, estimated by the difference of log-likelihoods of fresh cells."""
    values, side = draw_lopsided(4000, seed=0)
    fresh, fresh_side = draw_lopsided(2000, seed=1)
    without = train(values, torch.zeros_like(side)).negative_log_likelihood(fresh, torch.zeros_like(fresh_side))
    gain = (without - trained.negative_log_likelihood(fresh, fresh_side)).detach()
    useless = (without - train(values, side.flip(0)).negative_log_likelihood(fresh, fresh_side.flip(0))).detach()
    assert gain.shape == (2000,)
    # One of two sides is at most log 2 of information.
    assert 0.1 < gain.mean() < math.log(2)
    assert useless.mean() < 2 * useless.std() / math.sqrt(2000)


def test_how_many_cells_are_taken_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    values, condition = draw_values()
    spline = make_spline()
    with torch.no_grad():
        bent = spline(values, condition)
        back = spline.inverse(bent, condition)
        monkeypatch.setattr(_flow, "CELLS_AT_ONCE", 7)
        torch.testing.assert_close(spline(values, condition), bent)
        torch.testing.assert_close(spline.inverse(bent, condition), back)
        assert spline.inverse(bent[:0], condition[:0]).shape == (0, bent.shape[1])


def test_what_was_given_up_stays_as_it_is():
    values, condition = draw_values()
    spline = make_spline()
    spline.give_up()
    assert torch.equal(spline(values, condition), values)
    assert torch.equal(spline.inverse(values, condition), values)


def test_it_evens_out_a_shape_that_depends_on_the_condition(trained):
    """A classifier that looks at neighbours predicts the side before, and hardly after: the mean over three trainings."""

    def predict(values: torch.Tensor, side: torch.Tensor) -> float:
        probe = KNeighborsClassifier(50).fit(values[:2000], side[:2000, 0])
        return probe.score(values[2000:], side[2000:, 0])  # 0.5 is chance, give or take 0.011

    values, side = draw_lopsided(4000, seed=1)
    splines = [trained, *(train(*draw_lopsided(4000, seed=0), seed) for seed in (1, 2))]
    with torch.no_grad():
        bent = [spline(values, side) for spline in splines]
    assert predict(values, side) > 0.7
    assert sum(predict(x, side) for x in bent) / len(bent) < 0.54
    for x in bent:
        torch.testing.assert_close(x.T.cov(), torch.eye(2), atol=0.15, rtol=0)


def draw_spline(bound: float = 4.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Values, some of them beyond the square, and numbers of eight pieces for each."""
    generator = torch.Generator().manual_seed(0)
    sizes = [8, 8, 7, 8]
    numbers = [torch.randn(200, 3, n, generator=generator, dtype=torch.float64) for n in sizes]
    return 0.6 * bound * torch.randn(200, 3, generator=generator, dtype=torch.float64), numbers


def test_splines_are_those_of_another_library():
    """Pyro's rational-linear splines, whose slope at the ends is .999 in place of 1."""
    values, (widths, heights, slopes, cuts) = draw_spline()
    spline = MonotoneSpline.from_unbounded(widths, heights, slopes, cuts, bound=4.0)
    ends = spline.slopes.clone()
    ends[..., [0, -1]] = 0.999
    spline = spline._replace(slopes=ends)
    share = torch.nn.functional.softplus(slopes + math.log(math.expm1(0.999)))
    numbers = (widths.softmax(dim=-1), heights.softmax(dim=-1), share, cuts.sigmoid())
    reference = ConditionedSpline(numbers, bound=4.0)
    expected = reference(values)
    bent, log_slope = spline(values)
    torch.testing.assert_close(bent, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_slope, reference.log_abs_det_jacobian(values, expected), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(spline.inverse(expected), values, rtol=1e-6, atol=1e-6)


def test_splines_are_monotone_smooth_and_the_identity_beyond_their_square():
    values, numbers = draw_spline()
    spline = MonotoneSpline.from_unbounded(*numbers, bound=4.0)
    values.requires_grad_()
    bent, log_slope = spline(values)
    (slope,) = torch.autograd.grad(bent.sum(), values)
    torch.testing.assert_close(slope.log(), log_slope)
    beyond = values.abs() > 4
    assert beyond.any()
    assert torch.equal(bent[beyond], values[beyond])
    for knot in range(9):  # no jump of value or slope, at the edges of the square neither
        (low, log_low), (high, log_high) = (spline(spline.x[..., knot] + step) for step in (-1e-9, 1e-9))
        torch.testing.assert_close(low, high, atol=1e-5, rtol=0)
        torch.testing.assert_close(log_low, log_high, atol=1e-4, rtol=0)
        torch.testing.assert_close((low + high) / 2, spline.y[..., knot], atol=1e-5, rtol=0)


def test_constant_columns_of_the_spline_take_no_part():
    values, condition = draw_values()
    spline = make_spline()
    spline.varies.copy_(torch.tensor([1.0, 0.0, 1.0]))
    bent = spline(values, condition)
    assert torch.equal(bent[:, 1], values[:, 1])
    torch.testing.assert_close(spline.inverse(bent, condition)[:, 1], values[:, 1])
    other = values.clone()
    spline.loss(other, condition).backward()
    gradient = spline.network.layers[-1].bias.grad.reshape(-1, 3)  # parameters of a column lie in a column
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, 0] != 0).any()
