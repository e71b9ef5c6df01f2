from __future__ import annotations

import math

import pytest
import torch

from indiseek_sc.losses import NCECritic


def draw(n_cells: int, rho: float = 0.6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    condition, noise = torch.randn(2, n_cells, 1, generator=generator)
    return rho * condition + math.sqrt(1 - rho**2) * noise, condition


def make_critic(n_specific: int = 1, n_condition: int = 1) -> NCECritic:
    torch.manual_seed(0)
    return NCECritic(n_specific, n_condition, n_hidden=32, n_embedding=8)


def test_loops_over_pairs_give_the_same():
    critic = make_critic(3, 2)
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


def test_the_order_of_cells_does_not_matter_but_the_pairing_does():
    critic = make_critic()
    specific, condition = draw(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for value in (critic.bound, critic.critic_loss):
        torch.testing.assert_close(value(specific[order], condition[order]), value(specific, condition))
        assert not torch.isclose(value(specific[order], condition), value(specific, condition))


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_a_taught_critic_gives_the_jeffreys_divergence(rho):
    # KL(joint | product) = -log(1 - rho^2) / 2, KL(product | joint) = 1 / (1 - rho^2) - 1 + log(1 - rho^2) / 2; their sum:
    divergence = rho**2 / (1 - rho**2)
    critic = make_critic()
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        critic.critic_loss(*draw(256, rho, seed=step)).backward()
        optimizer.step()
    with torch.no_grad():
        assert critic.bound(*draw(5000, rho, seed=10_000)).item() == pytest.approx(divergence, abs=0.08)


def test_a_single_cell_has_no_bound():
    specific, condition = draw(1)
    assert make_critic().bound(specific, condition).item() == 0
    assert make_critic().critic_loss(specific, condition).item() == 0
