"""Mean and scale of one vector given another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from indiseek_sc.nn._mlp import make_mlp

LOG_SCALE_LIMIT = 4.0
"""How far, in nats, a conditional scale may move from the overall one."""


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

    def __init__(
        self, n_condition: int, n_output: int, n_hidden: int = 128, *, dropout: float = 0.1, n_members: int = 3
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            make_mlp(n_condition, 2 * n_output, n_hidden, n_layers=2, dropout=dropout, start_at_zero=True)
            for _ in range(n_members)
        )
        self.register_buffer("overall_log_scale", torch.zeros(n_output))

    @torch.no_grad()
    def start_from(self, values: Tensor) -> None:
        """Set the overall scale from training values, shape ``(n_cells, n_output)``."""
        self.overall_log_scale.copy_(values.std(dim=0, correction=0).clamp(min=1e-4).log())

    def _moments(self, member: nn.Module, condition: Tensor) -> tuple[Tensor, Tensor]:
        mean, change = member(condition).chunk(2, dim=1)
        # Means are learned in units of the overall scale, so that one learning rate serves wide and narrow dimensions.
        log_scale = self.overall_log_scale + change.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
        return mean * self.overall_log_scale.exp(), log_scale

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-scale of the ensemble, each of shape ``(n_cells, n_output)``."""
        moments = [self._moments(member, condition) for member in self.members]
        return tuple(torch.stack(part).mean(dim=0) for part in zip(*moments, strict=True))  # type: ignore[return-value]

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Mean over members of their negative log-likelihood, up to a constant, summed over dimensions."""
        losses = [gaussian_loss(values, *self._moments(member, condition)) for member in self.members]
        return torch.stack(losses).mean()

    def ensemble_loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood of the ensemble, up to a constant, summed over dimensions."""
        return gaussian_loss(values, *self(condition))


def gaussian_loss(values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of a diagonal Gaussian up to a constant: summed over dimensions, averaged over cells."""
    return (((values - mean) / log_scale.exp()).square() / 2 + log_scale).sum(dim=1).mean()
