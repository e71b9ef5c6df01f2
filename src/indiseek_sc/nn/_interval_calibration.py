"""Deviations and intervals that are right on cells they were not learnt from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LEVELS = (*(step / 20 for step in range(1, 20)), 0.99)
"""Shares of cells that intervals are noted for; between them widths are interpolated."""


class IntervalCalibration(nn.Module):
    r"""Says how predicted deviations relate to errors, column by column, from cells that the prediction was not learnt from.

    With errors :math:`e` and predicted deviations :math:`d` of :math:`n` such cells, the scale is the root mean square of
    :math:`e / d`, so that scaled deviations are standard deviations. The half width of an interval that holds a share
    :math:`a` is, in scaled deviations, the :math:`\lceil (n + 1) a \rceil`-th smallest :math:`|e| / d` (split conformal
    prediction, Lei et al. 2018), which asks for no shape of the errors. New cells lie inside at least as often as :math:`a`
    says if they are exchangeable with these; cells of a new donor or batch need not be.

    Parameters
    ----------
    n_columns
        Columns of what is predicted.
    """

    scale: Tensor
    half_widths: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(n_columns))
        self.register_buffer("half_widths", torch.zeros(len(LEVELS), n_columns))

    @torch.no_grad()
    def fit(self, error: Tensor, deviation: Tensor) -> None:
        """Set from errors and predicted deviations, shape ``(n_cells, n_columns)`` both.

        A column without deviations, which is constant, has a scale of 1 and intervals of width 0.
        """
        ratio = torch.where(deviation > 0, error / deviation.clamp(min=torch.finfo(deviation.dtype).tiny), 0.0)
        scale = ratio.square().mean(dim=0).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        self.scale.copy_(scale)
        ordered = (ratio / scale).abs().sort(dim=0).values
        ranks = [min(math.ceil(round((len(ratio) + 1) * level, 6)), len(ratio)) for level in LEVELS]
        self.half_widths.copy_(ordered[torch.tensor(ranks, device=ratio.device) - 1])

    def forward(self, deviation: Tensor) -> Tensor:
        """Return standard deviations, shape ``(n_cells, n_columns)``, of predicted ones."""
        return deviation * self.scale
