"""Minibatches of tensors that are already on the training device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

Cells = Any
"""A tensor with one row per cell, or a (nested) dictionary of such tensors."""

MOST_VALIDATION_CELLS = 4096
"""Largest number of validation cells evaluated per epoch; of more cells, every n-th one is used."""


def take(cells: Cells, rows: Tensor) -> Cells:
    """Return some rows of all tensors; ``rows`` must be on their device, to avoid transfers."""
    if isinstance(cells, dict):
        return {name: take(part, rows) for name, part in cells.items()}
    return cells[rows]


def device_of(cells: Cells) -> torch.device:
    """Return the device of the first tensor."""
    while isinstance(cells, dict):
        cells = next(iter(cells.values()))
    return cells.device


class DeviceBatches:
    """Iterator over random batches of cells on the device.

    Sizes of batches differ by one cell at most, so that no batch is too small for batch statistics
    or negatives.

    Parameters
    ----------
    cells
        Tensors with aligned rows, all on one device.
    n_cells
        Number of rows.
    batch_size
        Smallest number of cells in a batch, unless there are fewer in all.
    n_extra
        Number of additional batches of random cells with each batch, to train critics on.
    shuffle
        Whether to draw a new order of the cells for each pass.
    seed
        Seed of the orders of the cells.
    rows
        The rows to iterate over, shape ``(n_cells,)``; all by default. They are selected batch by
        batch, so that the data are not copied.
    """

    def __init__(
        self,
        cells: Cells,
        n_cells: int,
        batch_size: int,
        *,
        n_extra: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> None:
        self.cells = cells
        self.rows = rows
        self.n_cells = n_cells
        self.n_batches = max(1, n_cells // batch_size)
        self.n_extra = n_extra
        self.shuffle = shuffle
        self.device = device_of(cells)
        # Drawn on the host, so that the order is the same on every device.
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n_batches

    def _order(self) -> Tensor:
        """Return the rows of one pass, on the device."""
        if not self.shuffle:
            order = torch.arange(self.n_cells, device=self.device)
        else:
            order = torch.randperm(self.n_cells, generator=self.generator).to(self.device)
        return order if self.rows is None else self.rows[order]

    def __iter__(self) -> Iterator[Cells]:
        passes = [torch.tensor_split(self._order(), self.n_batches) for _ in range(1 + self.n_extra)]
        for first, *extra in zip(*passes, strict=True):
            batch = take(self.cells, first)
            yield (batch, [take(self.cells, rows) for rows in extra]) if self.n_extra else batch

    def release(self) -> None:
        """Release the data, even if this object is kept."""
        self.cells = self.rows = None


class StageData(pl.LightningDataModule):
    """Batches of the training and validation cells of one stage.

    Parameters
    ----------
    cells
        Inputs of the stage for all cells, with aligned rows, all on one device.
    train
        Row numbers of the training cells, shape ``(n_train,)``, on that device.
    validation
        Row numbers of the validation cells, shape ``(n_validation,)``, on that device; of more than
        4,096, every n-th is used.
    batch_size
        As in :class:`DeviceBatches`.
    validation_batch_size
        Smallest number of validation cells in a batch.
    n_extra
        As in :class:`DeviceBatches`.
    seed
        Seed of the orders of the cells.
    """

    def __init__(
        self,
        cells: Cells,
        train: Tensor,
        validation: Tensor,
        *,
        batch_size: int,
        validation_batch_size: int = 2048,
        n_extra: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        few = validation[:: -(-len(validation) // MOST_VALIDATION_CELLS)]
        self._train = DeviceBatches(cells, len(train), batch_size, n_extra=n_extra, seed=seed, rows=train)
        self._validation = DeviceBatches(take(cells, few), len(few), validation_batch_size, shuffle=False)

    def train_dataloader(self) -> DeviceBatches:
        """Return batches of training cells, in a new order at each pass."""
        return self._train

    def val_dataloader(self) -> DeviceBatches:
        """Return batches of validation cells, in a fixed order."""
        return self._validation

    def release(self) -> None:
        """Release the data, since the trainer, which the model keeps, refers to this object."""
        self._train.release()
        self._validation.release()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch unchanged, since it is already on the device."""
        return batch
