"""What a freshly fitted regression reads of the other modality's shared code, while the specific codes are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from indiseek_sc._keys import ROLES
from indiseek_sc.nn import FourierRegression

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

MOST_CELLS = 4096
"""Cells to fit on, and to read figures on; more would tell little that is new."""


class LeakProbe:
    """A judge that stands beside the critics: it is fitted anew whenever it is asked, so that no code can have learned to evade it.

    Critics that train along are poor judges of what they taught. Where encoders have come to evade critics that overfit, a code leaks more than
    at its start while bounds on the training cells fall.

    Parameters
    ----------
    cells
        What :meth:`~indiseek_sc.module.IndiSeekModule.prepare_specific` returns, by role.
    train, validation
        Row numbers to fit on and to read the figure on; at most 4,096 of each are drawn.
    seed
        Decides the draw and the random features.
    """

    def __init__(
        self,
        cells: Mapping[Role, Mapping[str, Tensor]],
        train: np.ndarray,
        validation: np.ndarray,
        *,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            torch.from_numpy(rows)[torch.randperm(rows.size, generator=generator)[:MOST_CELLS]]
            for rows in (train, validation)
        ]
        self.n_fit = len(drawn[0])
        rows = torch.cat(drawn)
        self.cells = {role: {name: x[rows.to(x.device)] for name, x in cells[role].items()} for role in ROLES}

    @torch.no_grad()
    def __call__(self, module: IndiSeekModule) -> dict[str, Tensor]:
        """Return ``<role>_leak`` of the codes as they are: see :func:`share_told`. The module should be in evaluation mode."""
        return {
            f"{role}_leak": share_told(
                module.encode_prepared(role, self.cells[role]), self.cells[role]["against"], self.n_fit, seed=self.seed
            )
            for role in ROLES
        }


@torch.no_grad()
def share_told(source: Tensor, target: Tensor, n_fit: int, *, seed: int = 0) -> Tensor:
    """Share of the variance of ``target`` that ``source`` tells of cells that were not fitted on.

    By a :class:`~indiseek_sc.nn.FourierRegression`, at the penalty which tells most of these cells.

    Parameters
    ----------
    source
        Shape ``(n_cells, n_source)``; constant columns tell nothing.
    target
        Shape ``(n_cells, n_target)``; columns weigh by their variance.
    n_fit
        The first so many cells are fitted on, the others judged by.
    seed
        Seed of the features: the same for codes that are compared.

    Returns
    -------
    Scalar, at most 1; below 0 where even the largest penalty misleads, 0 where the target does not vary.
    """
    source, target = source.double(), target.double()
    regression = FourierRegression(source.shape[1], target.shape[1], seed=seed).to(source)
    regression.fit(source, target, n_fit)
    missed = (target - regression(source))[n_fit:].square().sum()
    total = (target[n_fit:] - target[:n_fit].mean(dim=0)).square().sum()
    return 1 - missed / total if total > 0 else total
