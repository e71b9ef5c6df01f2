"""Best weights, kept in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor, nn


class NonFiniteLossError(RuntimeError):
    """A loss was not a number or infinite."""


class _Kept:
    """The best state of one part so far."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part
        self.score = math.inf
        self.epoch = -1
        self.keep(0)

    def keep(self, epoch: int) -> None:
        self.epoch = epoch
        self.state: dict[str, Tensor] = {name: x.detach().clone() for name, x in self.part.state_dict().items()}

    def restore(self) -> None:
        self.part.load_state_dict(self.state)


class KeepBest(Callback):
    """Keeps the weights of each part as they were at its best validation figure, and stops when none has gained for long.

    The figures before training count too: a stage that starts in closed form ends no worse than it began. Without a figure
    to go by, the state after each whole epoch is kept, so that a stage cut short ends with whole weights.

    Parameters
    ----------
    parts
        The figure to minimise (a key that the plan logs) and the part of the module that it judges; a key that is never logged
        means the latest state, and one that is logged in some epochs is judged in these.
    patience
        Epochs without a gain of any part before training stops; 0 means never.
    smallest_gain
        A smaller gain counts as none.
    """

    def __init__(self, parts: Mapping[Any, nn.Module], *, patience: int, smallest_gain: float = 1e-4) -> None:
        self.parts = {name: _Kept(part) for name, part in parts.items()}
        self.patience = patience
        self.smallest_gain = smallest_gain
        self._last_gain = 0

    @property
    def best_epochs(self) -> dict[str, int]:
        """Number of whole epochs behind the kept state, by figure."""
        return {name: kept.epoch for name, kept in self.parts.items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the figures of this epoch."""
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        for name, kept in self.parts.items():
            if name not in trainer.callback_metrics:
                if math.isinf(kept.score):
                    kept.keep(epoch)
                    self._last_gain = epoch
                continue
            score = float(trainer.callback_metrics[name])
            if score < kept.score - self.smallest_gain:
                kept.score = score
                kept.keep(epoch)
                self._last_gain = epoch
        if self.patience and epoch - self._last_gain >= self.patience:
            trainer.should_stop = True

    def restore(self) -> None:
        """Give each part its best weights back."""
        for kept in self.parts.values():
            kept.restore()
