from __future__ import annotations

import math

import torch
from torch.distributions import MultivariateNormal

from indiseek_sc.nn import ConditionalGaussian
from indiseek_sc.nn._flow import LOG_SCALE_LIMIT


def draw(n_cells: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values of two dimensions given one, and their true mean and log-scale."""
    generator = torch.Generator().manual_seed(seed)
    condition = torch.rand(n_cells, 1, generator=generator) * 4 - 2
    mean = torch.cat([condition.sin() * 2, 30 * condition.square()], dim=1)
    log_scale = torch.cat([condition / 2, math.log(10) - condition / 3], dim=1)
    values = mean + log_scale.exp() * torch.randn(n_cells, 2, generator=generator)
    return values, condition, mean, log_scale


def make_conditional(n_condition: int = 1, n_output: int = 2, **kwargs) -> ConditionalGaussian:
    torch.manual_seed(0)
    return ConditionalGaussian(n_condition, n_output, 32, **kwargs)


def test_members_do_not_see_each_other():
    conditional = make_conditional().eval()
    _, condition, *_ = draw(50)
    conditional.members(condition).mean[1].sum().backward()
    touched = [p.grad.abs().sum(dim=(1, 2)) > 0 for p in conditional.output.parameters()]
    assert all(member.tolist() == [False, True, False] for member in touched)


def test_it_starts_as_the_unconditional_distribution():
    conditional = make_conditional()
    values, condition, *_ = draw(200)
    conditional.start_from(values)
    mean, log_scale, mixing = conditional(condition)
    assert (mean == 0).all()
    assert (mixing == 0).all()
    torch.testing.assert_close(log_scale.exp(), values.std(dim=0, correction=0).expand(200, 2))


def test_losses_are_negative_log_likelihoods():
    conditional = make_conditional(n_output=3).eval()
    torch.nn.init.normal_(conditional.output.weight, std=0.1)
    values, condition, *_ = draw(30)
    values = torch.cat([values, values.sum(dim=1, keepdim=True) + torch.randn(30, 1)], dim=1)
    conditional.start_from(values)

    def expected(mean: torch.Tensor, log_scale: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
        lower = torch.eye(3).repeat(30, 1, 1)
        lower[:, 1, 0], lower[:, 2, 0], lower[:, 2, 1] = mixing.T
        root = lower / log_scale.exp()[:, None, :]  # of the precision: L / sigma
        density = MultivariateNormal(mean, precision_matrix=root.mT @ root)
        return -density.log_prob(values).mean() - 1.5 * math.log(2 * math.pi)

    conditional.dropout = 0.0
    said = conditional.members(condition)
    members = torch.stack([expected(*(x[i] for x in said)) for i in range(3)])
    torch.testing.assert_close(conditional.train().loss(values, condition), members.mean(), rtol=1e-4, atol=0)
    ensemble = expected(*(x.mean(dim=0) for x in said))
    torch.testing.assert_close(conditional.eval().loss(values, condition), ensemble, rtol=1e-4, atol=0)
    assert ensemble < members.mean()


def test_it_finds_a_known_mean_scale_and_correlation():
    def draw_correlated(seed: int) -> tuple[torch.Tensor, ...]:
        values, condition, mean, log_scale = draw(4000, seed)
        slope = condition[:, 0]  # of the second column's residual on the first's
        values[:, 1] += slope * (values[:, 0] - mean[:, 0]) / log_scale[:, 0].exp() * log_scale[:, 1].exp()
        return values, condition, mean, log_scale, slope

    conditional = make_conditional(dropout=0.0)
    values, condition, *_ = draw_correlated(seed=0)
    conditional.start_from(values)
    optimizer = torch.optim.Adam(conditional.parameters(), lr=1e-2)
    for step in range(400):
        rows = torch.arange(step * 500, (step + 1) * 500) % 4000
        optimizer.zero_grad()
        conditional.loss(values[rows], condition[rows]).backward()
        optimizer.step()
    conditional.eval()
    _, condition, mean, log_scale, slope = draw_correlated(seed=1)
    with torch.no_grad():
        found = conditional(condition)
    error = ((found.mean - mean) / log_scale.exp()).square().mean(dim=0).sqrt()
    assert (error < 0.2).all()  # in units of the true scale
    assert ((found.log_scale - log_scale).square().mean(dim=0).sqrt() < 0.15).all()
    assert (found.mixing[:, 0] + slope).square().mean().sqrt() < 0.15


def test_constant_columns_take_no_part():
    conditional = make_conditional()
    values, condition, *_ = draw(100)
    values[:, 0] = 7.0
    conditional.start_from(values)
    torch.nn.init.normal_(conditional.output.weight)
    assert conditional.varies.tolist() == [0, 1]
    said = conditional(condition)
    assert (said.mean[:, 0] == 0).all()
    assert (said.mixing == 0).all()
    changed = values.clone()
    changed[:, 0] = 1e6
    conditional.eval()
    assert torch.equal(conditional.loss(values, condition), conditional.loss(changed, condition))
    conditional.loss(values, condition).backward()
    assert (conditional.output.weight.grad[:, :, [0, 2, 4]] == 0).all()  # its mean, log-scale, and mixing
    assert (conditional.output.weight.grad[:, :, [1, 3]] != 0).any()


def test_scales_move_by_a_bounded_factor():
    conditional = make_conditional().eval()
    torch.nn.init.constant_(conditional.output.bias, 100.0)
    assert (conditional(torch.zeros(1, 1)).log_scale == LOG_SCALE_LIMIT).all()
