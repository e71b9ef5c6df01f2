"""Mean and scale of one vector given another."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_SCALE_LIMIT = 4.0
"""How far, in nats, a conditional scale may move from the overall one."""


class EnsembleLinear(nn.Module):
    """Linear layers of several networks in one batched product, which is several times faster than one after another.

    Parameters
    ----------
    n_members
        Number of networks.
    n_input
        Input columns.
    n_output
        Output columns.
    start_at_zero
        Start with weights and biases of 0.
    """

    def __init__(self, n_members: int, n_input: int, n_output: int, *, start_at_zero: bool = False) -> None:
        super().__init__()
        limit = 0.0 if start_at_zero else 1 / math.sqrt(n_input)  # as in torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(n_members, n_input, n_output).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_output).uniform_(-limit, limit))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n_members, n_cells, n_input)`` to ``(n_members, n_cells, n_output)``."""
        return torch.baddbmm(self.bias, x, self.weight)


class ConditionalGaussian(nn.Module):
    r"""An ensemble of networks for :math:`y \mid c \sim N(\mu(c), \operatorname{diag}\sigma^2(c))`.

    It starts as the unconditional distribution, mean 0 and the overall scale, and learns how both depend on :math:`c`. The
    members' means and log-scales are averaged, which evens out what each of them overfits.

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
        self, n_condition: int, n_output: int, n_hidden: int = 128, *, dropout: float = 0.1, n_members: int = 3
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.dropout = dropout
        self.layers = nn.ModuleList(
            [EnsembleLinear(n_members, n_condition, n_hidden), EnsembleLinear(n_members, n_hidden, n_hidden)]
        )
        self.output = EnsembleLinear(n_members, n_hidden, 2 * n_output, start_at_zero=True)
        self.register_buffer("overall_log_scale", torch.zeros(n_output))
        self.register_buffer("varies", torch.ones(n_output))

    @torch.no_grad()
    def start_from(self, values: Tensor) -> None:
        """Set the overall scale from training values, shape ``(n_cells, n_output)``; constant columns take no part."""
        deviation = values.std(dim=0, correction=0)
        self.varies.copy_(deviation > 1e-6)
        self.overall_log_scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0).log())

    def _moments(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return each member's mean and log-scale, shapes ``(n_members, n_cells, n_output)``."""
        hidden = condition.expand(self.n_members, *condition.shape)
        for layer in self.layers:
            hidden = F.dropout(F.silu(layer(hidden)), self.dropout, self.training)
        mean, change = self.output(hidden).chunk(2, dim=2)
        # Means are learned in units of the overall scale, so that one learning rate serves wide and narrow dimensions.
        log_scale = self.overall_log_scale + change.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
        return mean * self.overall_log_scale.exp() * self.varies, log_scale

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-scale of the ensemble, each of shape ``(n_cells, n_output)``."""
        mean, log_scale = self._moments(condition)
        return mean.mean(dim=0), log_scale.mean(dim=0)

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Mean over members of their negative log-likelihood, up to a constant, summed over dimensions."""
        return self._loss(values, *self._moments(condition))

    def ensemble_loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood of the ensemble, up to a constant, summed over dimensions."""
        return self._loss(values, *self(condition))

    def _loss(self, values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        loss = ((values - mean) / log_scale.exp()).square() / 2 + log_scale
        return (loss * self.varies).sum(dim=-1).mean()
