"""What validation cells show of dependence that is left to be removed, before anything is trained for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from indiseek_sc.model._shared import some_rows
from indiseek_sc.nn import FourierRegression

if TYPE_CHECKING:
    from indiseek_sc.losses import CriticSum
    from indiseek_sc.nn import ConditionalSpline
    from indiseek_sc.train import Rows

FARTHEST = 3.0
"""Whitened values are clipped here before their third power is taken."""

CERTAIN = 3.0
"""Standard errors by which a bound must be above 0: one of several critics' is by two."""

N_PERMUTATIONS = 5
"""Permutations of the condition, whose mean likelihood is compared with."""

SMALLEST_INFORMATION = 0.05
"""Nats a cell. A condition that tells less of the shape is not worth splines, which overfit by about as much."""

SMALLEST_BLOCK = 32
MOST_BLOCKS = 20
"""Validation cells are looked at in blocks, whose bounds differ as much as chance has it."""


@torch.no_grad()
def needs_flow(whitened: Tensor, condition: Tensor, rows: Rows) -> bool:
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
def find_information(spline: ConditionalSpline, values: Tensor, condition: Tensor, *, seed: int) -> tuple[float, float]:
    r"""Return what a condition tells of the shape of values, in nats a cell, and the standard error of that.

    It is half of the mean log-likelihood ratio between a cell's own condition and those of other cells, which for the true density is half
    of the Jeffreys divergence between :math:`p(w, c)` and :math:`p(w) p(c)`: near the mutual information where that is small. Where there is
    none it is 0 on average, however the spline overfits its training cells.

    Parameters
    ----------
    spline
        Trained on other cells.
    values, condition
        Of the cells to look at, shapes ``(n_cells, n_columns)`` and ``(n_cells, n_condition)``.
    seed
        Decides the permutations.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(values), generator=generator).to(values.device) for _ in range(N_PERMUTATIONS)]
    others = torch.stack([spline.negative_log_likelihood(values, condition[order]) for order in orders]).mean(dim=0)
    ratios = (others - spline.negative_log_likelihood(values, condition)) / 2
    return float(ratios.mean()), float(ratios.std()) / len(ratios) ** 0.5


@torch.no_grad()
def find_dependence(critic: CriticSum, specific: Tensor, against: Tensor) -> bool:
    """Whether the bound of a critic is above 0 on cells that it did not learn from, by more than chance gives: blocks of these say."""
    n_blocks = max(2, min(MOST_BLOCKS, len(specific) // SMALLEST_BLOCK))
    blocks = zip(specific.tensor_split(n_blocks), against.tensor_split(n_blocks), strict=True)
    bounds = torch.stack([torch.stack(list(critic.bounds(*block).values())) for block in blocks])
    return bool((bounds.mean(dim=0) > CERTAIN * bounds.std(dim=0) / n_blocks**0.5).any())
