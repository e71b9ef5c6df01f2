"""The closed forms at both ends of stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.nn import regularized_cca

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

SMALLEST_MEAN_SQUARED_CORRELATION = 0.72
"""Directions are kept, the most shared first, while the mean of their squared validation correlations stays above this."""

FEWEST_DIRECTIONS = 4


def _analyse(codes: list[Tensor], split: Split, n: int) -> tuple:
    train, validation = torch.from_numpy(split.train), torch.from_numpy(split.validation)
    return regularized_cca(*codes, train.to(codes[0].device), validation.to(codes[0].device), n)


@torch.no_grad()
def start_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> None:
    """Start the linear part of the encoders as regularised CCA."""
    *maps, _ = _analyse([features[role] for role in ROLES], split, module.n_shared)
    for role, linear in zip(ROLES, maps, strict=True):
        module.encoders[role].start_from(linear)


@torch.no_grad()
def finish_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> None:
    """Rotate the codes to canonical directions and drop those that validation cells do not share."""
    module.eval()
    codes = [module.encoders[role](features[role]) for role in ROLES]
    *maps, correlation = _analyse(codes, split, module.n_shared)
    order = correlation.argsort(descending=True, stable=True)
    correlation = correlation[order]
    kept = choose_width(correlation)
    correlation = torch.where(torch.arange(correlation.shape[0], device=correlation.device) < kept, correlation, 0.0)
    for role, linear in zip(ROLES, maps, strict=True):
        module.rotations[role].set(linear._replace(weight=linear.weight[:, order]), correlation)


def choose_width(correlation: Tensor) -> int:
    """Return how many directions to keep, from their validation correlations in falling order, shape ``(n_shared,)``."""
    mean_squared = correlation.square().cumsum(0) / torch.arange(1, correlation.shape[0] + 1, device=correlation.device)
    n_good = int((mean_squared >= SMALLEST_MEAN_SQUARED_CORRELATION).sum())
    return max(n_good, min(FEWEST_DIRECTIONS, int((correlation > 0).sum())), 1)
