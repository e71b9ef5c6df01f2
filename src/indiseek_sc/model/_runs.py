"""A run of the training: what a user says of it, which cells it reads, and the way in which any stage is fitted."""

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
"""What ``batch_size`` of ``train`` sets."""

GIVEN_ELSEWHERE = {"lambda_": "lambda_", **dict.fromkeys(BATCH_SIZES, "batch_size")}
PLAN_OPTIONS = tuple(
    name
    for name in (field.name for field in fields(Optimisation))
    if name not in GIVEN_ELSEWHERE and not name.startswith("max_epochs_")
)
"""What ``plan_kwargs`` may change."""

BATCH_SIZE_OF = {"shared": "batch_size", "specific": "specific_batch_size", "lambda search": "specific_batch_size"}
"""The setting that a stage takes batches by, where it is not that of regressions."""

STEPS_PER_EPOCH = 100
"""An epoch of large data is a random part of it, so that progress and early stopping look often enough."""

FEWEST_STEPS_PER_EPOCH = 10
"""A regression takes smaller batches of small data, else its epochs would be over before anything is learned."""

PATIENT_STEPS = 400
"""A regression is given at least this many steps without a gain: what looks flat at a large learning rate falls as it decays."""

SMALLEST_BATCH = 64

SAME_LENGTH = {"prediction_again": "prediction"}
"""Stages that have as many epochs as another one."""


@dataclass(frozen=True)
class RunOptions:
    """What a call of ``train`` says of how stages run; see there.

    Parameters
    ----------
    optimisation
        Learning rates, batch sizes, and lengths of stages.
    device
        Where everything lies.
    max_epochs
        Number of epochs by stage, where it is not that of ``optimisation``.
    trainer
        Arguments of Lightning's trainer.
    """

    optimisation: Optimisation
    device: Device = field(default_factory=Device)
    max_epochs: Mapping[str, int] = field(default_factory=dict)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)


@dataclass
class StageRun:
    """A module in training: the way in which any stage is fitted, and how those so far went.

    Parameters
    ----------
    module
        What is trained; all of it lies on the device.
    options
        How.
    rows
        Which cells are learned from, and which are chosen by.
    names
        The user's names of the modalities, for progress bars.
    seed
        Decides the order of batches.
    history
        Figures of stages that were trained before.
    fits
        How the stages went, in their order.
    trainer
        Lightning's trainer of the latest one.
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
        """Why a stage ended early, in words; None if all came to their end."""
        return next((fit.reason for fit in self.fits if fit.reason is not None), None)

    @property
    def full_history(self) -> dict[str, Any]:
        """Figures of all stages."""
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
        """Fit one plan, and note how it went."""
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
        """Fit one part for each modality by a plain loss, with early stopping, or for ``at`` epochs each."""
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
        judged = {figures[name]: part for name, part in parts.items()}
        longest = max(o.patience, -(-PATIENT_STEPS // steps)) if patience is None else patience
        patience = longest if o.patience else 0
        kept = None if at is None else {figures[name]: n for name, n in at.items()}
        return self.fit(
            stage,
            plan,
            data,
            KeepBest(judged, patience=0 if at else patience, smallest_gain=smallest_gain, at=kept),
            REGRESSION_TITLES[stage],
            {figure: self.names[name] for name, figure in figures.items()},
            max_epochs=None if at is None else max(at.values()),
        )

    def max_epochs(self, stage: str) -> int:
        """Return the largest number of epochs of a stage."""
        stage = SAME_LENGTH.get(stage, stage)
        wanted = self.options.max_epochs.get(stage)
        return getattr(self.options.optimisation, f"max_epochs_{stage}") if wanted is None else wanted

    def steps_per_epoch(self, data: StageData) -> int:
        """Return the number of batches of an epoch."""
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
    """Check what a user says of how stages run.

    Parameters
    ----------
    model
        Whose settings stand where nothing is said.
    max_epochs, batch_size, accelerator, devices, early_stopping, enable_progress_bar, trainer_kwargs, plan_kwargs
        As in :func:`train`.
    stages
        The stages that ``max_epochs`` is about.

    Raises
    ------
    TypeError, ValueError
        As in :func:`train`.
    """
    changes = {} if plan_kwargs is None else check_mapping("plan_kwargs", plan_kwargs)
    for name in changes:
        if name in GIVEN_ELSEWHERE or str(name).startswith("max_epochs"):
            raise ValueError(f"plan_kwargs: give {GIVEN_ELSEWHERE.get(name, 'max_epochs')} to train() itself.")
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
    """Memory does not suffice for a stage; the message says which, and what to do."""


@contextmanager
def explained_memory(stage: str, options: RunOptions, n_cells: int, *, learns: bool) -> Iterator[None]:
    """Where memory does not suffice in the block, say in which stage, for what, and what to do.

    Raises
    ------
    StageMemoryError
        If it does not.
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
            f"Stage {stage!r}: memory of the {'GPU' if on_gpu else 'CPU'} does not suffice for {what}. Give {' or '.join(remedies)}. "
            f"The model is as it was before. ({error})"
        ) from error


def copy_module(model: IndiSeek, options: RunOptions) -> IndiSeekModule:
    """Return a copy of the module on the training device: whatever happens to it, the model keeps its own."""
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
    """Return a run of a module, and features and batches of training and validation cells on the device; no other cell is read.

    Parameters
    ----------
    model
        The model.
    mdata
        Its data.
    module
        What is trained.
    split
        Row numbers of training and validation cells.
    options
        How.
    history
        Figures of stages before, which stay.
    matrices
        The raw values by modality, if they are at hand.
    """
    rows = np.sort(np.concatenate([split.train, split.validation]))
    split = replace(split, test=split.test[:0]).among(rows)
    matrices = get_row_major(model, mdata) if matrices is None else matrices
    run = StageRun(module, options, split.on(options.device.torch), model.modalities, model.seed, history or {})
    features = {role: read_features(model, mdata, role, rows, module, x) for role, x in matrices.items()}
    return run, {"features": features, "design": get_design(model, mdata, rows, module)}


def release(module: IndiSeekModule) -> None:
    """Let nothing of a module be frozen, as it is between trainings."""
    module.frozen = ()
    module.requires_grad_(True)
    module.eval()
