"""Deviations and intervals that are right on cells they were not learnt from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of what deviations differ among cells may be kept."""

LEVELS = (*(step / 20 for step in range(1, 20)), 0.99)
"""Shares of cells that intervals are noted for; between them widths are interpolated."""

TINY = 1e-12


class IntervalCalibration(nn.Module):
    r"""Says how predicted deviations relate to errors, column by column, from cells that the prediction was not learnt from.

    A network that learnt from few cells may let deviations differ more among cells than errors do. So of a predicted deviation
    :math:`d` with geometric mean :math:`\bar d` in its column, :math:`d' = \bar d\,(d / \bar d)^p` is taken, with the :math:`p` (one
    for all columns) under which the errors are most likely; 0 is a constant. The scale is the root mean square of :math:`e / d'` over
    errors :math:`e`, so that scaled deviations are standard deviations. The half width of an interval that holds a share
    :math:`a` is, in scaled deviations, the :math:`\lceil (n + 1) a \rceil`-th smallest :math:`|e| / d'` of :math:`n` cells (split
    conformal prediction, Lei et al. 2018), which asks for no shape of the errors. New cells lie inside about as often as
    :math:`a` says if they are exchangeable with these; cells of a new donor or batch need not be.

    Parameters
    ----------
    n_columns
        Columns of what is predicted.
    """

    typical: Tensor
    power: Tensor
    scale: Tensor
    half_widths: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("typical", torch.ones(n_columns))
        self.register_buffer("power", torch.ones(()))
        self.register_buffer("scale", torch.ones(n_columns))
        self.register_buffer("half_widths", torch.zeros(len(LEVELS), n_columns))

    @torch.no_grad()
    def fit(self, error: Tensor, deviation: Tensor) -> None:
        """Set from errors and predicted deviations, shape ``(n_cells, n_columns)`` both.

        A column without deviations, which is constant, keeps them, and its intervals have no width.
        """
        varies = (deviation > 0).all(dim=0)
        self.scale.fill_(1.0)
        self.typical.copy_(torch.where(varies, deviation.clamp(min=TINY).log().mean(dim=0).exp(), 1.0))
        surprises = []
        for power in POWERS:
            self.power.fill_(power)
            # With scaled deviations all squares have mean 1, so what is left of the likelihood is their size.
            size = self._find_scale(error, deviation)
            surprises.append(float((size.log() * varies).sum()))
        self.power.fill_(POWERS[min(range(len(POWERS)), key=surprises.__getitem__)])
        self.scale.copy_(torch.where(varies, self._find_scale(error, deviation), 1.0))
        ordered = (error.abs() / self(deviation).clamp(min=TINY) * varies).sort(dim=0).values
        ranks = [min(math.ceil(round((len(error) + 1) * level, 6)), len(error)) for level in LEVELS]
        self.half_widths.copy_(ordered[torch.tensor(ranks, device=ordered.device) - 1])

    def _find_scale(self, error: Tensor, deviation: Tensor) -> Tensor:
        return (error / self._even_out(deviation).clamp(min=TINY)).square().mean(dim=0).sqrt().clamp(min=TINY)

    def _even_out(self, deviation: Tensor) -> Tensor:
        changed = self.typical * (deviation / self.typical).pow(self.power)
        return torch.where(deviation > 0, changed, 0.0)

    def forward(self, deviation: Tensor) -> Tensor:
        """Return standard deviations, shape ``(n_cells, n_columns)``, of predicted ones."""
        return self._even_out(deviation) * self.scale
