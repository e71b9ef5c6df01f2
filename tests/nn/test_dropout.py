"""Dropout: what it leaves, and on average."""

from __future__ import annotations

import pytest
import torch

from indiseek_sc.nn._networks import Dropout, drop


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_values_are_zero_or_scaled_and_the_expectation_stays(share: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(400, 500)
    left = drop(values, share, training=True)
    kept = left != 0
    # Five standard errors of a binomial share.
    assert kept.float().mean().item() == pytest.approx(1 - share, abs=5 * (share * (1 - share) / values.numel()) ** 0.5)
    torch.testing.assert_close(left[kept], torch.full_like(left[kept], 1 / (1 - share)))


def test_units_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (drop(torch.ones(20_000, 6), 0.4, training=True) != 0).float()
    correlation = torch.corrcoef(kept.T) - torch.eye(6)
    assert correlation.abs().max() < 5 / 20_000**0.5


@pytest.mark.parametrize(("share", "training"), [(0.4, False), (0.0, True)])
def test_nothing_changes_outside_training_or_with_no_share(share: float, training: bool) -> None:
    values = torch.randn(3, 4)
    assert drop(values, share, training) is values


def test_gradient_is_the_mask() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 20, requires_grad=True)
    left = Dropout(0.4)(values)
    left.sum().backward()
    torch.testing.assert_close(values.grad * values, left)


def test_module_follows_its_mode_and_keeps_the_type() -> None:
    module = Dropout(0.5)
    values = torch.ones(1000, 4, dtype=torch.float64)
    assert module(values).dtype == torch.float64
    assert (module(values) == 0).any()
    assert (module.eval()(values) == 1).all()
    assert repr(module) == "Dropout(share=0.5)"
