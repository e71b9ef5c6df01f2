from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.model._stages import Stages
from indiseek_sc.train import Split

SPLIT = Split(np.arange(0, 100), np.arange(100, 200), np.arange(0))


class Shape:
    """Stands for splines to which a condition tells so many nats of each cell, give or take one."""

    def __init__(self, told: float) -> None:
        self.told = told
        self.given_up = False

    def surprise(self, values: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return 5 - (self.told + values[:, 0]) * (condition != 0).any(dim=1)

    def give_up(self) -> None:
        self.given_up = True


@pytest.mark.parametrize(
    ("told", "reason", "given_up"), [(1.0, None, False), (0.0, None, True), (-1.0, None, True), (1.0, "stopped", True)]
)
def test_shapes_are_bent_only_where_the_condition_tells_of_them(told, reason, given_up):
    shapes = {role: Shape(told) for role in ROLES}
    stages_run = []

    def train(stage, parts, values, conditions):
        stages_run.append(stage)
        known = all((conditions[role] != 0).any() for role in ROLES)
        assert known == (stage == "shape")
        assert (parts == shapes) == known  # what is compared with is a copy
        return reason

    stages = SimpleNamespace(
        module=SimpleNamespace(codecs={role: SimpleNamespace(shape=shapes[role]) for role in ROLES}),
        split=SPLIT,
        _conditions={role: torch.ones(200, 2) for role in ROLES},
        _train_density=train,
    )
    values = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    values[100:, 0] -= values[100:, 0].mean()
    assert Stages._train_shape(stages, dict.fromkeys(ROLES, values)) == reason
    assert [shapes[role].given_up for role in ROLES] == [given_up] * 2
    assert stages_run == (["shape", "shape_without"] if reason is None else ["shape"])
