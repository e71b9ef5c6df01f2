"""What each batch adds to features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchOffsets(nn.Module):
    """Takes out of the features of a cell what its batch adds to those of any cell; nothing until :meth:`set` says how much.

    Parameters
    ----------
    n_batches
        Number of batches.
    n_features
        Number of features.
    """

    offsets: Tensor

    def __init__(self, n_batches: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.zeros(n_batches, n_features))

    @torch.no_grad()
    def set(self, offsets: Tensor) -> None:
        """Take over offsets, shape ``(n_batches, n_features)``."""
        self.offsets.copy_(offsets)

    def of(self, batch: Tensor) -> Tensor:
        """Return the offset of each cell, shape ``(n_cells, n_features)``, from batch codes of shape ``(n_cells,)``."""
        return self.offsets[batch]

    def forward(self, features: Tensor, batch: Tensor) -> Tensor:
        """Take the offsets out of features, shape ``(n_cells, n_features)``."""
        if len(self.offsets) == 1:  # a single batch has none, and cells may be a million
            return features
        return features - self.of(batch)
