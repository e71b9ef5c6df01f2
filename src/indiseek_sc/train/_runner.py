"""Running one stage."""

from __future__ import annotations

import logging
import signal
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
from lightning.pytorch.utilities.exceptions import SIGTERMException
from scvi.train import TrainRunner

from indiseek_sc._keys import ROLES
from indiseek_sc.train._keep_best import KeepBest, NonFiniteLossError
from indiseek_sc.train._progress import StageProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from indiseek_sc.train._batches import StageData
    from indiseek_sc.train._plans import StagePlan


class StageRunner(TrainRunner):
    """Trains one stage of a model, keeps the best weights, and adds its figures to the model's history under its name.

    Unlike the runner of scvi-tools it puts the plan in training mode first (Lightning does not), merges histories by stage,
    and ends a stage in good order when it is interrupted or its loss is no longer finite.

    Parameters
    ----------
    model
        The model.
    plan
        What is trained, and how.
    data
        The cells of the stage.
    stage
        Name of the stage, before the ``/`` in the history's keys.
    keep_best
        Remembers the best weights.
    progress
        The progress bar.
    **kwargs
        Passed to :class:`scvi.train.TrainRunner`: ``max_epochs``, ``accelerator``, ``devices``, and arguments of
        :class:`scvi.train.Trainer`.
    """

    def __init__(
        self,
        model: Any,
        plan: StagePlan,
        data: StageData,
        *,
        stage: str,
        keep_best: KeepBest,
        progress: StageProgress,
        **kwargs: Any,
    ) -> None:
        self.stage = stage
        self.keep_best = keep_best
        self.progress = progress
        shown = [progress] if kwargs.get("enable_progress_bar", True) else []  # Lightning refuses a hidden one
        callbacks = [*kwargs.pop("callbacks", []), keep_best, *shown]  # a new list: scvi-tools appends to it
        with _without_routine_messages():
            super().__init__(
                model,
                plan,
                data,
                callbacks=callbacks,
                simple_progress_bar=False,
                num_sanity_val_steps=-1,  # the figures before training
                check_val_every_n_epoch=1,
                log_every_n_steps=1,
                **kwargs,
            )

    def __call__(self) -> str | None:
        """Train.

        Returns
        -------
        Why the stage ended early, in words, or None.
        """
        self.model.module.to(self.device)
        self.training_plan.train()
        handler = signal.getsignal(signal.SIGINT)
        reason = None
        try:
            with _without_routine_messages():
                self.trainer.fit(self.training_plan, self.data_splitter)
        except NonFiniteLossError as error:
            reason = (
                f"{error} The last good weights were kept. Look for outliers in the data, or lower the learning rate."
            )
        except SIGTERMException:  # someone wants the process to end
            raise
        except SystemExit:  # Lightning's answer to Ctrl-C since 2.3; before, it returned
            if not self.trainer.interrupted:
                raise
        finally:
            self.progress.close()
            self.keep_best.restore()
            self._merge_history()
            self.model.module.to(self.device)
            self.model.module.eval()
        if self.trainer.interrupted and reason is None:
            signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
            reason = "Interrupted. The best weights so far were kept."
        self.model.trainer = self.trainer
        if reason is not None:
            warnings.warn(f"Stage {self.stage!r}: {reason}", UserWarning, stacklevel=4)
        return reason

    def _merge_history(self) -> None:
        history = {k: v for k, v in (self.model.history_ or {}).items() if not k.startswith(f"{self.stage}/")}
        logged = getattr(self.trainer.logger, "history", None) or {}
        history |= {f"{self.stage}/{name}": values for name, values in logged.items() if name != "epoch"}
        for name, epoch in self.keep_best.best_epochs.items():
            if name in logged:
                # Histories count epochs from 0, and the state before training is epoch 0 of the best ones.
                best = pd.Index([max(0, epoch - 1)], name="epoch")
                judged = f"{name.partition('_')[0]}_" if name.startswith(ROLES) else ""
                history[f"{self.stage}/{judged}best_epoch"] = pd.DataFrame({"best_epoch": best}, index=best)
        self.model.history_ = history


@contextmanager
def _without_routine_messages() -> Iterator[None]:
    """Keep Lightning from saying at every stage what hardware there is, and that frozen parts are frozen."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found .* module\\(s\\) in eval mode")
            warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)`")
            yield
    finally:
        logger.setLevel(level)
