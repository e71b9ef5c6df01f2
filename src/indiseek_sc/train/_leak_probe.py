"""What a freshly fitted regression reads of the other modality's shared code, while the specific codes are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from indiseek_sc._keys import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

N_FOURIER_FEATURES = 512
MOST_CELLS = 4096
"""Cells to fit on, and to read figures on; more would tell little that is new."""

PENALTIES = torch.logspace(-3, 1, 9, dtype=torch.float64)
"""To choose from, in units of the mean variance of a feature."""


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
    r"""Share of the variance of ``target`` that ``source`` tells of cells that were not fitted on.

    By a ridge regression on the columns of the source, standardised to :math:`x \in R^d`, and on random Fourier features
    :math:`\cos(w^\top x + b)` with :math:`w \sim N(0, I / d)`, which stand for a Gaussian kernel as wide as the typical distance between two cells is long
    (Rahimi and Recht 2007, NIPS 20, 1177). The penalty is that of several which tells most.

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
    source, target = _standardized(source, n_fit), target.double() - target[:n_fit].double().mean(dim=0)
    features = _standardized(torch.cat([source, _fourier_features(source, seed)], dim=1), n_fit)
    fitted, judged = features[:n_fit], features[n_fit:]
    width, directions = torch.linalg.eigh(fitted.T @ fitted / n_fit)
    told = directions.T @ (fitted.T @ target[:n_fit] / n_fit)
    shrunk = told / (width.clamp(min=0) + PENALTIES.to(width.device)[:, None])[:, :, None]
    errors = (target[n_fit:] - judged @ directions @ shrunk).square().sum(dim=(1, 2))
    total = target[n_fit:].square().sum()
    return 1 - errors.min() / total if total > 0 else total


def _standardized(x: Tensor, n_fit: int) -> Tensor:
    x = x.double() - x[:n_fit].double().mean(dim=0)
    deviation = x[:n_fit].std(dim=0, correction=0)
    return x / torch.where(deviation > 1e-6, deviation, torch.inf)


def _fourier_features(source: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    n_source = source.shape[1]
    weight = torch.randn(n_source, N_FOURIER_FEATURES, generator=generator, dtype=torch.float64) / n_source**0.5
    phase = 2 * torch.pi * torch.rand(N_FOURIER_FEATURES, generator=generator, dtype=torch.float64)
    return torch.cos(source @ weight.to(source.device) + phase.to(source.device))
