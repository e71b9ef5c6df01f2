"""Training one stage: by Lightning, with a bar, on one device, and to a good end where it is interrupted."""

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
    """Seed torch on all devices within the block, and put its state back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


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

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, int | str | float | dict[str, float]]:
        """Nothing beyond the figures above."""
        return {}


class History(Logger):
    """Keeps the figures of a stage in lists; that of scvi-tools lets a data frame grow by each of them, which takes far longer."""

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
        """There is one history a stage."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep none: they are the settings of the model."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep figures of an epoch, or of a step where they come without one."""
        clock = next((name for name in ("step", "epoch") if name in metrics), "step")
        time_point = int(metrics.get(clock, step or 0))
        for figure, value in metrics.items():
            if figure != clock:
                self._clocks.setdefault(figure, clock)
                self._figures.setdefault(figure, {})[time_point] = float(value)

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """A data frame of one column for each figure."""
        return {
            figure: pd.DataFrame({figure: list(values.values())}, pd.Index(list(values), name=self._clocks[figure]))
            for figure, values in self._figures.items()
        }


class ClipGradients(Callback):
    """Clips gradients before each step of any optimiser; Lightning itself does so for one optimiser alone.

    Parameters
    ----------
    limit
        Largest norm of all gradients together, or largest absolute value of each.
    algorithm
        ``"norm"`` or ``"value"``.
    """

    def __init__(self, limit: float, algorithm: str) -> None:
        self.limit = limit
        self.clip: Any = getattr(torch.nn.utils, f"clip_grad_{algorithm}_")

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Clip what this optimiser is about to use."""
        self.clip([p for group in optimizer.param_groups for p in group["params"]], self.limit)


@dataclass(frozen=True)
class StageFit:
    """How the training of one stage went.

    Attributes
    ----------
    stage
        Its name, before the ``/`` in the history's keys.
    history
        A data frame of one column for each figure, by ``<stage>/<figure>``.
    best_epochs
        Number of whole epochs behind the weights that were kept, by the figure that chose them.
    n_epochs
        Number of whole epochs that were trained.
    seconds
        How long it took.
    reason
        Why it ended early, in words; None if it did not.
    is_interrupted
        Whether the user ended it.
    """

    stage: str
    history: Mapping[str, pd.DataFrame]
    best_epochs: Mapping[str, int]
    n_epochs: int
    seconds: float
    reason: str | None
    is_interrupted: bool

    def without_history(self) -> StageFit:
        """Return the same without the figures."""
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
    """Train one stage and keep its best weights.

    Unlike the runner of scvi-tools it puts the plan in training mode first (Lightning does not), leaves everything on the
    training device (Lightning puts the plan back on the CPU), and ends a stage in good order when it is interrupted or its loss is no
    longer finite; a warning says so.

    Parameters
    ----------
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
    device
        Where the plan and the data lie.
    options
        Arguments of the user.
    max_epochs
        Largest number of epochs.
    limit_train_batches
        Number of batches of an epoch.

    Returns
    -------
    How it went, and Lightning's trainer.
    """
    # New lists: scvi-tools appends to them. Lightning refuses a bar that is not shown.
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
            num_sanity_val_steps=-1,  # the figures before training
            check_val_every_n_epoch=min(options.check_val_every_n_epoch, max(1, max_epochs)),  # once at least
        )
        plan.train()
        try:
            trainer.fit(plan, data)
        except NonFiniteLossError as error:
            reason = (
                f"{error} The last good weights were kept. Look for outliers in the data, or lower the learning rate."
            )
        except SIGTERMException:  # someone wants the process to end
            raise
        except SystemExit:  # Lightning's answer to Ctrl-C since 2.3; before, it returned
            if not trainer.interrupted:
                raise
        finally:
            progress.close()
            keep_best.restore()
            plan.module.eval()
            plan.release()
            data.release()
    if trainer.interrupted and reason is None:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
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
            # Histories count epochs from 0, so that the state before training is epoch -1.
            best = pd.Index([epoch - 1], name="epoch")
            modality = f"{name.partition('_')[0]}_" if name.startswith(modalities) else ""
            history[f"{stage}/{modality}best_epoch"] = pd.DataFrame({"best_epoch": best}, index=best)
    return history


def merge_history(history: Mapping[str, Any], fits: list[StageFit]) -> dict[str, Any]:
    """Add the figures of stages to a history; those of a stage that was trained again replace the former ones."""
    merged = dict(history)
    for fit in fits:
        merged = {key: x for key, x in merged.items() if not key.startswith(f"{fit.stage}/")} | dict(fit.history)
    return merged


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
