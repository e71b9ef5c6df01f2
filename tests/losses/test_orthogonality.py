from __future__ import annotations

import math

import pytest
import torch

from indiseek_sc.losses import NoCritic, OrthogonalityCritic

CRITIC = OrthogonalityCritic(3, 2)


def test_loops_give_the_same():
    generator = torch.Generator().manual_seed(0)
    specific, condition = torch.randn(7, 3, generator=generator), torch.randn(7, 2, generator=generator)
    total = 0.0
    for j in range(3):
        for k in range(2):
            entry = 0.0
            for z, c in zip(specific.tolist(), condition.tolist(), strict=True):
                entry += z[j] / math.hypot(*z) * c[k] / math.hypot(*c)
            total += entry**2
    assert CRITIC.bound(specific, condition).item() == pytest.approx(math.sqrt(total), rel=1e-5)


def test_its_range():
    codes = torch.zeros(8, 2)
    codes[:, 0] = 2.0
    assert CRITIC.bound(codes, codes).item() == pytest.approx(8)
    orthogonal = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert CRITIC.bound(orthogonal[:, :1], orthogonal[:, 1:]).item() == pytest.approx(0, abs=1e-5)


def test_it_is_blind_to_what_is_not_linear():
    generator = torch.Generator().manual_seed(0)
    condition = torch.randint(2, (2000, 1), generator=generator) * 2.0 - 1
    sign = torch.randint(2, (2000, 1), generator=generator) * 2.0 - 1
    axis = torch.eye(2)[(condition[:, 0] > 0).long()]  # tells all of the condition
    assert CRITIC.bound(sign * axis, condition) < 0.1 * CRITIC.bound(axis, condition)


def test_constant_codes_have_a_finite_gradient():
    specific = torch.zeros(4, 3, requires_grad=True)
    CRITIC.bound(specific, torch.ones(4, 2)).backward()
    assert torch.isfinite(specific.grad).all()


@pytest.mark.parametrize("critic", [CRITIC, NoCritic(3, 2)])
def test_nothing_learns(critic):
    assert not critic.learns
    assert critic.critic_loss(torch.ones(4, 3), torch.ones(4, 2)) == 0


def test_no_critic_asks_nothing():
    specific = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert NoCritic(2, 2).bound(specific, specific) == 0
