"""Prediction with an uncertainty: an ensemble of networks, and intervals calibrated on held-out cells."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.nn._networks import EnsembleLinear, drop

LOG_SCALE_LIMIT = 4.0
"""How far, in nats, a deviation may move from the overall one."""

FLAT = 1e-6
"""A column with a smaller standard deviation is constant."""

FARTHEST = 10.0
"""Inputs are read up to so many standard deviations from their mean, so that a cell unlike all others is not extrapolated to."""


class PredictionHead(nn.Module):
    r"""An ensemble of networks for the mean and the standard deviation of each column of :math:`y`, given :math:`x`.

    It starts as the overall mean and deviation. The mean learns by least squares, in units of the overall deviations. The deviation
    learns by the Gaussian likelihood of what the mean leaves, from hidden units that it reads and does not change: the likelihood of both
    at once lets the mean give up where it fits badly (Seitzer et al. 2022). Of the ensemble,

    .. math::

        \mu = \frac1K \sum_k \mu_k, \qquad
        \sigma^2 = \frac1K \sum_k \sigma_k^2 + \frac1K \sum_k (\mu_k - \mu)^2,

    what varies by itself, and what the members do not agree on (Lakshminarayanan et al. 2017).

    Parameters
    ----------
    n_input
        Columns of :math:`x`.
    n_output
        Columns of :math:`y`.
    n_hidden
        Width of the two hidden layers.
    dropout
        Share of hidden units dropped in training.
    n_members
        Number of networks.
    """

    center: Tensor
    scale: Tensor
    overall_mean: Tensor
    overall_scale: Tensor

    def __init__(
        self, n_input: int, n_output: int, n_hidden: int = 256, *, dropout: float = 0.4, n_members: int = 3
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.dropout = dropout
        self.layers = nn.ModuleList(
            [EnsembleLinear(n_members, n_input, n_hidden), EnsembleLinear(n_members, n_hidden, n_hidden)]
        )
        self.mean = EnsembleLinear(n_members, n_hidden, n_output, start_at_zero=True)
        self.log_scale = EnsembleLinear(n_members, n_hidden, n_output, start_at_zero=True)
        self.register_buffer("center", torch.zeros(n_input))
        self.register_buffer("scale", torch.ones(n_input))
        self.register_buffer("overall_mean", torch.zeros(n_output))
        self.register_buffer("overall_scale", torch.ones(n_output))

    @torch.no_grad()
    def start_from(self, x: Tensor, y: Tensor) -> None:
        """Begin anew on training cells, shapes ``(n_cells, n_input)`` and ``(n_cells, n_output)``.

        Constant columns of ``x`` are not read; of constant columns of ``y`` the constant is predicted, with deviation 0.
        """
        for layer in (*self.layers, self.mean, self.log_scale):
            layer.reset()
        std = x.std(dim=0, correction=0)
        self.center.copy_(x.mean(dim=0))
        self.scale.copy_(torch.where(std > FLAT, 1 / std.clamp(min=FLAT), 0.0))
        spread = y.std(dim=0, correction=0)
        self.overall_mean.copy_(y.mean(dim=0))
        self.overall_scale.copy_(torch.where(spread > FLAT, spread, 0.0))

    def members(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each member says in units of the overall deviations, shape ``(n_members, n_cells, n_output)`` both.

        Mean, from the overall mean, and logarithm of the deviation.
        """
        standardized = ((x - self.center) * self.scale).clamp(-FARTHEST, FARTHEST)
        hidden = standardized.expand(self.n_members, *standardized.shape)
        for layer in self.layers:
            hidden = drop(F.silu(layer(hidden)), self.dropout, self.training)
        return self.mean(hidden), self.log_scale(hidden.detach()).clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, shape ``(n_cells, n_output)`` both."""
        mean, log_scale = self.members(x)
        variance = (2 * log_scale).exp().mean(dim=0) + mean.var(dim=0, correction=0)
        return self.overall_mean + mean.mean(dim=0) * self.overall_scale, variance.sqrt() * self.overall_scale

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared error in units of the overall variances, of the ensemble.

        In training that of the members, and the negative log-likelihood that their deviations learn by beside it. What counts when
        weights are chosen is the error: how wide deviations are is set afterwards, on cells that were not learnt from.
        """
        varies = self.overall_scale > 0
        target = torch.where(varies, (y - self.overall_mean) / self.overall_scale.clamp(min=FLAT), 0.0)
        mean, log_scale = self.members(x)
        if not self.training:
            return (target - mean.mean(dim=0)).square().mul(varies).mean()
        error = target - mean
        negative_log_likelihood = (error.detach() * (-log_scale).exp()).square() / 2 + log_scale
        return ((error.square() + negative_log_likelihood) * varies).mean()


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
    def fit(self, error: Tensor, std: Tensor) -> None:
        """Set from errors and predicted deviations, shape ``(n_cells, n_columns)`` both.

        A column without deviations, which is constant, keeps them, and its intervals have no width.
        """
        varies = (std > 0).all(dim=0)
        self.scale.fill_(1.0)
        self.typical.copy_(torch.where(varies, std.clamp(min=TINY).log().mean(dim=0).exp(), 1.0))
        surprises = []
        for power in POWERS:
            self.power.fill_(power)
            # With scaled deviations all squares have mean 1, so what is left of the likelihood is their size.
            size = self._find_scale(error, std)
            surprises.append(float((size.log() * varies).sum()))
        self.power.fill_(POWERS[min(range(len(POWERS)), key=surprises.__getitem__)])
        self.scale.copy_(torch.where(varies, self._find_scale(error, std), 1.0))
        ordered = (error.abs() / self(std).clamp(min=TINY) * varies).sort(dim=0).values
        ranks = [min(math.ceil(round((len(error) + 1) * level, 6)), len(error)) for level in LEVELS]
        self.half_widths.copy_(ordered[torch.tensor(ranks, device=ordered.device) - 1])

    def _find_scale(self, error: Tensor, std: Tensor) -> Tensor:
        return (error / self._even_out(std).clamp(min=TINY)).square().mean(dim=0).sqrt().clamp(min=TINY)

    def _even_out(self, std: Tensor) -> Tensor:
        changed = self.typical * (std / self.typical).pow(self.power)
        return torch.where(std > 0, changed, 0.0)

    def forward(self, std: Tensor) -> Tensor:
        """Return standard deviations, shape ``(n_cells, n_columns)``, of predicted ones."""
        return self._even_out(std) * self.scale
