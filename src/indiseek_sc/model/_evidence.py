"""Tests for remaining dependence on validation cells, before networks are trained to remove it."""

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

CLIP = 3.0
"""Absolute value to which whitened values are clipped before statistics are computed from them."""

N_STANDARD_ERRORS = 3.0
"""Number of standard errors by which a bound must exceed 0.

The largest of several bounds exceeds 0 by two standard errors by chance.
"""

N_PERMUTATIONS = 5
"""Number of permutations of the condition, whose mean likelihood is the reference."""

SMALLEST_INFORMATION = 0.05
"""Smallest information of the condition, in nats per cell, for which a flow is kept.

With less information, splines overfit by about as much as they explain.
"""

MIN_BLOCK_SIZE = 32
"""Smallest number of validation cells in a block, if there are enough for two blocks."""

MAX_BLOCKS = 20
"""Largest number of blocks from which the standard error of a bound is estimated."""


@torch.no_grad()
def needs_flow(whitened: Tensor, condition: Tensor, rows: Rows) -> bool:
    r"""Return whether the distribution of whitened values depends on a condition.

    Regressions in closed form are fitted in both directions, before any spline is trained: from the
    condition to statistics of each column that respond to skewness, kurtosis and clusters
    (:math:`\tanh w`, :math:`|w|` and :math:`w^3` of clipped values; after whitening, mean and
    variance do not depend on the condition), and from all columns jointly to the condition, which
    detects dependence that is not along single columns.
    """
    values = whitened.clamp(-CLIP, CLIP)
    statistics = torch.cat([values.tanh(), values.abs(), values.pow(3)], dim=1)
    return explains(condition, statistics, rows) or explains(whitened, condition, rows)


@torch.no_grad()
def explains(source: Tensor, target: Tensor, rows: Rows) -> bool:
    """Return whether ``source`` predicts any column of ``target`` on validation cells.

    A regression in closed form is fitted, and must reduce the error by more than two standard
    errors. A false positive costs only time, since further tests follow.
    """
    train, validation = some_rows(rows.train), some_rows(rows.validation)
    used = torch.cat([train, validation])
    regression = FourierRegression(source.shape[1], target.shape[1]).to(source.device)
    regression.fit(source[used], target[used], len(train), each=True)
    return bool((regression.weight != 0).any())


@torch.no_grad()
def find_information(spline: ConditionalSpline, values: Tensor, condition: Tensor, *, seed: int) -> tuple[float, float]:
    r"""Estimate the information of a condition about values, and its standard error.

    The estimate is half of the mean log-likelihood ratio between a cell's own condition and those
    of other cells. For the true density this is half of the Jeffreys divergence between
    :math:`p(w, c)` and :math:`p(w) p(c)`, which is close to the mutual information if that is
    small. Without dependence the expected value is 0, even if the spline overfits its training
    cells.

    Parameters
    ----------
    spline
        Spline trained on other cells.
    values
        Values of the cells, shape ``(n_cells, n_columns)``.
    condition
        Condition of the cells, shape ``(n_cells, n_condition)``.
    seed
        Seed of the permutations.

    Returns
    -------
    Estimate and standard error, in nats per cell.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(values), generator=generator).to(values.device) for _ in range(N_PERMUTATIONS)]
    others = torch.stack([spline.negative_log_likelihood(values, condition[order]) for order in orders]).mean(dim=0)
    ratios = (others - spline.negative_log_likelihood(values, condition)) / 2
    return float(ratios.mean()), float(ratios.std()) / len(ratios) ** 0.5


@torch.no_grad()
def find_dependence(critic: CriticSum, specific: Tensor, against: Tensor) -> bool:
    """Return whether a bound of a critic is significantly above 0 on validation cells.

    Its standard error is estimated from blocks of these cells.
    """
    n_blocks = max(2, min(MAX_BLOCKS, len(specific) // MIN_BLOCK_SIZE))
    blocks = zip(specific.tensor_split(n_blocks), against.tensor_split(n_blocks), strict=True)
    bounds = torch.stack([torch.stack(list(critic.bounds(*block).values())) for block in blocks])
    return bool((bounds.mean(dim=0) > N_STANDARD_ERRORS * bounds.std(dim=0) / n_blocks**0.5).any())
