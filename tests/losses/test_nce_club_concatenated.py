from __future__ import annotations

import math

import pytest
import torch

from indiseek_sc.losses import ConcatenatedNCECritic


def test_loops_over_concatenated_pairs_give_the_same():
    torch.manual_seed(0)
    critic = ConcatenatedNCECritic(3, 2, n_hidden=16)
    specific, condition = torch.randn(6, 3), torch.randn(6, 2)
    first = torch.nn.Linear(5, 16)
    with torch.no_grad():
        first.weight.copy_(torch.cat([critic.read_specific.weight, critic.read_condition.weight], dim=1))
        first.bias.copy_(critic.read_specific.bias)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), critic.hidden, torch.nn.ReLU(), critic.output)
    f = [[network(torch.cat([z, c])).item() for c in condition] for z in specific]
    torch.testing.assert_close(critic.scores(specific, condition), torch.tensor(f))

    cells = range(6)
    bound = sum(f[i][i] for i in cells) / 6 - sum(f[i][j] for i in cells for j in cells) / 36
    assert critic.bound(specific, condition).item() == pytest.approx(bound, abs=1e-6)
    loss = 0.0
    for i in cells:
        loss -= f[i][i] - math.log(sum(math.exp(f[i][j]) for j in cells))
        loss -= f[i][i] - math.log(sum(math.exp(f[j][i]) for j in cells))
    assert critic.critic_loss(specific, condition).item() == pytest.approx(loss / 12, abs=1e-6)


def test_it_learns_dependence_without_correlation():
    torch.manual_seed(0)
    critic = ConcatenatedNCECritic(1, 1, n_hidden=32)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        condition = torch.randn(64, 1, generator=generator)
        loss = critic.critic_loss(condition.square() + 0.1 * torch.randn(64, 1, generator=generator), condition)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    condition = torch.randn(500, 1, generator=generator)
    with torch.no_grad():
        assert critic.bound(condition.square(), condition) > 1
        assert abs(critic.bound(condition.square(), condition.roll(1, 0))) < 0.5
