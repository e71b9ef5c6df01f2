from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from indiseek_sc.losses import GaussianCritic

RHO = 0.8
"""Correlation of each dimension of the code with one of the condition.

For standard normal z and c, q(z|c) = N(rho c, 1 - rho^2) is the truth. E (z - rho c)^2 is 1 - rho^2 over true pairs and
1 + rho^2 over all, so that vCLUB = (1 + rho^2 - 1 + rho^2) / (2 (1 - rho^2)) = rho^2 / (1 - rho^2) in each dimension.
"""
INFORMATION = -0.5 * math.log(1 - RHO**2)


def draw(n_cells: int, rho: float = RHO, n_dimensions: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    condition, noise = torch.randn(2, n_cells, n_dimensions, generator=generator)
    return rho * condition + math.sqrt(1 - rho**2) * noise, condition


def make_critic(**kwargs) -> GaussianCritic:
    torch.manual_seed(0)
    return GaussianCritic(2, 2, 32, **kwargs)


def teach(critic: GaussianCritic, rho: float) -> GaussianCritic:
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3)
    for step in range(400):
        optimizer.zero_grad()
        critic.critic_loss(*draw(512, rho, seed=step)).backward()
        optimizer.step()
    return critic


@pytest.mark.parametrize("bounded", [False, True])
def test_the_loss_and_the_bound_by_loops_over_pairs(bounded):
    critic = make_critic(bounded_variance=bounded)
    specific, condition = draw(9)
    mean, log_variance = critic.network(condition).chunk(2, dim=1)
    scale = (torch.tanh(log_variance) if bounded else log_variance).exp().sqrt()

    def log_density(i: int, j: int) -> torch.Tensor:
        """Of the code of cell i, given the condition of cell j."""
        return Normal(mean[j], scale[j]).log_prob(specific[i]).sum()

    paired = torch.stack([log_density(i, i) for i in range(9)]).mean()
    unpaired = torch.stack([log_density(i, j) for i in range(9) for j in range(9)]).mean()
    torch.testing.assert_close(critic.bound(specific, condition), paired - unpaired)
    constant = 2 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(critic.critic_loss(specific, condition), -paired - constant)


def test_the_bound_of_the_true_density_is_the_closed_form(monkeypatch):
    critic = make_critic()
    log_variance = torch.full((1, 2), math.log(1 - RHO**2))
    monkeypatch.setattr(critic, "_moments", lambda condition: (RHO * condition, log_variance))
    specific, condition = draw(200_000)
    assert critic.bound(specific, condition).item() == pytest.approx(2 * RHO**2 / (1 - RHO**2), rel=0.01)


def test_a_taught_critic_knows_correlated_gaussians():
    critic = teach(make_critic(), RHO)
    specific, condition = draw(5000, seed=10_000)
    with torch.no_grad():
        # The entropy of a standard normal is 1/2 beside the constant; what a condition takes away is the information.
        assert 2 * 0.5 - critic.critic_loss(specific, condition).item() == pytest.approx(2 * INFORMATION, abs=0.06)
        bound = critic.bound(specific, condition).item()
    assert bound == pytest.approx(2 * RHO**2 / (1 - RHO**2), rel=0.12)
    assert bound > 2 * INFORMATION


def test_a_taught_critic_reads_nothing_where_there_is_nothing():
    critic = teach(make_critic(), 0.0)
    with torch.no_grad():
        assert critic.bound(*draw(5000, 0.0, seed=10_000)).item() == pytest.approx(0, abs=0.03)


def test_a_single_cell_has_no_bound():
    assert make_critic().bound(*draw(1)).item() == 0


def test_the_bounded_variance_stops_at_e():
    critic = make_critic(bounded_variance=True)
    condition = 1e6 * torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = critic.network(condition).chunk(2, dim=1)[0]
        # Codes at their mean leave the log-variance alone in the loss.
        assert -1 <= critic.critic_loss(mean, condition).item() <= 1


def test_extreme_conditions_stay_finite():
    critic = make_critic()
    specific = draw(20)[0].requires_grad_()
    bound = critic.bound(specific, 1e4 * draw(20)[1])
    bound.backward()
    assert torch.isfinite(bound)
    assert torch.isfinite(specific.grad).all()
