"""Trials of stage 2 that no setting makes: each changes what the package does, as long as it is open."""

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
"""Standard deviation of the noise, where a dimension of Z has 1."""


@contextmanager
def cells_apart() -> Iterator[None]:
    """Let the start of stage 2 learn from every second training cell, and critics from the others."""

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
    """Let stage 2 know of a cell only what its own shared representation, or with ``by_features`` its features as well, say of the other modality's representation."""
    module, train = model.module, model.split.train
    condition, shared, seen = module.condition, module.shared, {}

    def watch(role: Role, features: Tensor) -> Tensor:
        seen[role] = features
        return shared(role, features)

    def inputs(role: Role, latent: Tensor) -> Tensor:
        products = torch.cat([latent, (latent[:, :, None] * latent[:, None, :]).flatten(1)], dim=1)
        return torch.cat([products, seen[role]], dim=1) if by_features else products

    known, given, expect = {}, {}, {}
    with torch.no_grad():
        for role in ROLES:
            features = torch.from_numpy(model.get_features(modality=role)[train]).to(module.device)
            known[role] = condition(role, watch(role, features), torch.zeros(len(train)))
            given[role] = inputs(role, known[role])
    for role in ROLES:
        expect[role] = RidgeMap(given[role].shape[1], module.n_shared).to(module.device)
        expect[role].fit(given[role], known[other(role)])

    def expected(role: Role, latent: Tensor, batch: Tensor) -> Tensor:
        return expect[role](inputs(role, condition(role, latent, batch)))

    with patch.object(module, "shared", watch), patch.object(module, "condition", expected):
        yield


@contextmanager
def annealing(start: float, n_epochs: int) -> Iterator[None]:
    """Let lambda come from ``start`` to where it is to be, in equal factors over the first half of the epochs."""
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
    """Let critics see Z through noise."""

    def through(original: Callable) -> Callable:
        def read(self: CriticSum, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
            return original(self, specific + NOISE * torch.randn_like(specific), condition)

        return read

    changed = (patch.object(CriticSum, name, through(getattr(CriticSum, name))) for name in ("losses", "bounds"))
    with next(changed), next(changed):
        yield
