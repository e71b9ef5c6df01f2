from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from indiseek_sc.train import KeepBest


class Part(nn.Module):
    """Holds the number of the last epoch, in a weight and in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("buffer", torch.zeros(()))

    def move(self, epoch: int) -> None:
        with torch.no_grad():
            self.weight.fill_(epoch)
            self.buffer.fill_(epoch)

    @property
    def epoch(self) -> int:
        assert self.weight == self.buffer
        return int(self.weight)


def follow(keep_best: KeepBest, parts: list[Part], figures: list[dict[str, float]]) -> int:
    """Go through epochs, the first figures being those before training; return in which one training stops."""
    trainer = SimpleNamespace(should_stop=False)
    for epoch, values in enumerate(figures):
        for part in parts:
            part.move(epoch)
        trainer.sanity_checking, trainer.current_epoch = epoch == 0, max(0, epoch - 1)
        trainer.callback_metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        keep_best.on_validation_end(trainer, None)
        if trainer.should_stop:
            break
    keep_best.restore()
    return epoch


def judge(scores: list[float], patience: int = 0, **kwargs) -> tuple[int, int]:
    """Return which epoch was kept, and in which one training stopped."""
    part = Part()
    keep_best = KeepBest({"loss": part}, patience=patience, **kwargs)
    last = follow(keep_best, [part], [{"loss": score} for score in scores])
    assert keep_best.best_epochs == {"loss": part.epoch}
    return part.epoch, last


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10))
def test_the_best_epoch_is_kept_and_the_first_of_equals(scores):
    assert judge(scores, smallest_gain=0.0) == (scores.index(min(scores)), len(scores) - 1)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([1.0, 2.0, 3.0], 0),  # the start was better than all that training made of it
        ([3.0, 1.0, 2.0], 1),
        ([1.0, 0.95, 0.91, 0.89], 3),  # small gains add up
        ([1.0, 0.95, 0.91], 0),
        ([math.nan, 2.0, math.nan], 1),
        ([2.0, math.nan, math.inf], 0),
    ],
)
def test_which_epoch_is_kept(scores, best):
    assert judge(scores, smallest_gain=0.1)[0] == best


@pytest.mark.parametrize(
    ("scores", "patience", "last"),
    [
        ([5, 4, 6, 6, 6, 6], 2, 3),
        ([5, 4, 6, 3, 6, 6, 6], 2, 5),
        ([5, 6, 6, 6], 1, 1),
        ([5, 6, 6, 6], 0, 3),
        ([5, 4, 3, 2], 1, 3),
        ([5, math.nan, math.nan, math.nan], 2, 2),
    ],
)
def test_patience(scores, patience, last):
    assert judge(scores, patience)[1] == last


def test_parts_are_kept_apart_and_any_gain_goes_on():
    first, second = Part(), Part()
    keep_best = KeepBest({"a": first, "b": second}, patience=2)
    figures = [
        {"a": 3, "b": 3},
        {"a": 1, "b": 2},
        {"a": 2, "b": 1},
        {"a": 2, "b": 2},
        {"a": 2, "b": 2},
        {"a": 0, "b": 0},
    ]
    assert follow(keep_best, [first, second], figures) == 4
    assert (first.epoch, second.epoch) == (1, 2)
    assert keep_best.best_epochs == {"a": 1, "b": 2}


def test_without_a_figure_the_latest_epoch_is_kept():
    part = Part()
    keep_best = KeepBest({"latest": part}, patience=1)
    assert follow(keep_best, [part], [{"loss": 0.0}] * 4) == 3
    assert part.epoch == 3


def test_a_stage_that_never_came_to_its_figures_ends_where_it_began():
    part = Part()
    keep_best = KeepBest({"loss": part}, patience=0)
    part.move(7)
    keep_best.restore()
    assert part.epoch == 0


def test_a_figure_that_is_not_there_in_each_epoch_is_judged_where_it_is():
    part = Part()
    keep_best = KeepBest({"leak": part}, patience=0)
    follow(keep_best, [part], [{"leak": 1.0}, {}, {}, {"leak": 0.5}, {}, {"leak": 0.7}])
    assert part.epoch == 3
    follow(keep_best := KeepBest({"leak": part}, patience=0), [part], [{"leak": 1.0}, {}, {"leak": 2.0}, {}])
    assert part.epoch == 0
    assert keep_best.best_epochs == {"leak": 0}
