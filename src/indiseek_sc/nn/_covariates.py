"""Batches and other covariates of cells: their design matrix and their effects on features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from indiseek_sc._settings import settings
from indiseek_sc.nn._parts import map_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

N_STATES = 20
"""Largest number of cell states for which covariate effects are estimated."""

ABSENT_STATE_DISTANCE = 1e30
"""Squared distance assigned to states that do not exist."""


def _at_once() -> int:
    """Return a quarter of the usual number of cells, since each has a distance to every state."""
    return max(1, settings.cells_at_once // 4)


class CovariateDesign(nn.Module):
    """Convert covariates of cells to a design matrix of indicators and standardised values.

    Each level of a category has an indicator column. A category with a single level has no column,
    since it cannot explain any variance. Continuous covariates are standardised.

    Parameters
    ----------
    n_levels
        Number of levels of each category in the training data. The first category is the batch.
    n_values
        Number of continuous covariates.
    n_added
        Number of additional batches that were not part of the training data. Their columns come
        last.

    Examples
    --------
    >>> from indiseek_sc.nn import CovariateDesign
    >>> design = CovariateDesign(n_levels=(2,))
    >>> design(torch.tensor([[0.0], [1.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    mean: Tensor
    """Mean of each learned column over the training cells, shape ``(n_learned,)``.

    For indicators this is the share of cells with the level.
    """
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
        """Set means and scales from covariates of training cells, as given to :meth:`forward`."""
        if self.value_mean.numel():
            values = covariates[:, len(self.n_levels) :].double()
            std = values.std(dim=0, correction=0)
            self.value_mean.copy_(values.mean(dim=0))
            self.value_scale.copy_(torch.where(std > 0, 1 / std, 0.0))
        self.mean.copy_(self(covariates)[:, : self.n_learned].double().mean(dim=0))

    def forward(self, covariates: Tensor) -> Tensor:
        """Return the design matrix, shape ``(n_cells, n_columns)``.

        Parameters
        ----------
        covariates
            Level numbers of each category, followed by the continuous covariates in their original
            units, shape ``(n_cells, n_categories + n_values)``. Added batches are numbered after
            the batches of the training data.
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
        """Return the columns used in training, shape ``(n_cells, n_learned)``.

        Cells of added batches have the mean of the training batches.
        """
        learned, n = design[:, : self.n_learned], self.widths[0] if self.widths else 0
        if not (self.n_added and n):
            return learned
        is_added = design[:, self.n_learned :].sum(dim=1, keepdim=True)
        return torch.cat([learned[:, :n] + is_added * self.mean[:n], learned[:, n:]], dim=1)

    def average(self, n_cells: int) -> Tensor:
        """Return the mean of each learned column in training, repeated for each cell.

        The shape is ``(n_cells, n_learned)``.
        """
        return self.mean.expand(n_cells, -1)

    def find_same(self, design: Tensor) -> Tensor:
        """Return which cells agree in all categories, shape ``(n_cells, n_cells)``."""
        levels = design[:, : sum(self.widths)]
        return levels @ levels.T > sum(n > 0 for n in self.widths) - 0.5

    def center(self, offsets: Tensor) -> Tensor:
        """Return offsets whose mean over the training cells is 0 in each category.

        Parameters
        ----------
        offsets
            Offsets, shape ``(..., n_learned, n_features)``.
        """
        parts = offsets.split([*self.widths, self.n_learned - sum(self.widths)], dim=-2)
        shares = self.mean.to(offsets).split([*self.widths, self.n_learned - sum(self.widths)])
        centered = [
            x - (share @ x).unsqueeze(-2) if n else x
            for x, share, n in zip(parts[:-1], shares, self.widths, strict=False)
        ]
        return torch.cat([*centered, parts[-1]], dim=-2)


def _indicate(numbers: Tensor, first: int, n: int) -> Tensor:
    """Return indicators of ``n`` levels, numbered from ``first``, shape ``(n_cells, n)``."""
    return (numbers[:, None] == torch.arange(first, first + n, device=numbers.device)).float()


class Offsets(NamedTuple):
    """Additive effects of covariates on the features of one modality.

    Parameters
    ----------
    overall
        Effects common to all cells, shape ``(n_columns, n_features)``.
    states
        Mean features of the cell states after subtraction of the covariate effects, shape
        ``(n_states, n_features)``.
    of_states
        Additional effects in each state, shape ``(n_states, n_columns, n_features)``.
    spread
        Mean squared distance of a cell from its state.
    """

    overall: Tensor
    states: Tensor
    of_states: Tensor
    spread: float


class CovariateOffsets(nn.Module):
    r"""Subtract additive covariate effects, which depend on the cell state, from features.

    .. math::

        x - \Big(\beta + \sum_k r_k(x)\, \gamma_k\Big)^\top d , \qquad
        r_k(x) \propto \exp\big(- \| x - (\beta + \gamma_k)^\top d - \mu_k \|^2 / \sigma^2 \big)

    for a cell with covariates :math:`d`, states :math:`\mu_k`, overall effects :math:`\beta` and
    additional effects :math:`\gamma_k` of the states. The correction has the form of Harmony [1]_
    and Symphony [2]_. It is a function of the features of one modality, so new cells require
    neither a fit nor the other modality. Before :meth:`set` is called, all effects are 0.

    Parameters
    ----------
    n_columns
        Number of columns of the design matrix.
    n_features
        Number of features.

    References
    ----------
    .. [1] Korsunsky et al. Fast, sensitive and accurate integration of single-cell data with
       Harmony. Nature Methods 16, 1289 (2019).
    .. [2] Kang et al. Efficient and precise single-cell reference atlas mapping with Symphony.
       Nature Communications 12, 5890 (2021).

    Examples
    --------
    >>> from indiseek_sc.nn import CovariateOffsets, Offsets
    >>> offsets = CovariateOffsets(n_columns=2, n_features=1)
    >>> effects = torch.tensor([[1.0], [-1.0]])  # of two batches
    >>> offsets.set(Offsets(effects, torch.zeros(1, 1), torch.zeros(1, 2, 1), spread=1.0))
    >>> offsets(torch.tensor([[6.0], [4.0]]), torch.eye(2)).tolist()
    [[5.0], [5.0]]
    """

    overall: Tensor
    states: Tensor
    """As in :class:`Offsets`, shape ``(N_STATES, n_features)``; infinite if not in use."""
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
        """Set the effects of the first columns; those of the remaining columns become 0."""
        n_states, n_columns, _ = offsets.of_states.shape
        self.overall.zero_()[:n_columns] = offsets.overall
        self.states.fill_(math.inf)[:n_states] = offsets.states
        self.of_states.zero_()[:n_states, :n_columns] = offsets.of_states
        self.spread.fill_(offsets.spread)

    def forward(self, features: Tensor, design: Tensor) -> Tensor:
        """Return features without covariate effects, shape ``(n_cells, n_features)``.

        Parameters
        ----------
        features
            Features, shape ``(n_cells, n_features)``.
        design
            Design matrix of the same cells, shape ``(n_cells, n_columns)``.
        """
        if not design.shape[1]:
            return features
        return map_parts(self._subtract, features, design, at_once=_at_once())

    def add(self, features: Tensor, design: Tensor) -> Tensor:
        """Add covariate effects to features without them, shape ``(n_cells, n_features)``."""
        if not design.shape[1]:
            return features
        return map_parts(self._add, features, design, at_once=_at_once())

    def _subtract(self, features: Tensor, design: Tensor) -> Tensor:
        features, by_state = features - design @ self.overall, self._of_states(design)
        return features - self._average(by_state, features[:, None] - by_state)

    def _add(self, features: Tensor, design: Tensor) -> Tensor:
        return features + design @ self.overall + self._average(self._of_states(design), features[:, None])

    def _of_states(self, design: Tensor) -> Tensor:
        """Return the effects in each state, shape ``(n_cells, N_STATES, n_features)``."""
        return torch.einsum("nw,kwf->nkf", design, self.of_states)

    def _average(self, by_state: Tensor, corrected: Tensor) -> Tensor:
        """Return the mean effect over states, weighted by proximity to each state."""
        is_state = self.states.isfinite().all(dim=1)
        # A finite distance is used because gradients through an infinite one are undefined.
        states = torch.where(is_state[:, None], self.states, 0.0)
        distance = torch.where(is_state, (corrected - states).square().sum(dim=2), ABSENT_STATE_DISTANCE)
        shares = torch.softmax(-distance / self.spread, dim=1)
        return torch.einsum("nk,nkf->nf", shares, by_state)
