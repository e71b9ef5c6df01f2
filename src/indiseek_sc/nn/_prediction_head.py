"""Prediction of one vector from another, with how sure it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.nn._dropout import drop
from indiseek_sc.nn._ensemble_linear import EnsembleLinear

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
        deviation = x.std(dim=0, correction=0)
        self.center.copy_(x.mean(dim=0))
        self.scale.copy_(torch.where(deviation > FLAT, 1 / deviation.clamp(min=FLAT), 0.0))
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
        surprise = (error.detach() * (-log_scale).exp()).square() / 2 + log_scale
        return ((error.square() + surprise) * varies).mean()
