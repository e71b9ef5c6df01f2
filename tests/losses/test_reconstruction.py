from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from indiseek_sc.losses import normalized_error


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    target = rng.standard_normal((40, 3)) * [1, 5, 0.1] + 2
    return torch.from_numpy(target), torch.from_numpy(target + rng.standard_normal((40, 3)) * [1, 1, 0.05])


def error(target: torch.Tensor, estimate: torch.Tensor) -> float:
    return normalized_error(target, estimate, target.var(dim=0, correction=0).sum()).item()


def test_it_is_one_minus_r2():
    target, estimate = draw()
    expected = 1 - r2_score(target.numpy(), estimate.numpy(), multioutput="variance_weighted")
    assert error(target, estimate) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_units_do_not_matter(scale, shift):
    target, estimate = draw()
    expected = error(target, estimate)
    assert error(scale * (target + shift), scale * (estimate + shift)) == pytest.approx(expected, rel=1e-6)


def test_both_ends_of_the_scale():
    target, _ = draw()
    assert error(target, target) == 0
    assert error(target, target.mean(dim=0).expand_as(target)) == pytest.approx(1)


def test_it_is_a_mean_over_cells():
    target, estimate = draw()
    total = target.var(dim=0, correction=0).sum()
    halves = [normalized_error(target[rows], estimate[rows], total) for rows in (slice(0, 20), slice(20, 40))]
    torch.testing.assert_close(normalized_error(target, estimate, total), torch.stack(halves).mean())
