"""Training of one stage with Lightning, with a progress bar and handling of interruptions."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from scvi.train import Trainer
from tqdm.auto import tqdm

from indiseek_sc.train._stopping import EarlyEndWarning, NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lightning.pytorch import LightningModule

    from indiseek_sc.train._arguments import Device, TrainerOptions
    from indiseek_sc.train._batches import StageData
    from indiseek_sc.train._plans import StagePlan
    from indiseek_sc.train._stopping import KeepBest


@contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Seed torch on all devices within the block, and restore its state afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class StageProgress(ProgressBar):
    """Progress bar of a stage, with epochs, remaining time and metrics.

    Parameters
    ----------
    description
        Text before the bar.
    figures
        Labels of metrics on the bar, by the keys under which the plan logs them.
    """

    def __init__(self, description: str, figures: Mapping[str, str]) -> None:
        super().__init__()
        self.description = description
        self.figures = dict(figures)
        self._is_enabled = True
        self._bar: tqdm | None = None

    def disable(self) -> None:
        """Hide the bar."""
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
        """Advance by one epoch."""
        if self._bar is None:
            return
        metrics = trainer.callback_metrics
        shown = {word: f"{float(metrics[key]):.3g}" for key, word in self.figures.items() if key in metrics}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Close the bar in its current state."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, int | str | float | dict[str, float]]:
        """Return nothing; metrics are shown by :meth:`on_train_epoch_end`."""
        return {}


class History(Logger):
    """Logger that stores the metrics of a stage in memory.

    The logger of scvi-tools appends each value to a data frame, which is much slower.
    """

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, dict[int, float]] = {}
        self._clocks: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "history"

    @property
    def version(self) -> None:
        """None, since each stage has a single history."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignore hyperparameters, which are stored as settings of the model."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Store metrics by epoch, or by step if they are logged without an epoch."""
        clock = next((name for name in ("step", "epoch") if name in metrics), "step")
        time_point = int(metrics.get(clock, step or 0))
        for figure, value in metrics.items():
            if figure != clock:
                self._clocks.setdefault(figure, clock)
                self._figures.setdefault(figure, {})[time_point] = float(value)

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Metrics by name, each a data frame with one column."""
        return {
            figure: pd.DataFrame({figure: list(values.values())}, pd.Index(list(values), name=self._clocks[figure]))
            for figure, values in self._figures.items()
        }


class ClipGradients(Callback):
    """Clip gradients before each step of any optimiser; Lightning supports a single optimiser only.

    Parameters
    ----------
    limit
        Largest norm of all gradients, or largest absolute value of each element.
    algorithm
        ``"norm"`` or ``"value"``.
    """

    def __init__(self, limit: float, algorithm: str) -> None:
        self.limit = limit
        self.clip: Any = getattr(torch.nn.utils, f"clip_grad_{algorithm}_")

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Clip the gradients of the parameters of this optimiser."""
        self.clip([p for group in optimizer.param_groups for p in group["params"]], self.limit)


@dataclass(frozen=True)
class StageFit:
    """Outcome of the training of one stage.

    Attributes
    ----------
    stage
        Name of the stage, which precedes the ``/`` in keys of the history.
    history
        Data frames with one column each, by ``<stage>/<metric>``.
    best_epochs
        Number of epochs after which the selected weights were reached, by the metric that selected
        them.
    n_epochs
        Number of complete epochs of training.
    seconds
        Duration of the training in seconds.
    reason
        Reason for an early end; None otherwise.
    is_interrupted
        Whether the user interrupted the training.
    """

    stage: str
    history: Mapping[str, pd.DataFrame]
    best_epochs: Mapping[str, int]
    n_epochs: int
    seconds: float
    reason: str | None
    is_interrupted: bool

    def without_history(self) -> StageFit:
        """Return a copy without the history."""
        return replace(self, history={})


def fit_stage(
    plan: StagePlan,
    data: StageData,
    *,
    stage: str,
    keep_best: KeepBest,
    progress: StageProgress,
    device: Device,
    options: TrainerOptions,
    max_epochs: int,
    limit_train_batches: int,
) -> tuple[StageFit, Trainer]:
    """Train one stage and restore its best weights.

    Unlike the runner of scvi-tools, this function sets the plan to training mode first, leaves the
    plan on the training device (Lightning moves it to the CPU), and restores the best weights, with
    a warning, if training is interrupted or the loss is no longer finite.

    Parameters
    ----------
    plan
        The training plan.
    data
        The data of the stage.
    stage
        Name of the stage, which precedes the ``/`` in keys of the history.
    keep_best
        Callback that selects the best weights.
    progress
        The progress bar.
    device
        Device of the plan and the data.
    options
        Trainer options of the user.
    max_epochs
        Largest number of epochs.
    limit_train_batches
        Number of batches in an epoch.

    Returns
    -------
    The outcome and Lightning's trainer.
    """
    # New lists, since scvi-tools appends to them. Lightning rejects a progress bar that is
    # disabled.
    callbacks = [*options.callbacks, keep_best, *([progress] if options.enable_progress_bar else [])]
    if options.gradient_clip_val is not None:
        callbacks.append(ClipGradients(options.gradient_clip_val, options.gradient_clip_algorithm))
    history = History()
    reason, is_interrupted = None, False
    handler, start = signal.getsignal(signal.SIGINT), time.perf_counter()
    with _without_routine_messages():
        trainer = Trainer(
            **{"log_every_n_steps": 1, **options.passed},
            accelerator=device.accelerator,
            devices=device.devices,
            max_epochs=max_epochs,
            limit_train_batches=limit_train_batches,
            callbacks=callbacks,
            logger=[*options.loggers, history],
            enable_progress_bar=options.enable_progress_bar,
            simple_progress_bar=False,
            num_sanity_val_steps=-1,  # evaluate all validation cells before training
            check_val_every_n_epoch=min(options.check_val_every_n_epoch, max(1, max_epochs)),
        )
        plan.train()
        try:
            trainer.fit(plan, data)
        except NonFiniteLossError as error:
            reason = (
                f"{error} The best weights so far were kept. Look for outliers in the data, or lower the learning rate."
            )
        except SIGTERMException:  # the process is asked to terminate
            raise
        except SystemExit:  # raised by Lightning >= 2.3 on Ctrl-C; earlier versions return
            if not trainer.interrupted:
                raise
        finally:
            progress.close()
            keep_best.restore()
            plan.module.eval()
            plan.release()
            data.release()
    if trainer.interrupted and reason is None:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves the signal ignored
        reason, is_interrupted = "Interrupted. The best weights so far were kept.", True
    if reason is not None:
        warnings.warn(f"Stage {stage!r}: {reason}", EarlyEndWarning, stacklevel=4)
    fit = StageFit(
        stage,
        _read_history(history, stage, keep_best.best_epochs, plan.module.modalities),
        keep_best.best_epochs,
        trainer.current_epoch,
        time.perf_counter() - start,
        reason,
        is_interrupted,
    )
    return fit, trainer


def _read_history(
    logger: History, stage: str, best_epochs: Mapping[str, int], modalities: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    logged = logger.history
    history = {f"{stage}/{name}": values for name, values in logged.items() if name != "epoch"}
    for name, epoch in best_epochs.items():
        if name in logged:
            # Epochs in histories start at 0, so the state before training is epoch -1.
            best = pd.Index([epoch - 1], name="epoch")
            modality = f"{name.partition('_')[0]}_" if name.startswith(modalities) else ""
            history[f"{stage}/{modality}best_epoch"] = pd.DataFrame({"best_epoch": best}, index=best)
    return history


def merge_history(history: Mapping[str, Any], fits: list[StageFit]) -> dict[str, Any]:
    """Add metrics of stages to a history, replacing those of stages that were trained again."""
    merged = dict(history)
    for fit in fits:
        merged = {key: x for key, x in merged.items() if not key.startswith(f"{fit.stage}/")} | dict(fit.history)
    return merged


@contextmanager
def _without_routine_messages() -> Iterator[None]:
    """Suppress messages of Lightning about hardware and frozen modules, repeated at each stage."""
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
