"""One progress bar a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import ProgressBar
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer


class StageProgress(ProgressBar):
    """Epochs done, time left, and the figures that matter.

    Parameters
    ----------
    description
        Text before the bar.
    figures
        What to show: the word on the bar, by the key that the plan logs.
    """

    def __init__(self, description: str, figures: Mapping[str, str]) -> None:
        super().__init__()
        self.description = description
        self.figures = dict(figures)
        self._is_enabled = True
        self._bar: tqdm | None = None

    def disable(self) -> None:
        """Show nothing."""
        self._is_enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._is_enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the empty bar."""
        self._bar = tqdm(
            total=trainer.max_epochs,
            desc=self.description,
            unit="epoch",
            disable=not self._is_enabled,
            dynamic_ncols=True,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move by one epoch."""
        if self._bar is None:
            return
        metrics = trainer.callback_metrics
        shown = {word: f"{float(metrics[key]):.3g}" for key, word in self.figures.items() if key in metrics}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def close(self, remark: str = "") -> None:
        """Leave the bar as it is, with a last remark."""
        if self._bar is not None:
            if remark:
                self._bar.set_postfix_str(remark, refresh=True)
            self._bar.close()
            self._bar = None

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, int | str | float | dict[str, float]]:
        """Nothing beyond the figures above."""
        return {}
