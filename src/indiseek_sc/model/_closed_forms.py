"""The closed forms at both ends of stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.nn import RidgeMap, regularized_cca

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

SUFFICIENT = 0.94
"""Directions are kept until they tell this share of what all of them tell of the other modality."""

FEWEST_DIRECTIONS = 4


def _analyse(codes: list[Tensor], split: Split, n: int, *, refit: bool = False) -> tuple:
    train, validation = torch.from_numpy(split.train), torch.from_numpy(split.validation)
    return regularized_cca(*codes, train.to(codes[0].device), validation.to(codes[0].device), n, refit=refit)


@torch.no_grad()
def start_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> None:
    """Start the linear part of the encoders as regularised CCA."""
    *maps, _ = _analyse([features[role] for role in ROLES], split, module.n_shared)
    for role, linear in zip(ROLES, maps, strict=True):
        module.encoders[role].start_from(linear)


@torch.no_grad()
def finish_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> None:
    """Rotate the codes to canonical directions, and drop those behind the point where they are sufficient."""
    module.eval()
    codes = [module.encoders[role](features[role]) for role in ROLES]
    *maps, correlation = _analyse(codes, split, module.n_shared, refit=True)
    order = correlation.argsort(descending=True, stable=True)
    maps = [linear._replace(weight=linear.weight[:, order]) for linear in maps]
    correlation = correlation[order]
    rotated = {role: linear(code.double()) for role, linear, code in zip(ROLES, maps, codes, strict=True)}
    n_kept = choose_width(rotated, features, split)
    correlation = torch.where(torch.arange(correlation.shape[0], device=correlation.device) < n_kept, correlation, 0.0)
    for role, linear in zip(ROLES, maps, strict=True):
        module.rotations[role].set(linear, correlation)


def choose_width(shared: Mapping[Role, Tensor], features: Mapping[Role, Tensor], split: Split) -> int:
    """Return the smallest number of leading directions that is sufficient on validation cells, without any label.

    Sufficiency is the share of the other modality's variance that a ridge regression on the directions explains, relative to
    that on all of them, averaged over both modalities. Fewer directions are more purely shared; too few leave shared signal
    to the specific codes.

    Parameters
    ----------
    shared
        Rotated codes by role, the most shared direction first, shape ``(n_cells, n_shared)``.
    features
        Features by role, shape ``(n_cells, n_features)``.
    split
        Regressions are fitted on its training cells and read on its validation cells.
    """
    n_shared = shared["rna"].shape[1]
    told = torch.zeros(n_shared, dtype=torch.float64)
    for role in ROLES:
        explained = [_explained(shared[role][:, : n + 1], features[other(role)], split) for n in range(n_shared)]
        told += torch.tensor(explained, dtype=torch.float64) / max(explained[-1], 1e-12)
    is_sufficient = told / len(ROLES) >= SUFFICIENT
    first = int(is_sufficient.int().argmax()) + 1
    return min(max(first, FEWEST_DIRECTIONS), n_shared)


def _explained(x: Tensor, y: Tensor, split: Split) -> float:
    train, validation = (torch.from_numpy(rows).to(x.device) for rows in (split.train, split.validation))
    regression = RidgeMap(x.shape[1], y.shape[1]).to(x.device, torch.float64)
    regression.fit(x[train], y[train])
    missed = (y[validation].double() - regression(x[validation].double())).square().sum()
    return float(1 - missed / (y[validation].double() - y[train].double().mean(dim=0)).square().sum())
