"""What a shared code tells of the other modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from indiseek_sc.nn._mlp import make_mlp

NOISE = 0.1
"""Standard deviation of the noise that a standardised code is read through in training."""


class CrossPredictor(nn.Module):
    """Predicts the features of the other modality from a shared code.

    The code is standardised and read through noise, so that it cannot hide what it tells in directions of tiny scale.

    Parameters
    ----------
    n_shared
        Columns of the code.
    n_features
        Features of the other modality.
    n_hidden
        Width of the hidden layers.
    """

    def __init__(self, n_shared: int, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.standardize = nn.BatchNorm1d(n_shared, affine=False)
        self.network = make_mlp(n_shared, n_features, n_hidden, n_layers=2, dropout=0.1)

    def forward(self, shared: Tensor) -> Tensor:
        """Predict: ``(n_cells, n_shared)`` to ``(n_cells, n_features)``."""
        code = self.standardize(shared)
        return self.network(code + NOISE * torch.randn_like(code) if self.training else code)
