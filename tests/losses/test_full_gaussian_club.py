from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from indiseek_sc.losses import FullGaussianCritic
from indiseek_sc.nn import Whitening


def make_critic(n_specific: int = 3) -> FullGaussianCritic:
    torch.manual_seed(0)
    return FullGaussianCritic(n_specific, 2, 32)


def test_the_loss_and_the_bound_by_loops_over_pairs():
    critic = make_critic().double()
    code, condition = torch.randn(9, 3).double(), torch.randn(9, 2).double()
    mean, log_scale, mixing = critic.network(condition).split(critic.sizes, dim=1)

    def log_density(i: int, j: int) -> torch.Tensor:
        """Of the code of cell i, given the condition of cell j."""
        lower = torch.eye(3).double()
        lower[1, 0], lower[2, 0], lower[2, 1] = mixing[j]
        root = lower @ torch.diag((-log_scale[j]).exp())
        return MultivariateNormal(mean[j], precision_matrix=root.T @ root).log_prob(code[i])

    each = torch.stack([torch.stack([log_density(i, j) for j in range(9)]) for i in range(9)])
    constant = 3 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(critic.scores(code, condition), each + constant)
    torch.testing.assert_close(critic.bound(code, condition), each.diagonal().mean() - each.mean())
    torch.testing.assert_close(critic.critic_loss(code, condition), -each.diagonal().mean() - constant)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_the_bound_of_the_true_density_is_the_closed_form(monkeypatch, rho):
    # The condition is the sign of the correlation. Of a true pair E |A z|^2 is 2; of the wrong sign, with precision
    # ((1, -s rho), (-s rho, 1)) / (1 - rho^2), it is 2 (1 + rho^2) / (1 - rho^2). Half of all pairs are of the wrong sign.
    generator = torch.Generator().manual_seed(0)
    n_cells, deviation = 100_000, math.sqrt(1 - rho**2)
    sign = torch.randint(0, 2, (n_cells, 1), generator=generator) * 2.0 - 1.0
    first, noise = torch.randn(2, n_cells, 1, generator=generator)
    code = torch.cat([first, rho * sign * first + deviation * noise], dim=1)
    critic = FullGaussianCritic(2, 1)
    log_scale = torch.tensor([0.0, math.log(deviation)]).expand(n_cells, 2)
    truth = Whitening(torch.zeros(n_cells, 2), log_scale, -rho * sign / deviation)
    monkeypatch.setattr(critic, "_whitening", lambda condition: truth)
    expected = ((1 + rho**2) / (1 - rho**2) - 1) / 2
    assert critic.bound(code, sign).item() == pytest.approx(expected, rel=0.02, abs=0.01)


def test_one_dimension_has_no_correlation():
    critic = make_critic(1)
    code, condition = torch.randn(20, 1), torch.randn(20, 2)
    assert torch.isfinite(critic.bound(code, condition))
    assert critic.scores(code, condition).shape == (20, 20)


def test_extreme_conditions_stay_finite():
    critic = make_critic()
    code = torch.randn(20, 3).requires_grad_()
    bound = critic.bound(code, 1e3 * torch.randn(20, 2))
    bound.backward()
    assert torch.isfinite(bound)
    assert torch.isfinite(code.grad).all()
