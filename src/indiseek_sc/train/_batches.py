"""Minibatches cut from tensors that already lie on the training device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

Cells = Any
"""A tensor with one row a cell, or a (nested) dictionary of such."""


class DeviceBatches:
    """Goes through the cells in random batches of equal size, without leaving the device.

    The batches differ in size by one cell at most, so that no batch is too small for batch statistics or negatives.

    Parameters
    ----------
    cells
        The data, rows aligned.
    n_cells
        Number of rows.
    batch_size
        Fewest cells in a batch; fewer than twice as many make one batch.
    n_extra
        How many further batches of random cells come with each batch, for a critic to learn from.
    shuffle
        Whether to draw a new order at each pass.
    seed
        Decides the orders.
    """

    def __init__(
        self, cells: Cells, n_cells: int, batch_size: int, *, n_extra: int = 0, shuffle: bool = True, seed: int = 0
    ) -> None:
        self.cells = cells
        self.n_cells = n_cells
        self.n_batches = max(1, n_cells // batch_size)
        self.n_extra = n_extra
        self.shuffle = shuffle
        # The order is drawn on the host: the same for every device, and a few bytes a cell.
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n_batches

    def _take(self, rows: Tensor) -> Cells:
        return apply_to_collection(self.cells, Tensor, lambda x: x[rows.to(x.device)])

    def _order(self) -> Tensor:
        return torch.randperm(self.n_cells, generator=self.generator) if self.shuffle else torch.arange(self.n_cells)

    def __iter__(self) -> Iterator[Cells]:
        passes = [torch.tensor_split(self._order(), self.n_batches) for _ in range(1 + self.n_extra)]
        for first, *extra in zip(*passes, strict=True):
            batch = self._take(first)
            yield (batch, [self._take(rows) for rows in extra]) if self.n_extra else batch


class StageData(pl.LightningDataModule):
    """The cells of one stage.

    Parameters
    ----------
    cells
        What the stage reads of all cells, rows aligned.
    train
        Row numbers to learn from.
    validation
        Row numbers to judge by.
    batch_size
        As in :class:`DeviceBatches`.
    validation_batch_size
        The same of the cells to judge by.
    n_extra
        As in :class:`DeviceBatches`.
    seed
        Decides the orders.
    """

    def __init__(
        self,
        cells: Cells,
        train: np.ndarray,
        validation: np.ndarray,
        *,
        batch_size: int,
        validation_batch_size: int = 2048,
        n_extra: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train_idx, self.val_idx = train, validation
        self._train = DeviceBatches(
            self._select(cells, train), train.size, batch_size, n_extra=n_extra, shuffle=True, seed=seed
        )
        self._validation = DeviceBatches(
            self._select(cells, validation), validation.size, validation_batch_size, shuffle=False
        )

    @staticmethod
    def _select(cells: Cells, rows: np.ndarray) -> Cells:
        index = torch.from_numpy(rows)
        return apply_to_collection(cells, Tensor, lambda x: x[index.to(x.device)])

    def train_dataloader(self) -> DeviceBatches:
        """Batches to learn from."""
        return self._train

    def val_dataloader(self) -> DeviceBatches:
        """Batches to judge by, always the same."""
        return self._validation
