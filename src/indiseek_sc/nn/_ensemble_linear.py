"""Several networks at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
        self.limit = 0.0 if start_at_zero else 1 / math.sqrt(n_input)  # as in torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(n_members, n_input, n_output))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_output))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Draw new weights, in place."""
        for parameter in (self.weight, self.bias):
            parameter.uniform_(-self.limit, self.limit)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n_members, n_cells, n_input)`` to ``(n_members, n_cells, n_output)``."""
        return torch.baddbmm(self.bias, x, self.weight)
