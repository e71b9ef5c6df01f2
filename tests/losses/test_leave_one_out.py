from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from indiseek_sc.losses import GaussianCritic, LeaveOneOutCritic


def make_critic() -> LeaveOneOutCritic:
    torch.manual_seed(0)
    return LeaveOneOutCritic(2, 2, 32)


def test_loops_over_pairs_give_the_same():
    critic = make_critic().double()
    code, condition = torch.randn(7, 2).double(), torch.randn(7, 2).double()
    mean, log_variance = critic._moments(condition)

    def density(i: int, j: int) -> float:
        return Normal(mean[j], (log_variance[j] / 2).exp()).log_prob(code[i]).sum().exp().item()

    expected = sum(math.log(density(i, i) / (sum(density(i, j) for j in range(7) if j != i) / 6)) for i in range(7))
    assert critic.bound(code, condition).item() == pytest.approx(expected / 7)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95])
def test_the_true_density_gives_an_upper_bound_tighter_than_club(monkeypatch, rho):
    # Information of two dimensions of correlation rho each, and what CLUB makes of the true density.
    information, club = -math.log(1 - rho**2), 2 * rho**2 / (1 - rho**2)
    generator = torch.Generator().manual_seed(0)
    condition, noise = torch.randn(2, 4000, 2, generator=generator)
    code = rho * condition + math.sqrt(1 - rho**2) * noise
    critic = make_critic()
    truth = rho * condition, torch.full((4000, 2), math.log(1 - rho**2))
    monkeypatch.setattr(critic, "_moments", lambda condition: truth)
    bound = critic.bound(code, condition).item()
    assert information - 0.02 < bound
    assert bound < club + 1e-6
    assert bound == pytest.approx(information, abs=0.1)  # with thousands of cells it has come down to the information


def test_smaller_batches_give_more():
    critic = make_critic()
    with torch.no_grad():
        critic.network[-1].weight *= 15  # some dependence to speak of
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(2000, 2, generator=generator)
    mean, log_variance = critic._moments(condition)
    code = mean + (log_variance / 2).exp() * torch.randn(2000, 2, generator=generator)
    with torch.no_grad():
        small = torch.stack([critic.bound(z, c) for z, c in zip(code.split(5), condition.split(5), strict=True)])
        assert small.mean() > critic.bound(code, condition) + 0.02


def test_two_cells_compare_with_each_other():
    critic = make_critic()
    code, condition = torch.randn(2, 2), torch.randn(2, 2)
    scores = critic.scores(code, condition)
    expected = (scores[0, 0] - scores[0, 1] + scores[1, 1] - scores[1, 0]) / 2
    torch.testing.assert_close(critic.bound(code, condition), expected)


def test_it_is_taught_as_the_gaussian_critic():
    critic = make_critic()
    twin = GaussianCritic(2, 2, 32)
    twin.load_state_dict(critic.state_dict())
    code, condition = torch.randn(30, 2), torch.randn(30, 2)
    assert torch.equal(critic.critic_loss(code, condition), twin.critic_loss(code, condition))
