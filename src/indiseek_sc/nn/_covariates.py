"""Batches and other covariates of cells: the columns that networks read, and what covariates add to features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from indiseek_sc.nn._parts import map_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

N_STATES = 20
"""Largest number of cell states within which offsets are estimated."""

CELLS_AT_ONCE = 4_096
"""Cells whose distances to all states are held at once."""

FARTHEST = 1e30
"""Squared distance of a state that there is not."""


class CovariateDesign(nn.Module):
    """Turns covariates of cells into the columns of a design: an indicator for each level, and values in standard deviations.

    A category with a single level has no column, since it cannot explain anything.

    Parameters
    ----------
    n_levels
        Number of levels of each category that the model learns from. The first category is the batch.
    n_values
        Number of continuous covariates.
    n_added
        Number of further batches, from which nothing was learned. Their columns come last.
    """

    mean: Tensor
    """Mean over the training cells of each column that the model learned from, shape ``(n_learned,)``; of levels these are their shares."""
    value_mean: Tensor
    value_scale: Tensor

    def __init__(self, n_levels: Sequence[int] = (), n_values: int = 0, n_added: int = 0) -> None:
        super().__init__()
        self.n_levels = tuple(n_levels)
        self.n_added = n_added
        self.widths = tuple(n if n > 1 else 0 for n in self.n_levels)
        self.n_learned = sum(self.widths) + n_values
        self.n_columns = self.n_learned + n_added
        shares = [torch.full((n,), 1 / n) for n in self.widths if n]
        self.register_buffer("mean", torch.cat([*shares, torch.zeros(n_values)]))
        self.register_buffer("value_mean", torch.zeros(n_values))
        self.register_buffer("value_scale", torch.ones(n_values))

    @torch.no_grad()
    def fit(self, covariates: Tensor) -> None:
        """Set means and scales from the covariates of training cells, in the form that :meth:`forward` takes."""
        if self.value_mean.numel():
            values = covariates[:, len(self.n_levels) :].double()
            std = values.std(dim=0, correction=0)
            self.value_mean.copy_(values.mean(dim=0))
            self.value_scale.copy_(torch.where(std > 0, 1 / std, 0.0))
        self.mean.copy_(self(covariates)[:, : self.n_learned].double().mean(dim=0))

    def forward(self, covariates: Tensor) -> Tensor:
        """Return the design, shape ``(n_cells, n_columns)``.

        Parameters
        ----------
        covariates
            The number of each category's level, in the order of the categories, and the continuous covariates in their own units beside it,
            shape ``(n_cells, n_categories + n_values)``. Added batches have the numbers after those of the others.
        """
        n_categories = len(self.n_levels)
        parts = [_indicate(covariates[:, i], 0, n) for i, n in enumerate(self.widths) if n]
        if covariates.shape[1] > n_categories:
            parts.append((covariates[:, n_categories:] - self.value_mean) * self.value_scale)
        if self.n_added:
            parts.append(_indicate(covariates[:, 0], self.n_levels[0], self.n_added))
        if not parts:
            return covariates.new_zeros(len(covariates), 0, dtype=self.mean.dtype)
        return torch.cat(parts, dim=1).to(self.mean.dtype)

    def learned(self, design: Tensor) -> Tensor:
        """Return the columns that the model learned from, shape ``(n_cells, n_learned)``; cells of added batches have the mean batch."""
        known, n = design[:, : self.n_learned], self.widths[0] if self.widths else 0
        if not (self.n_added and n):
            return known
        is_added = design[:, self.n_learned :].sum(dim=1, keepdim=True)
        return torch.cat([known[:, :n] + is_added * self.mean[:n], known[:, n:]], dim=1)

    def average(self, n_cells: int) -> Tensor:
        """Return the columns of cells of no certain covariates, shape ``(n_cells, n_learned)``."""
        return self.mean.expand(n_cells, -1)

    def find_same(self, design: Tensor) -> Tensor:
        """Return which cells have the levels of which in all categories, shape ``(n_cells, n_cells)``."""
        levels = design[:, : sum(self.widths)]
        return levels @ levels.T > sum(n > 0 for n in self.widths) - 0.5

    def center(self, offsets: Tensor) -> Tensor:
        """Return offsets, shape ``(..., n_learned, n_features)``, whose mean over training cells is 0 in each category."""
        parts = offsets.split([*self.widths, self.n_learned - sum(self.widths)], dim=-2)
        shares = self.mean.to(offsets).split([*self.widths, self.n_learned - sum(self.widths)])
        centered = [
            x - (share @ x).unsqueeze(-2) if n else x
            for x, share, n in zip(parts[:-1], shares, self.widths, strict=False)
        ]
        return torch.cat([*centered, parts[-1]], dim=-2)


def _indicate(numbers: Tensor, first: int, n: int) -> Tensor:
    """Return indicators of ``n`` levels from the number ``first`` on, shape ``(n_cells, n)``."""
    return (numbers[:, None] == torch.arange(first, first + n, device=numbers.device)).float()


class Offsets(NamedTuple):
    """What covariates add to the features of one modality.

    Parameters
    ----------
    overall
        Whatever the state of a cell, shape ``(n_columns, n_features)``.
    states
        Mean features of the cell states, without what covariates add, shape ``(n_states, n_features)``.
    of_states
        In each state beside that, shape ``(n_states, n_columns, n_features)``.
    spread
        Mean squared distance of a cell from its state.
    """

    overall: Tensor
    states: Tensor
    of_states: Tensor
    spread: float


class CovariateOffsets(nn.Module):
    r"""Subtracts from the features of a cell what its covariates add to those of cells of its state; nothing until :meth:`set` says how much.

    .. math::

        x - \Big(\beta + \sum_k r_k(x)\, \gamma_k\Big)^\top d , \qquad
        r_k(x) \propto \exp\big(- \| x - (\beta + \gamma_k)^\top d - \mu_k \|^2 / \sigma^2 \big)

    for a cell with covariates :math:`d`, states :math:`\mu_k`, overall offsets :math:`\beta` and those of states :math:`\gamma_k`: the form of Harmony's and
    Symphony's corrections (Korsunsky et al. 2019, Nature Methods 16, 1289; Kang et al. 2021, Nature Communications 12, 5890). It is a function of one
    modality's features alone, so new cells need no fit and no other modality.

    Parameters
    ----------
    n_columns
        Number of columns of the design.
    n_features
        Number of features.
    """

    overall: Tensor
    states: Tensor
    """As in :class:`Offsets`, shape ``(N_STATES, n_features)``; infinite where there are fewer."""
    of_states: Tensor
    spread: Tensor

    def __init__(self, n_columns: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("overall", torch.zeros(n_columns, n_features))
        self.register_buffer("states", torch.full((N_STATES, n_features), math.inf))
        self.register_buffer("of_states", torch.zeros(N_STATES, n_columns, n_features))
        self.register_buffer("spread", torch.ones(()))

    @torch.no_grad()
    def set(self, offsets: Offsets) -> None:
        """Take over offsets of the first columns; those of others are 0."""
        n_states, n_columns, _ = offsets.of_states.shape
        self.overall.zero_()[:n_columns] = offsets.overall
        self.states.fill_(math.inf)[:n_states] = offsets.states
        self.of_states.zero_()[:n_states, :n_columns] = offsets.of_states
        self.spread.fill_(offsets.spread)

    def forward(self, features: Tensor, design: Tensor) -> Tensor:
        """Subtract the offsets from features, shape ``(n_cells, n_features)``, of cells with covariates of shape ``(n_cells, n_columns)``."""
        if not design.shape[1]:
            return features
        return map_parts(self._subtract, features, design, at_once=CELLS_AT_ONCE)

    def add(self, features: Tensor, design: Tensor) -> Tensor:
        """Add the offsets to features that are without them, shape ``(n_cells, n_features)``."""
        if not design.shape[1]:
            return features
        return map_parts(self._add, features, design, at_once=CELLS_AT_ONCE)

    def _subtract(self, features: Tensor, design: Tensor) -> Tensor:
        features, by_state = features - design @ self.overall, self._of_states(design)
        return features - self._average(by_state, features[:, None] - by_state)

    def _add(self, features: Tensor, design: Tensor) -> Tensor:
        return features + design @ self.overall + self._average(self._of_states(design), features[:, None])

    def _of_states(self, design: Tensor) -> Tensor:
        """Offsets of the states beside the overall ones, shape ``(n_cells, N_STATES, n_features)``."""
        return torch.einsum("nw,kwf->nkf", design, self.of_states)

    def _average(self, by_state: Tensor, corrected: Tensor) -> Tensor:
        """Offsets of the state of each cell, by how near the features are to each state."""
        is_state = self.states.isfinite().all(dim=1)
        # Not by an infinite distance, which has no gradient.
        states = torch.where(is_state[:, None], self.states, 0.0)
        distance = torch.where(is_state, (corrected - states).square().sum(dim=2), FARTHEST)
        shares = torch.softmax(-distance / self.spread, dim=1)
        return torch.einsum("nk,nkf->nf", shares, by_state)
