"""Weights of a chosen epoch, kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indiseek_sc.train._keep_best import KeepBest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer
    from torch import nn


class KeepAt(KeepBest):
    """Keeps the weights of each part as they were after a number of epochs, for a training that no cells are left to stop.

    Parameters
    ----------
    parts
        Parts of the module, by any name.
    epochs
        After how many epochs, by the same name. A training that is cut short before keeps its latest weights.
    """

    def __init__(self, parts: Mapping[Any, nn.Module], epochs: Mapping[Any, int]) -> None:
        super().__init__(parts, patience=0)
        self.epochs = dict(epochs)

    @property
    def best_epochs(self) -> dict[str, int]:
        """None: nothing was compared."""
        return {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights of parts that are not done yet."""
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        for name, kept in self.parts.items():
            if epoch <= self.epochs[name]:
                kept.keep(epoch)
