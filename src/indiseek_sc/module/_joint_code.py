"""The joint code: one space for neighbours and clusters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from indiseek_sc.nn import PrincipalMap


class JointCode(nn.Module):
    """Principal components of what both modalities' codes decode to, each modality scaled to the same total variance.

    The codes side by side would be a poor space: a specific code is a residual of unit variance in every dimension, however
    little of the cell it describes. Decoded, each dimension weighs what it explains. This is ours, not the paper's.

    Parameters
    ----------
    n_first
        Features of the first modality.
    n_second
        Features of the second.
    n_components
        Width of the joint code; bounded by the features.
    """

    scales: Tensor

    def __init__(self, n_first: int, n_second: int, n_components: int = 30) -> None:
        super().__init__()
        self.register_buffer("scales", torch.ones(2))
        self.principal = PrincipalMap(n_first + n_second, min(n_components, n_first + n_second))

    def _stack(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first * self.scales[0], second * self.scales[1]], dim=1)

    @torch.no_grad()
    def fit(self, first: Tensor, second: Tensor) -> None:
        """Fit on decoded training cells, shapes ``(n_cells, n_first)`` and ``(n_cells, n_second)``."""
        for i, decoded in enumerate((first, second)):
            self.scales[i] = decoded.var(dim=0, correction=0).sum().clamp(min=1e-12).rsqrt()
        self.principal.fit(self._stack(first, second))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the joint code, shape ``(n_cells, n_components)``."""
        return self.principal(self._stack(first, second))
