from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from indiseek_sc.losses import ConcatenatedNCECritic, NCECritic
from indiseek_sc.losses import _network_critics as module
from indiseek_sc.losses._critics import contrastive_loss


def make_critic(n_specific: int = 3, n_condition: int = 2) -> ConcatenatedNCECritic:
    torch.manual_seed(0)
    return ConcatenatedNCECritic(n_specific, n_condition, n_hidden=16)


def test_scores_are_of_a_network_on_concatenated_pairs():
    critic = make_critic()
    code, condition = torch.randn(6, 3), torch.randn(6, 2)
    weight = torch.cat([critic.read_specific.weight, critic.read_condition.weight], dim=1)
    for i in range(6):
        for j in range(6):
            pair = torch.cat([code[i], condition[j]])
            hidden = F.linear(pair, weight, critic.read_specific.bias).relu()
            torch.testing.assert_close(
                critic.scores(code, condition)[i, j], critic.output(critic.hidden(hidden).relu())[0]
            )
    scores = critic.scores(code, condition)
    torch.testing.assert_close(critic.bound(code, condition), scores.diagonal().mean() - scores.mean())
    torch.testing.assert_close(critic.critic_loss(code, condition), contrastive_loss(scores))


def test_blocks_change_nothing(monkeypatch):
    critic = make_critic()
    code, condition = torch.randn(11, 3), torch.randn(11, 2)
    whole = critic.scores(code, condition)
    monkeypatch.setattr(module, "LARGEST_BLOCK", 30)  # two rows a block, and one left over
    torch.testing.assert_close(critic.scores(code, condition), whole)


@pytest.mark.slow
@pytest.mark.parametrize("critic_class", [ConcatenatedNCECritic, NCECritic])
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_a_taught_critic_gives_the_jeffreys_divergence(critic_class, rho):
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
