"""Distribution of one vector given another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.nn._dropout import drop
from indiseek_sc.nn._ensemble_linear import EnsembleLinear
from indiseek_sc.nn._whitening import Whitening, below_diagonal

LOG_SCALE_LIMIT = 4.0
"""How far, in nats, a conditional scale may move from the overall one."""


class ConditionalGaussian(nn.Module):
    r"""An ensemble of networks for :math:`y \mid c \sim N(\mu(c), \Sigma(c))`, with a full covariance.

    It starts as the unconditional distribution of independent columns, mean 0 and the overall scale, and learns how means,
    scales and correlations depend on :math:`c`. What the members say is averaged, which evens out what each of them overfits.

    Parameters
    ----------
    n_condition
        Columns of the condition.
    n_output
        Columns of the vector.
    n_hidden
        Width of the two hidden layers.
    dropout
        Share of hidden units dropped in training.
    n_members
        Number of networks.
    """

    overall_log_scale: Tensor
    varies: Tensor

    def __init__(
        self, n_condition: int, n_output: int, n_hidden: int = 128, *, dropout: float = 0.2, n_members: int = 3
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.dropout = dropout
        self.sizes = [n_output, n_output, below_diagonal(n_output)[0].numel()]
        self.layers = nn.ModuleList(
            [EnsembleLinear(n_members, n_condition, n_hidden), EnsembleLinear(n_members, n_hidden, n_hidden)]
        )
        self.output = EnsembleLinear(n_members, n_hidden, sum(self.sizes), start_at_zero=True)
        self.register_buffer("overall_log_scale", torch.zeros(n_output))
        self.register_buffer("varies", torch.ones(n_output))

    @torch.no_grad()
    def start_from(self, values: Tensor) -> None:
        """Set the overall scale from training values, shape ``(n_cells, n_output)``; constant columns take no part."""
        deviation = values.std(dim=0, correction=0)
        self.varies.copy_(deviation > 1e-6)
        self.overall_log_scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0).log())

    def members(self, condition: Tensor) -> Whitening:
        """Return what each member says, in tensors with ``(n_members, n_cells)`` in front."""
        hidden = condition.expand(self.n_members, *condition.shape)
        for layer in self.layers:
            hidden = drop(F.silu(layer(hidden)), self.dropout, self.training)
        mean, change, mixing = self.output(hidden).split(self.sizes, dim=2)
        rows, columns = below_diagonal(mean.shape[-1], mixing.device)
        return Whitening(
            # Means are learned in units of the overall scale, so that one learning rate serves wide and narrow dimensions.
            mean * self.overall_log_scale.exp() * self.varies,
            self.overall_log_scale + change.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT) * self.varies,
            mixing * self.varies[rows] * self.varies[columns],
        )

    def forward(self, condition: Tensor) -> Whitening:
        """Return what the ensemble says of each cell."""
        return Whitening(*(values.mean(dim=0) for values in self.members(condition)))

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood, up to a constant, summed over dimensions: the members' mean in training, else the ensemble's."""
        whitening = self.members(condition) if self.training else self(condition)
        return whitening.negative_log_likelihood(values * self.varies).mean()
