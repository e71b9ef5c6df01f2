"""Principal components as a fixed layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PrincipalMap(nn.Module):
    """Projection on principal components, kept as buffers; components that the data do not have are columns of 0.

    Parameters
    ----------
    n_input
        Input columns.
    n_components
        Number of components, at most ``n_input``.
    """

    center: Tensor
    components: Tensor

    def __init__(self, n_input: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_input))
        self.register_buffer("components", torch.zeros(n_input, n_components))

    @torch.no_grad()
    def fit(self, x: Tensor, n_largest: int | None = None, smallest_variance: float | Tensor = 0.0) -> None:
        """Find the components of ``x``, shape ``(n_cells, n_input)``, with fixed signs.

        At most ``n_largest`` of them, and only those with more than ``smallest_variance``, in squared units of ``x``.
        """
        center = x.double().mean(dim=0)
        centered = x.double() - center
        values, vectors = torch.linalg.eigh(centered.T @ centered / x.shape[0])
        values, vectors = values.flip(0), vectors.flip(1)
        # The largest loading of each component is positive, so that fits on other machines point the same way.
        largest = vectors.abs().argmax(dim=0)
        vectors = vectors * vectors.gather(0, largest[None]).sign()
        n = self.components.shape[1]
        real = (values[:n] > 1e-8 * values[0].clamp(min=1e-300)) & (values[:n] > smallest_variance)
        if n_largest is not None:
            real[n_largest:] = False
        self.center.copy_(center)
        self.components.copy_(torch.where(real, vectors[:, :n], 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Project: ``(n_cells, n_input)`` to ``(n_cells, n_components)``."""
        return (x - self.center) @ self.components

    def inverse(self, scores: Tensor) -> Tensor:
        """Back-project: ``(n_cells, n_components)`` to ``(n_cells, n_input)``."""
        return scores @ self.components.T + self.center
