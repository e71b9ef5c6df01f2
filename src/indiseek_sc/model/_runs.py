"""A run of the training: its options, the cells it reads, and how each stage is fitted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from indiseek_sc._checks import check_flag, check_mapping, check_whole, is_whole, shown
from indiseek_sc._keys import REGRESSION_TITLES
from indiseek_sc._text import choices
from indiseek_sc.model._cells import get_design, get_row_major, read_features
from indiseek_sc.module import IndiSeekModule, Optimisation
from indiseek_sc.nn import is_out_of_memory
from indiseek_sc.train import (
    Device,
    KeepBest,
    RegressionPlan,
    Rows,
    Split,
    StageData,
    StageFit,
    StageProgress,
    TrainerOptions,
    choose_device,
    fit_stage,
    merge_history,
    read_trainer_kwargs,
)

if TYPE_CHECKING:
    from mudata import MuData
    from scvi.train import Trainer

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.train import StagePlan

EPOCH_STAGES = ("shared", "flow", "critics", "specific", "decoder")
"""Stages that ``max_epochs`` may name."""

BATCH_SIZES = ("batch_size", "specific_batch_size", "regression_batch_size")
"""Settings that are all set by ``batch_size`` of ``train``."""

NOT_PLAN_OPTIONS = {"lambda_": "lambda_", **dict.fromkeys(BATCH_SIZES, "batch_size")}
"""Settings that ``plan_kwargs`` rejects, and the argument of ``train`` that sets each of them."""

PLAN_OPTIONS = tuple(
    name
    for name in (field.name for field in fields(Optimisation))
    if name not in NOT_PLAN_OPTIONS and not name.startswith("max_epochs_")
)
"""Names that ``plan_kwargs`` accepts."""

BATCH_SIZE_OF = {"shared": "batch_size", "specific": "specific_batch_size", "lambda search": "specific_batch_size"}
"""Batch-size setting by stage; other stages use that of regressions."""

STEPS_PER_EPOCH = 100
"""Largest number of steps per epoch; with large data, an epoch covers a random part of the cells,
so that validation and progress updates remain frequent."""

FEWEST_STEPS_PER_EPOCH = 10
"""Least number of steps per epoch of a regression; batches of small data are made smaller."""

MIN_PATIENCE_STEPS = 400
"""Least patience of a regression in steps: a loss that stagnates at a large learning rate may still
fall as the learning rate decays."""

SMALLEST_BATCH = 64
"""Smallest batch size that a regression is reduced to on small data."""

EPOCHS_OF_STAGE = {"prediction_again": "prediction"}
"""Stages whose largest number of epochs is that of another stage."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a call of ``train``.

    Parameters
    ----------
    optimisation
        Learning rates, batch sizes and numbers of epochs.
    device
        Device of the module and of the data.
    max_epochs
        Largest number of epochs by stage, where it differs from that of ``optimisation``.
    trainer
        Arguments of Lightning's trainer.
    """

    optimisation: Optimisation
    device: Device = field(default_factory=Device)
    max_epochs: Mapping[str, int] = field(default_factory=dict)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)


@dataclass
class StageRun:
    """A module in training, with the results of the stages so far.

    Parameters
    ----------
    module
        Module to train, on the device.
    options
        Options of the training.
    rows
        Rows of the training and of the validation cells.
    names
        Names of the modalities in the MuData, for progress bars.
    seed
        Seed of the order of batches.
    history
        Metrics of stages that were trained before.
    fits
        Results of the stages, in the order in which they ran.
    trainer
        Lightning's trainer of the latest stage.
    """

    module: IndiSeekModule
    options: RunOptions
    rows: Rows
    names: Mapping[Role, str]
    seed: int
    history: Mapping[str, Any] = field(default_factory=dict)
    fits: list[StageFit] = field(default_factory=list)
    trainer: Trainer | None = None

    @property
    def reason(self) -> str | None:
        """Reason why a stage ended early; None if none did."""
        return next((fit.reason for fit in self.fits if fit.reason is not None), None)

    @property
    def full_history(self) -> dict[str, Any]:
        """Metrics of all stages."""
        return merge_history(self.history, self.fits)

    def fit(
        self,
        stage: str,
        plan: StagePlan,
        data: StageData,
        keep_best: KeepBest,
        title: str,
        figures: Mapping[str, str],
        max_epochs: int | None = None,
    ) -> StageFit:
        """Fit a training plan, and append the result to ``fits``."""
        fit, self.trainer = fit_stage(
            plan,
            data,
            stage=stage,
            keep_best=keep_best,
            progress=StageProgress(title, figures),
            device=self.options.device,
            options=self.options.trainer,
            max_epochs=self.max_epochs(stage) if max_epochs is None else max_epochs,
            limit_train_batches=self.steps_per_epoch(data),
        )
        self.fits.append(fit)
        return fit

    def fit_regression(
        self,
        stage: str,
        parts: Mapping[Role, nn.Module],
        loss: Callable[[Role, Mapping[str, Tensor]], Tensor],
        cells: Mapping[Role, Mapping[str, Tensor]],
        *,
        smallest_gain: float,
        learning_rate: float | None = None,
        patience: int | None = None,
        at: Mapping[Role, int] | None = None,
        train: Tensor | None = None,
    ) -> StageFit:
        """Fit one part per modality by a loss, with early stopping or for ``at`` epochs each."""
        o = self.options.optimisation
        train = self.rows.train if train is None else train
        batch_size = min(o.regression_batch_size, max(len(train) // FEWEST_STEPS_PER_EPOCH, SMALLEST_BATCH))
        data = StageData(cells, train, self.rows.validation, batch_size=batch_size, seed=self.seed)
        steps = self.steps_per_epoch(data)
        plan = RegressionPlan(
            self.module,
            parts,
            loss,
            n_steps=self.max_epochs(stage) * steps,
            learning_rate=o.regression_learning_rate if learning_rate is None else learning_rate,
            weight_decay=o.weight_decay,
        )
        figures = {name: f"{name}_validation_loss" for name in parts}
        kept_parts = {figures[name]: part for name, part in parts.items()}
        longest = max(o.patience, -(-MIN_PATIENCE_STEPS // steps)) if patience is None else patience
        patience = longest if o.patience else 0
        kept_epochs = None if at is None else {figures[name]: n for name, n in at.items()}
        return self.fit(
            stage,
            plan,
            data,
            KeepBest(kept_parts, patience=0 if at else patience, smallest_gain=smallest_gain, at=kept_epochs),
            REGRESSION_TITLES[stage],
            {figure: self.names[name] for name, figure in figures.items()},
            max_epochs=None if at is None else max(at.values()),
        )

    def max_epochs(self, stage: str) -> int:
        """Return the largest number of epochs of a stage."""
        stage = EPOCHS_OF_STAGE.get(stage, stage)
        wanted = self.options.max_epochs.get(stage)
        return getattr(self.options.optimisation, f"max_epochs_{stage}") if wanted is None else wanted

    def steps_per_epoch(self, data: StageData) -> int:
        """Return the number of training batches per epoch."""
        n = min(len(data.train_dataloader()), STEPS_PER_EPOCH)
        limit = self.options.trainer.limit_train_batches
        return max(1, int(n * limit)) if isinstance(limit, float) else min(n, limit)


def read_options(
    model: IndiSeek,
    *,
    max_epochs: int | Mapping[str, int] | None,
    batch_size: int | None,
    accelerator: str,
    devices: int | list[int] | str,
    early_stopping: bool,
    enable_progress_bar: bool,
    trainer_kwargs: Mapping[str, Any],
    plan_kwargs: Mapping[str, Any] | None = None,
    stages: Sequence[str] = EPOCH_STAGES,
) -> RunOptions:
    """Check the training arguments of a user, and return them as options.

    Parameters
    ----------
    model
        Model, whose settings are the defaults.
    max_epochs, batch_size, accelerator, devices, early_stopping, enable_progress_bar
        As in :func:`train`.
    trainer_kwargs, plan_kwargs
        As in :func:`train`.
    stages
        Stages that ``max_epochs`` applies to.

    Raises
    ------
    TypeError, ValueError
        As in :func:`train`.
    """
    changes = {} if plan_kwargs is None else check_mapping("plan_kwargs", plan_kwargs)
    for name in changes:
        if name in NOT_PLAN_OPTIONS or str(name).startswith("max_epochs"):
            raise ValueError(f"plan_kwargs: give {NOT_PLAN_OPTIONS.get(name, 'max_epochs')} to train() itself.")
        if name not in PLAN_OPTIONS:
            raise ValueError(f"plan_kwargs: {name!r} is not known. {choices(name, PLAN_OPTIONS)}")
    for argument, value in (("early_stopping", early_stopping), ("enable_progress_bar", enable_progress_bar)):
        check_flag(argument, value)
    if batch_size is not None:
        changes |= dict.fromkeys(BATCH_SIZES, batch_size)
    patience = trainer_kwargs.get("early_stopping_patience")
    if patience is not None:
        changes["patience"] = check_whole("early_stopping_patience", patience, 1)
    if not early_stopping:
        changes["patience"] = 0
    trainer = {name: value for name, value in trainer_kwargs.items() if name != "early_stopping_patience"}
    return RunOptions(
        replace(model.settings.optimisation, **changes),
        choose_device(accelerator, devices),
        _read_epochs(max_epochs, stages),
        read_trainer_kwargs(trainer, enable_progress_bar=enable_progress_bar),
    )


def describe_changes(model: IndiSeek, options: RunOptions) -> dict[str, Any]:
    """Return the settings of the model's optimisation that the options replace, by name."""
    usual, used = vars(model.settings.optimisation), vars(options.optimisation)
    used = used | {f"max_epochs_{stage}": number for stage, number in options.max_epochs.items()}
    return {name: used[name] for name in usual if used[name] != usual[name]}


def _read_epochs(max_epochs: Any, stages: Sequence[str]) -> dict[str, int]:
    if max_epochs is None:
        return {}
    wanted = dict(max_epochs) if isinstance(max_epochs, Mapping) else dict.fromkeys(stages, max_epochs)
    for name, number in wanted.items():
        if name not in stages:
            raise ValueError(f"max_epochs: the stage {name!r} is not known. {choices(name, stages)}")
        if not is_whole(number) or number < 0:
            raise ValueError(f"max_epochs must be whole numbers of at least 0, but is {shown(max_epochs)}.")
    return {name: int(number) for name, number in wanted.items()}


class StageMemoryError(MemoryError):
    """A stage ran out of memory; the message names the stage and the remedy."""


@contextmanager
def explain_memory_errors(stage: str, options: RunOptions, n_cells: int, *, learns: bool) -> Iterator[None]:
    """Replace an out-of-memory error in the block by one that names the stage and the remedy.

    Raises
    ------
    StageMemoryError
        If the block runs out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, StageMemoryError) or not is_out_of_memory(error):
            raise
        size = getattr(options.optimisation, BATCH_SIZE_OF.get(stage, "regression_batch_size"))
        what = f"{n_cells:,} cells" + (f" in batches of {size:,}" if learns else "")
        on_gpu = options.device.index is not None
        remedies = [f"a smaller batch, batch_size={max(1, size // 2)}"] if learns else ["fewer cells"]
        remedies += ["accelerator='cpu'"] if on_gpu else []
        raise StageMemoryError(
            f"Stage {stage!r}: memory of the {'GPU' if on_gpu else 'CPU'} does not suffice for {what}. "
            f"Give {' or '.join(remedies)}. The model has not been changed. ({error})"
        ) from error


def copy_module(model: IndiSeek, options: RunOptions) -> IndiSeekModule:
    """Return a copy of the module on the training device; failed training leaves the original."""
    return copy.deepcopy(model.module).to(options.device.torch)


def start_run(
    model: IndiSeek,
    mdata: MuData,
    module: IndiSeekModule,
    split: Split,
    options: RunOptions,
    history: Mapping[str, Any] | None = None,
    matrices: Mapping[Role, Any] | None = None,
) -> tuple[StageRun, dict[str, Any]]:
    """Return a run of a module, and the features and covariates of training and validation cells.

    No other cell is read.

    Parameters
    ----------
    model
        Model to train.
    mdata
        Data of the model.
    module
        Module to train, a copy of that of the model.
    split
        Row numbers of training and validation cells.
    options
        Options of the training.
    history
        Metrics of earlier stages, which are kept.
    matrices
        Raw values by modality; read from ``mdata`` if not given.
    """
    rows = np.sort(np.concatenate([split.train, split.validation]))
    split = replace(split, test=split.test[:0]).among(rows)
    matrices = get_row_major(model, mdata) if matrices is None else matrices
    run = StageRun(module, options, split.on(options.device.torch), model.modalities, model.seed, history or {})
    features = {role: read_features(model, mdata, role, rows, module, x) for role, x in matrices.items()}
    return run, {"features": features, "design": get_design(model, mdata, rows, module)}


def release(module: IndiSeekModule) -> None:
    """Unfreeze all parts of a module and set it to evaluation mode, as after training."""
    module.frozen = ()
    module.requires_grad_(True)
    module.eval()
