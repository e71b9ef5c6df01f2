"""What validation cells show of dependence that is left to be removed, before anything is trained for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from indiseek_sc.model._shared import some_rows
from indiseek_sc.nn import FourierRegression

if TYPE_CHECKING:
    from indiseek_sc.losses import CriticSum
    from indiseek_sc.train import Rows

FARTHEST = 3.0
"""Whitened values are clipped here before their third power is taken."""

CERTAIN = 3.0
"""Standard errors by which a bound must be above 0: one of several critics' is by two."""

SMALLEST_BLOCK = 32
MOST_BLOCKS = 20
"""Validation cells are looked at in blocks, whose bounds differ as much as chance has it."""


@torch.no_grad()
def has_shape(whitened: Tensor, condition: Tensor, rows: Rows) -> bool:
    r"""Whether the shape of whitened values depends on a condition, at one look and before any spline is trained.

    Regressions in closed form go both ways: from the condition to what skewness, kurtosis and clusters change of each column
    (:math:`\tanh w`, :math:`|w|` and :math:`w^3`, clipped; mean and variance do not depend on the condition any more), and from all columns
    together to the condition, which sees a shape that lies along none of them.
    """
    values = whitened.clamp(-FARTHEST, FARTHEST)
    statistics = torch.cat([values.tanh(), values.abs(), values.pow(3)], dim=1)
    return explains(condition, statistics, rows) or explains(whitened, condition, rows)


@torch.no_grad()
def explains(source: Tensor, target: Tensor, rows: Rows) -> bool:
    """Whether a regression in closed form predicts any column of ``target`` on validation cells, by more than two standard errors.

    A false alarm costs no more than time: what is found is looked at more closely.
    """
    train, validation = some_rows(rows.train), some_rows(rows.validation)
    looked_at = torch.cat([train, validation])
    regression = FourierRegression(source.shape[1], target.shape[1]).to(source.device)
    regression.fit(source[looked_at], target[looked_at], len(train), each=True)
    return bool((regression.weight != 0).any())


@torch.no_grad()
def find_dependence(critic: CriticSum, specific: Tensor, against: Tensor) -> bool:
    """Whether the bound of a critic is above 0 on cells that it did not learn from, by more than chance gives: blocks of these say."""
    n_blocks = max(2, min(MOST_BLOCKS, len(specific) // SMALLEST_BLOCK))
    blocks = zip(specific.tensor_split(n_blocks), against.tensor_split(n_blocks), strict=True)
    bounds = torch.stack([torch.stack(list(critic.bounds(*block).values())) for block in blocks])
    return bool((bounds.mean(dim=0) > CERTAIN * bounds.std(dim=0) / n_blocks**0.5).any())
