from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from indiseek_sc.losses import AdversarialCritic, ConcatenatedNCECritic, NCECritic
from indiseek_sc.losses._critics import contrastive_loss


def draw_related(n_cells: int, rho: float = 0.6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    condition, noise = torch.randn(2, n_cells, 1, generator=generator)
    return rho * condition + math.sqrt(1 - rho**2) * noise, condition


def make_separable(n_specific: int = 1, n_condition: int = 1) -> NCECritic:
    torch.manual_seed(0)
    return NCECritic(n_specific, n_condition, n_hidden=32, n_embedding=8)


def test_separable_critic_agrees_with_loops_over_pairs():
    critic = make_separable(3, 2)
    specific, condition = torch.randn(6, 3), torch.randn(6, 2)
    scores = critic.scores(specific, condition)
    expected = torch.empty(6, 6)
    for i in range(6):
        for j in range(6):
            u, v = critic.embed_specific(specific[i : i + 1]), critic.embed_condition(condition[j : j + 1])
            expected[i, j] = (u * v).sum() / math.sqrt(8)
    torch.testing.assert_close(scores, expected)

    f = expected.detach().double().numpy().tolist()
    cells = range(6)
    bound = sum(f[i][i] for i in cells) / 6 - sum(f[i][j] for i in cells for j in cells) / 36
    assert critic.bound(specific, condition).item() == pytest.approx(bound, abs=1e-6)
    loss = 0.0
    for i in cells:
        loss -= f[i][i] - math.log(sum(math.exp(f[i][j]) for j in cells))
        loss -= f[i][i] - math.log(sum(math.exp(f[j][i]) for j in cells))
    assert critic.critic_loss(specific, condition).item() == pytest.approx(loss / 12, abs=1e-6)


def test_values_depend_on_the_pairing_but_not_on_the_order_of_cells():
    critic = make_separable()
    specific, condition = draw_related(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for value in (critic.bound, critic.critic_loss):
        torch.testing.assert_close(value(specific[order], condition[order]), value(specific, condition))
        assert not torch.isclose(value(specific[order], condition), value(specific, condition))


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_a_trained_separable_critic_estimates_the_jeffreys_divergence(rho):
    # The sum of KL(joint | product) = -log(1 - rho^2) / 2 and
    # KL(product | joint) = 1 / (1 - rho^2) - 1 + log(1 - rho^2) / 2:
    divergence = rho**2 / (1 - rho**2)
    critic = make_separable()
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        critic.critic_loss(*draw_related(256, rho, seed=step)).backward()
        optimizer.step()
    with torch.no_grad():
        assert critic.bound(*draw_related(5000, rho, seed=10_000)).item() == pytest.approx(divergence, abs=0.08)


def test_bound_and_loss_of_a_single_cell_are_zero():
    specific, condition = draw_related(1)
    assert make_separable().bound(specific, condition).item() == 0
    assert make_separable().critic_loss(specific, condition).item() == 0


def make_concatenated(n_specific: int = 3, n_condition: int = 2) -> ConcatenatedNCECritic:
    torch.manual_seed(0)
    return ConcatenatedNCECritic(n_specific, n_condition, n_hidden=16)


def test_scores_equal_those_of_a_network_on_concatenated_pairs():
    critic = make_concatenated()
    latent, condition = torch.randn(6, 3), torch.randn(6, 2)
    weight = torch.cat([critic.read_specific.weight, critic.read_condition.weight], dim=1)
    for i in range(6):
        for j in range(6):
            pair = torch.cat([latent[i], condition[j]])
            hidden = F.linear(pair, weight, critic.read_specific.bias).relu()
            torch.testing.assert_close(
                critic.scores(latent, condition)[i, j], critic.output(critic.hidden(hidden).relu())[0]
            )
    scores = critic.scores(latent, condition)
    torch.testing.assert_close(critic.bound(latent, condition), scores.diagonal().mean() - scores.mean())
    torch.testing.assert_close(critic.critic_loss(latent, condition), contrastive_loss(scores))


@torch.no_grad()
def test_blocks_do_not_change_the_scores():
    """Scores of 600 cells are computed in two blocks of rows, those of 100 cells in one."""
    critic = make_concatenated()
    latent, condition = torch.randn(600, 3), torch.randn(600, 2)
    scores = critic.scores(latent, condition)
    for some in torch.arange(600).split(100):
        torch.testing.assert_close(critic.scores(latent[some], condition[some]), scores[some][:, some])


@pytest.mark.slow
@pytest.mark.parametrize("critic_class", [ConcatenatedNCECritic, NCECritic])
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_trained_nce_critics_estimate_the_jeffreys_divergence(critic_class, rho):
    torch.manual_seed(0)
    critic = critic_class(1, 1, 32)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)

    def draw(n_cells: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        condition, noise = torch.randn(2, n_cells, 1, generator=generator)
        return rho * condition + (1 - rho**2) ** 0.5 * noise, condition

    for step in range(400):
        optimizer.zero_grad()
        critic.critic_loss(*draw(256, step)).backward()
        optimizer.step()
    with torch.no_grad():
        assert critic.bound(*draw(2000, 10_000)).item() == pytest.approx(rho**2 / (1 - rho**2), abs=0.1)


class ConditionalMean(nn.Module):
    """Conditional mean of the condition given the representation, for correlated Gaussians."""

    def __init__(self, rho: float) -> None:
        super().__init__()
        self.rho = rho

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.rho * latent


def draw_predictable(n_cells: int, rho: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latent, noise = torch.randn(2, n_cells, 2, generator=generator)
    return latent, rho * latent + math.sqrt(1 - rho**2) * noise


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_optimal_network_gives_the_information_of_correlated_gaussians(rho):
    critic = AdversarialCritic(2, 2)
    critic.network = ConditionalMean(rho)
    latent, condition = draw_predictable(20_000, rho)
    assert critic.bound(latent, condition).item() == pytest.approx(-math.log(1 - rho**2), abs=0.02)
    assert critic.critic_loss(latent, condition).item() == pytest.approx(1 - rho**2, rel=0.03)


def test_adversarial_critic_agrees_with_loops():
    torch.manual_seed(0)
    critic = AdversarialCritic(3, 2, 16).double()
    latent, condition = torch.randn(11, 3).double(), torch.randn(11, 2).double()
    predicted = critic.network(latent)
    expected, loss = 0.0, 0.0
    for k in range(2):
        mean = sum(condition[:, k].tolist()) / 11
        error = sum((condition[i, k] - predicted[i, k]).item() ** 2 for i in range(11))
        unexplained = error / sum((c - mean) ** 2 for c in condition[:, k].tolist())
        expected -= 0.5 * math.log(unexplained)
        loss += unexplained / 2
    assert critic.bound(latent, condition).item() == pytest.approx(expected, abs=1e-5)
    assert critic.critic_loss(latent, condition).item() == pytest.approx(loss)


def test_the_bound_of_an_exact_prediction_is_finite():
    critic = AdversarialCritic(2, 2)
    critic.network = nn.Identity()
    latent = draw_predictable(30, 0.5)[0].requires_grad_()
    bound = critic.bound(latent, latent.detach())
    bound.backward()
    assert bound.item() == pytest.approx(2 * 0.5 * math.log(1e6), rel=1e-3)
    assert torch.isfinite(latent.grad).all()


def test_adversarial_scores_are_errors_in_units_of_variance():
    torch.manual_seed(0)
    critic = AdversarialCritic(3, 2, 16)
    latent, condition = torch.randn(11, 3), torch.randn(11, 2) * torch.tensor([1.0, 100.0])
    scores = critic.scores(latent, condition)
    errors = (critic.network(latent)[3] - condition[4]).square() / condition.var(dim=0, correction=0)
    torch.testing.assert_close(scores[3, 4], -errors.sum() / 2)
    torch.testing.assert_close(-scores.diagonal().mean(), critic.critic_loss(latent, condition))
