"""Variants of stage 2 that no setting provides, as context managers that modify the package."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.losses import CriticSum
from indiseek_sc.model._stages import NEW_START, SPECIFIC
from indiseek_sc.nn import RidgeMap
from indiseek_sc.train import Rows, SpecificPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from torch import Tensor

    from indiseek_sc import IndiSeek
    from indiseek_sc._keys import Role
    from indiseek_sc.model import Stage
    from indiseek_sc.model._runs import StageRun

NOISE = 0.3
"""Standard deviation of the noise; dimensions of Z have 1."""


@contextmanager
def separate_cells() -> Iterator[None]:
    """Fit the start of stage 2 on one half of the training cells, and critics on the other."""

    def on_half(stage: Stage, first: int) -> Stage:
        def take(run: StageRun, **values: Any) -> Mapping[str, Any]:
            whole = run.rows
            order = torch.from_numpy(np.random.default_rng(0).permutation(len(whole.train)))
            run.rows = Rows(whole.train[order[first::2].to(whole.train.device)], whole.validation)
            try:
                return stage.run(run, **values)
            finally:
                run.rows = whole

        return replace(stage, run=take)

    start = tuple(on_half(stage, 0) for stage in NEW_START)
    training = "indiseek_sc.model._training"
    with patch(f"{training}.NEW_START", start), patch(f"{training}.SPECIFIC", on_half(SPECIFIC, 1)):
        yield


@contextmanager
def given_expected(model: IndiSeek, *, by_features: bool = False) -> Iterator[None]:
    """Condition stage 2 on a prediction of the other modality's representation.

    The prediction uses the modality's own shared representation and, with ``by_features``, its
    features.
    """
    module, train = model.module, model.split.train
    condition, shared, last_features = module.condition, module.shared, {}

    def record(role: Role, features: Tensor) -> Tensor:
        last_features[role] = features
        return shared(role, features)

    def inputs(role: Role, latent: Tensor) -> Tensor:
        products = torch.cat([latent, (latent[:, :, None] * latent[:, None, :]).flatten(1)], dim=1)
        return torch.cat([products, last_features[role]], dim=1) if by_features else products

    conditions, given, maps = {}, {}, {}
    with torch.no_grad():
        for role in ROLES:
            features = torch.from_numpy(model.get_features(modality=role)[train]).to(module.device)
            conditions[role] = condition(role, record(role, features), torch.zeros(len(train)))
            given[role] = inputs(role, conditions[role])
    for role in ROLES:
        maps[role] = RidgeMap(given[role].shape[1], module.n_shared).to(module.device)
        maps[role].fit(given[role], conditions[other(role)])

    def expected(role: Role, latent: Tensor, batch: Tensor) -> Tensor:
        return maps[role](inputs(role, condition(role, latent, batch)))

    with patch.object(module, "shared", record), patch.object(module, "condition", expected):
        yield


@contextmanager
def annealing(start: float, n_epochs: int) -> Iterator[None]:
    """Change lambda geometrically from ``start`` to its final value in half of the epochs."""
    original, ends = SpecificPlan.on_train_epoch_start, {}

    def begin(plan: SpecificPlan) -> None:
        end = ends.setdefault("lambda", plan.lambda_)
        done = min(1.0, plan.current_epoch / (n_epochs / 2))
        plan.lambda_ = end * (start / end) ** (1 - done)
        original(plan)

    with patch.object(SpecificPlan, "on_train_epoch_start", begin):
        yield


@contextmanager
def noise() -> Iterator[None]:
    """Add noise to the Z that critics read."""

    def through(original: Callable) -> Callable:
        def read(self: CriticSum, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
            return original(self, specific + NOISE * torch.randn_like(specific), condition)

        return read

    changed = (patch.object(CriticSum, name, through(getattr(CriticSum, name))) for name in ("losses", "bounds"))
    with next(changed), next(changed):
        yield
