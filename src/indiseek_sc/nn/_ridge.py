"""Linear regression in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RidgeMap(nn.Module):
    """Affine map fitted by ridge regression, kept as buffers.

    Parameters
    ----------
    n_input
        Input columns.
    n_output
        Output columns.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_input: int, n_output: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_input, n_output))
        self.register_buffer("bias", torch.zeros(n_output))

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, *, ridge: float = 1.0) -> None:
        """Fit ``y`` of shape ``(n_cells, n_output)`` from ``x`` of shape ``(n_cells, n_input)``.

        ``ridge`` is in units of cells: what that many cells without any signal would weigh.
        """
        x, y = x.double(), y.double()
        x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        gram = (x - x_mean).T @ (x - x_mean)
        gram.diagonal().add_(ridge)
        weight = torch.linalg.solve(gram, (x - x_mean).T @ (y - y_mean))
        self.weight.copy_(weight)
        self.bias.copy_(y_mean - x_mean @ weight)

    def forward(self, x: Tensor) -> Tensor:
        """Predict, shape ``(n_cells, n_output)``."""
        return x @ self.weight + self.bias
