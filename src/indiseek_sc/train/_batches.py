"""Minibatches cut from tensors that already lie on the training device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

Cells = Any
"""A tensor with one row a cell, or a (nested) dictionary of such."""

MOST_VALIDATION_CELLS = 4096
"""A stage looks at this many validation cells at most, every n-th one: it does so each epoch, and more would hardly tell it more."""


def take(cells: Cells, rows: Tensor) -> Cells:
    """Return some rows of all tensors; ``rows`` lies on their device, so that nothing waits for a transfer."""
    if isinstance(cells, dict):
        return {name: take(part, rows) for name, part in cells.items()}
    return cells[rows]


def device_of(cells: Cells) -> torch.device:
    """Return the device of the first tensor."""
    while isinstance(cells, dict):
        cells = next(iter(cells.values()))
    return cells.device


class DeviceBatches:
    """Goes through the cells in random batches of equal size, without leaving the device.

    The batches differ in size by one cell at most, so that no batch is too small for batch statistics or negatives.

    Parameters
    ----------
    cells
        The data, rows aligned, all on one device.
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
    rows
        The rows to go through, shape ``(n_cells,)``; all if not given. They are taken batch by batch, so that there is no second copy of the data.
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
        # The order is drawn on the host: the same for every device, and a few bytes a cell.
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n_batches

    def _order(self) -> Tensor:
        """Return the rows of one pass, moved to the device at once."""
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
        """Let go of the data, whoever keeps this object."""
        self.cells = self.rows = None


class StageData(pl.LightningDataModule):
    """The cells of one stage.

    Parameters
    ----------
    cells
        What the stage reads of all cells, rows aligned, all on one device.
    train
        Row numbers of the training cells, on that device.
    validation
        Row numbers of the validation cells, on that device; of more than 4,096 every n-th is looked at.
    batch_size
        As in :class:`DeviceBatches`.
    validation_batch_size
        The same of the validation cells.
    n_extra
        As in :class:`DeviceBatches`.
    seed
        Decides the orders.
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
        """Return batches of validation cells, always the same."""
        return self._validation

    def release(self) -> None:
        """Let go of the data: Lightning's trainer, which a model keeps, keeps this object."""
        self._train.release()
        self._validation.release()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the batch where it is: it was cut from tensors on the device."""
        return batch
