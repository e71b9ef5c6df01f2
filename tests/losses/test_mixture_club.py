from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from indiseek_sc.losses import MixtureCritic


def test_the_loss_and_the_bound_by_loops_over_pairs():
    torch.manual_seed(0)
    critic = MixtureCritic(2, 3, 32, n_components=3).double()
    code, condition = torch.randn(8, 2).double(), torch.randn(8, 3).double()
    log_weight, mean, log_variance = critic._components(condition)
    assert mean.shape == log_variance.shape == (8, 3, 2)

    def log_density(i: int, j: int) -> torch.Tensor:
        """Of the code of cell i, given the condition of cell j."""
        components = Independent(Normal(mean[j], (log_variance[j] / 2).exp()), 1)
        return MixtureSameFamily(Categorical(logits=log_weight[j]), components).log_prob(code[i])

    each = torch.stack([torch.stack([log_density(i, j) for j in range(8)]) for i in range(8)])
    constant = 2 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(critic.scores(code, condition), each + constant)
    torch.testing.assert_close(critic.bound(code, condition), each.diagonal().mean() - each.mean())
    torch.testing.assert_close(critic.critic_loss(code, condition), -each.diagonal().mean() - constant)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_bound_of_the_true_density_is_the_closed_form(monkeypatch, rho):
    # As of the diagonal Gaussian: rho^2 / (1 - rho^2) for each dimension, here with the truth in two equal components.
    generator = torch.Generator().manual_seed(0)
    condition, noise = torch.randn(2, 1500, 2, generator=generator)
    code = rho * condition + math.sqrt(1 - rho**2) * noise
    critic = MixtureCritic(2, 2, n_components=2)
    log_weight = torch.tensor([0.3, 0.7]).log().expand(1500, 2)
    mean = (rho * condition)[:, None].expand(1500, 2, 2)
    log_variance = torch.full((1500, 2, 2), math.log(1 - rho**2))
    monkeypatch.setattr(critic, "_components", lambda condition: (log_weight, mean, log_variance))
    assert critic.bound(code, condition).item() == pytest.approx(2 * rho**2 / (1 - rho**2), rel=0.08, abs=1e-4)


def test_components_start_apart():
    torch.manual_seed(0)
    _, mean, _ = MixtureCritic(4, 2, 32)._components(torch.zeros(1, 2))
    assert torch.pdist(mean[0]).min() > 0.5


def test_a_code_far_from_all_components_stays_finite():
    torch.manual_seed(0)
    critic = MixtureCritic(2, 2, 32)
    code = (1e3 * torch.randn(10, 2)).requires_grad_()
    bound = critic.bound(code, torch.randn(10, 2))
    bound.backward()
    assert torch.isfinite(bound)
    assert torch.isfinite(code.grad).all()
