from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from indiseek_sc.losses import AdversarialCritic


class Best(nn.Module):
    """The mean of the condition given the code, for correlated Gaussians."""

    def __init__(self, rho: float) -> None:
        super().__init__()
        self.rho = rho

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return self.rho * code


def draw(n_cells: int, rho: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    code, noise = torch.randn(2, n_cells, 2, generator=generator)
    return code, rho * code + math.sqrt(1 - rho**2) * noise


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_best_network_gives_the_information_of_correlated_gaussians(rho):
    critic = AdversarialCritic(2, 2)
    critic.network = Best(rho)
    code, condition = draw(20_000, rho)
    assert critic.bound(code, condition).item() == pytest.approx(-math.log(1 - rho**2), abs=0.02)
    assert critic.critic_loss(code, condition).item() == pytest.approx(1 - rho**2, rel=0.03)


def test_loops_give_the_same():
    torch.manual_seed(0)
    critic = AdversarialCritic(3, 2, 16).double()
    code, condition = torch.randn(11, 3).double(), torch.randn(11, 2).double()
    predicted = critic.network(code)
    expected, loss = 0.0, 0.0
    for k in range(2):
        mean = sum(condition[:, k].tolist()) / 11
        error = sum((condition[i, k] - predicted[i, k]).item() ** 2 for i in range(11))
        unexplained = error / sum((c - mean) ** 2 for c in condition[:, k].tolist())
        expected -= 0.5 * math.log(unexplained)
        loss += unexplained / 2
    assert critic.bound(code, condition).item() == pytest.approx(expected, abs=1e-5)
    assert critic.critic_loss(code, condition).item() == pytest.approx(loss)


def test_an_exact_prediction_stays_finite():
    critic = AdversarialCritic(2, 2)
    critic.network = nn.Identity()
    code = draw(30, 0.5)[0].requires_grad_()
    bound = critic.bound(code, code.detach())
    bound.backward()
    assert bound.item() == pytest.approx(2 * 0.5 * math.log(1e6), rel=1e-3)
    assert torch.isfinite(code.grad).all()


def test_scores_are_errors_in_units_of_variance():
    torch.manual_seed(0)
    critic = AdversarialCritic(3, 2, 16)
    code, condition = torch.randn(11, 3), torch.randn(11, 2) * torch.tensor([1.0, 100.0])
    scores = critic.scores(code, condition)
    errors = (critic.network(code)[3] - condition[4]).square() / condition.var(dim=0, correction=0)
    torch.testing.assert_close(scores[3, 4], -errors.sum() / 2)
    torch.testing.assert_close(-scores.diagonal().mean(), critic.critic_loss(code, condition))
