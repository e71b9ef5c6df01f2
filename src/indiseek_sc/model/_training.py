"""Training of a copy of the module, which replaces that of the model after success."""

from __future__ import annotations

import math
import numbers
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from indiseek_sc._checks import check_flag, check_several, check_whole, shown
from indiseek_sc.data import apply_transform, find_covariates, fit_offsets, fit_transform
from indiseek_sc.metrics import limit_threads
from indiseek_sc.model._cells import (
    as_rows,
    find_cells,
    get_covariates,
    get_design,
    get_row_major,
    remember_cells,
    require,
    require_own_cells,
)
from indiseek_sc.model._checkpoint import Checkpoint, describe_training
from indiseek_sc.model._lambda_path import LAMBDA_SEARCH, LAMBDAS
from indiseek_sc.model._run_stages import run_stages
from indiseek_sc.model._runs import (
    copy_module,
    describe_changes,
    explain_memory_errors,
    read_options,
    release,
    start_run,
)
from indiseek_sc.model._setup import check_query
from indiseek_sc.model._shared import some_rows
from indiseek_sc.model._stages import FINISH, NEW_START, REUSED_START, SPECIFIC
from indiseek_sc.train import EarlyEndWarning, StageFit, draw_split, isolated_seed

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._runs import RunOptions, StageRun
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

StageName = Literal["shared", "specific"]

SINGLE_FEATURE = (
    "Counts of a single feature cannot be normalised by the total count of a cell: give log-transformed values "
    "(rna_input='normalized' or adt_input='normalized'). "
)


@dataclass(frozen=True)
class TrainingOutcome:
    """Result of a call of ``train``.

    Attributes
    ----------
    fits
        The trained stages in order, each with its epochs, seconds, and the reason of an early end.
    reason
        Stage and reason of an early end; None if the training was completed.
    is_interrupted
        Whether the user interrupted the training (Ctrl-C).
    is_applied
        Whether the model has the result of the training. If not, it has not been changed.

    Examples
    --------
    >>> IndiSeek.setup_mudata(mdata)
    >>> outcome = IndiSeek(mdata).train(max_epochs=0, enable_progress_bar=False)
    >>> outcome.reason is None, outcome.is_applied
    (True, True)
    """

    fits: tuple[StageFit, ...]
    reason: str | None = None
    is_interrupted: bool = False
    is_applied: bool = True

    @property
    def seconds(self) -> float:
        """Seconds that all stages took."""
        return sum(fit.seconds for fit in self.fits)

    def __repr__(self) -> str:
        stages = ", ".join(f"{fit.stage} {fit.n_epochs} epochs ({fit.seconds:.0f} s)" for fit in self.fits)
        end = "" if self.reason is None else f" Ended early. {self.reason}"
        return f"{type(self).__name__}: {stages}.{end}"


def train(
    model: IndiSeek,
    max_epochs: int | Mapping[str, int] | None = None,
    lambda_: float | Literal["auto"] | None = None,
    *,
    stages: Sequence[StageName] = ("shared", "specific"),
    train_size: float | None = None,
    validation_size: float | None = None,
    held_out: Sequence[int] | np.ndarray | None = None,
    keep_start: bool = False,
    plan_kwargs: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    n_threads: int = 1,
    early_stopping: bool = True,
    enable_progress_bar: bool = True,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    **trainer_kwargs: Any,
) -> TrainingOutcome:
    """Train the model; each call starts from the same initial weights for the same seed.

    A stage that is interrupted (Ctrl-C) or whose loss is not finite keeps its best weights and
    issues a warning, and the stages after it are skipped. A trained model is not changed by a call
    that raises an error or whose first stage is not completed.

    Parameters
    ----------
    max_epochs
        Largest number of epochs of all stages, or by stage (``shared``, ``flow``, ``critics``,
        ``specific``, ``decoder``). A stage is skipped if validation cells show that it is not
        needed. With ``gate_critics=False``, at most half of the epochs of ``specific`` train the
        critics alone.
    lambda_
        Weight of the reconstruction. Larger values keep more of a modality in its specific
        representation; smaller values make it more independent of the other modality. ``"auto"``
        decreases lambda from 1,000 to the first value that keeps the leak ratio within 2 % on
        validation cells (:meth:`lambda_path`); the path is stored in ``chosen_path``.
    stages
        ``("specific",)`` trains stage 2 again on the present shared representations, for instance
        with another ``lambda_``.
    train_size
        Share of the cells, without those held out, that is used for training. If not given, nine
        tenths, or down to three quarters on small data.
    validation_size
        Share of the same cells used for early stopping and model selection. If not given, the rest.
    held_out
        Row numbers, names or a mask of cells that are not used at all; :meth:`audit` evaluates the
        representations on them.
    keep_start
        Start stage 2 from the present conditional whitening and normalizing flow, such as those
        copied from another model (:meth:`take_over`), instead of training them again. Only with
        ``stages=("specific",)``.
    plan_kwargs
        Changes to the optimisation settings: ``learning_rate`` (shared representations),
        ``one_cycle`` (whether this learning rate rises and falls in one cycle),
        ``specific_learning_rate``, ``regression_learning_rate`` (splines, decoder),
        ``critic_learning_rate``, ``weight_decay``, ``n_critic_steps`` (critic steps per encoder
        step), ``gate_critics`` (whether encoders are trained only where validation cells show
        dependence), ``n_critic_warmup_steps`` (critic steps before the first encoder step, if
        ``gate_critics`` is False), ``keep_least_leak``, ``patience``.
    batch_size
        Number of cells per batch, in all stages.
    accelerator
        ``"auto"`` (a GPU if there is one), ``"gpu"`` or ``"cpu"``. All data are kept on this
        device, and so is the trained model.
    devices
        GPU to use, such as ``[1]``. Only one can be used, since contrastive losses compare the
        cells of a batch.
    n_threads
        Number of CPU threads. Two threads take three quarters of the time of one if two cores are
        idle; if other programs use the cores, training may take several times as long. Results are
        bitwise reproducible for the same number.
    early_stopping
        Stop a stage when its validation metric has ceased to improve. The best weights are kept in
        any case.
    enable_progress_bar
        Show a progress bar for each stage.
    checkpoint_dir
        Folder for the state after each trained stage. If the process is killed or the training
        interrupted, the same call on the same data continues after the last completed stage, with
        the same results (bitwise on a CPU). The folder is removed when the training is completed.
        Reading it executes no code.
    **trainer_kwargs
        ``early_stopping_patience`` (epochs), ``limit_train_batches``, ``check_val_every_n_epoch``,
        ``gradient_clip_val`` and ``gradient_clip_algorithm``, ``callbacks``, ``logger`` (one or
        several, in addition to the history), ``log_every_n_steps``, ``max_time`` (per stage),
        ``profiler``, ``deterministic`` and other arguments of :class:`lightning.pytorch.Trainer`.
        Arguments that do not apply raise an error that names the alternative.

    Returns
    -------
    The trained stages with their durations, and the reason if training ended early.

    Raises
    ------
    TypeError
        If an argument is unknown.
    ValueError
        If stages are unknown or in the wrong order, a number is out of range, too few cells are
        left, the device does not exist or several are requested, an argument of the trainer does
        not apply, or ``checkpoint_dir`` contains another training. All arguments are checked before
        anything is changed.
    RuntimeError
        If stage 2 is trained alone without a trained stage 1, or the data lack cells of its
        training.
    MemoryError
        If memory does not suffice; the message names the stage and the remedy.

    Examples
    --------
    >>> IndiSeek.setup_mudata(mdata, batch_key="batch")
    >>> new_model = IndiSeek(mdata)
    >>> outcome = new_model.train(max_epochs=1, enable_progress_bar=False)
    >>> outcome.fits[0].stage, outcome.fits[0].n_epochs
    ('shared', 1)
    """
    wanted = _check_stages(model, stages, keep_start=check_flag("keep_start", keep_start))
    sizes = {"train_size": train_size, "validation_size": validation_size, "held_out": held_out}
    if "shared" not in wanted and (given := [name for name, value in sizes.items() if value is not None]):
        raise ValueError(
            f"{given[0]}: stage 2 alone keeps the cells of stage 1. Leave it out, or train both stages on other cells."
        )
    lambda_, n_threads = _check_lambda(lambda_), check_whole("n_threads", n_threads, 1)
    options = read_options(
        model,
        max_epochs=max_epochs,
        plan_kwargs=plan_kwargs,
        batch_size=batch_size,
        accelerator=accelerator,
        devices=devices,
        early_stopping=early_stopping,
        enable_progress_bar=enable_progress_bar,
        trainer_kwargs=trainer_kwargs,
    )
    mdata = model._validate_anndata(max_missing=0.0)
    if "shared" in wanted:
        split = _draw_split(model, mdata, train_size, validation_size, held_out)
    else:
        split = require_own_cells(model, mdata, ("train", "validation"), "train(stages=('specific',))")

    matrices, checkpoint = get_row_major(model, mdata), None
    weight = model.settings.optimisation.lambda_ if lambda_ is None else lambda_
    from_scratch = "shared" in wanted
    if checkpoint_dir is not None:
        arguments = {"stages": wanted, "lambda_": weight, "keep_start": bool(keep_start), "n_threads": n_threads}
        asked = describe_training(model, mdata, matrices, split, options, from_scratch=from_scratch, **arguments)
        checkpoint = Checkpoint(checkpoint_dir, asked, options.device.torch)
    with explain_memory_errors("features", options, mdata.n_obs, learns=False):
        run, values = _begin(model, mdata, split, options, matrices, checkpoint, from_scratch=from_scratch)
    middle = LAMBDA_SEARCH if weight == "auto" else SPECIFIC
    values |= {"lambda_": LAMBDAS[0] if weight == "auto" else weight, "path": None}
    trained = ["shared"]
    with isolated_seed(model.seed), limit_threads(n_threads):
        if from_scratch:
            values = run_stages(model._shared_stages, run, values, checkpoint)
        if "specific" in wanted and run.reason is None:
            start = REUSED_START if keep_start else NEW_START
            values = run_stages((*start, middle, *FINISH), run, values, checkpoint)
            trained = ["shared", "specific"]
    is_applied = _is_worth_keeping(model, run, wanted)
    if is_applied:
        _apply(model, run, trained, from_scratch=from_scratch)
        if "shared" in wanted:
            model.split_ = remember_cells(model, mdata, split)
        if "specific" in trained:
            model.lambda_, model.lambda_path_ = float(values["lambda_"]), values["path"]
    if checkpoint is not None and run.reason is None:
        checkpoint.remove()
    return _conclude(run, is_applied=is_applied)


def _draw_split(model: IndiSeek, mdata: MuData, train_size: Any, validation_size: Any, held_out: Any) -> Split:
    """Draw a random split of the cells that have all modalities."""
    rows = np.flatnonzero(find_cells(model, mdata, model.modalities))
    if held_out is not None:
        held_out = np.flatnonzero(np.isin(rows, as_rows(held_out, mdata.obs_names, "held_out")))
    sizes = {"train_size": train_size, "validation_size": validation_size}
    return draw_split(rows.size, seed=model.seed, held_out=held_out, **sizes).of(rows)


def _check_stages(model: IndiSeek, stages: Any, *, keep_start: bool) -> tuple[str, ...]:
    stages = tuple(check_several("stages", stages))
    if stages not in (("shared", "specific"), ("shared",), ("specific",)):
        raise ValueError(f"stages must be ('shared', 'specific') or one of them alone, but is {stages!r}.")
    if model.module.design.n_added:
        raise ValueError(
            "The model was created by load_query_data and keeps the weights of the reference. To train on these cells, "
            f"create a new model: {type(model).__name__}.setup_mudata(mdata, ...), {type(model).__name__}(mdata)."
        )
    if len(stages) == 1 and not model._trains_stages_apart:
        raise ValueError(f"stages: {type(model).__name__} trains both stages at once. Leave the argument out.")
    if stages == ("specific",):
        require(model, "shared")
    if keep_start:
        if "shared" in stages:
            raise ValueError(
                "keep_start: the start depends on the shared representations, which would change. Give stages=('specific',)."
            )
        require(model, "specific")
    return stages


def _check_lambda(lambda_: Any) -> Any:
    if lambda_ is None or (isinstance(lambda_, str) and lambda_ == "auto"):
        return lambda_
    if isinstance(lambda_, bool) or not isinstance(lambda_, numbers.Real):
        raise ValueError(f"lambda_ must be a number or 'auto', but is {shown(lambda_)}.")
    if not (math.isfinite(float(lambda_)) and float(lambda_) >= 0):
        raise ValueError(f"lambda_ must be a finite number of at least 0, but is {shown(lambda_)}.")
    return float(lambda_)


def _begin(
    model: IndiSeek,
    mdata: MuData,
    split: Split,
    options: RunOptions,
    matrices: Mapping[Role, Any],
    checkpoint: Checkpoint | None,
    *,
    from_scratch: bool,
) -> tuple[StageRun, dict[str, Any]]:
    """Return a run of a copy of the module and the initial values of its stages.

    If ``from_scratch``, transforms and offsets are fitted again and the history is reset.
    """
    module = copy_module(model, options)
    is_restored = checkpoint is not None and checkpoint.restore(module)
    if from_scratch and not is_restored:
        fit_features(model, mdata, module, split, matrices)
    return start_run(model, mdata, module, split, options, None if from_scratch else model.history_, matrices=matrices)


def fit_features(
    model: IndiSeek, mdata: MuData, module: IndiSeekModule, split: Split, matrices: Mapping[Role, Any]
) -> None:
    """Fit the transforms and covariate offsets of a module on training cells.

    Parameters
    ----------
    model
        Model of the module.
    mdata
        Data of the model.
    module
        Module to fit.
    split
        Row numbers of the training cells.
    matrices
        Raw values of all cells by modality.

    Raises
    ------
    ValueError
        If no feature of a modality varies, or values are not finite.
    """
    for role, name in model.modalities.items():
        fit_transform(module.transforms[role], matrices[role], split.train, seed=model.seed)
        if not bool(module.transforms[role].center.isfinite().all()):
            check_query(model, mdata, is_quiet=True)  # raises an error that names the cells
        if not bool((module.transforms[role].scale > 0).any()):
            raise ValueError(
                f"mdata[{name!r}]: none of its {module.transforms[role].n_input:,} features varies among the training cells after "
                f"{module.transforms[role].recipe}, so there is nothing to learn from. "
                f"{SINGLE_FEATURE if module.transforms[role].n_input == 1 else ''}"
                "Check that the layer contains the measured values."
            )
    covariates = get_covariates(model, mdata, split.train).to(module.device)
    module.design.fit(covariates)
    if not find_covariates(model.registry_).is_empty and module.architecture.batch_offsets:
        _fit_offsets(model, mdata, module, split, matrices)


def _fit_offsets(
    model: IndiSeek, mdata: MuData, module: IndiSeekModule, split: Split, matrices: Mapping[Role, Any]
) -> None:
    """Fit additive covariate effects, and the cell states with which later batches are compared."""
    rows = some_rows(torch.from_numpy(split.train)).numpy()
    design = get_design(model, mdata, rows, module)
    features = [apply_transform(module.transforms[role], x, rows).cpu().numpy() for role, x in matrices.items()]
    centered = (design - module.design.mean).cpu().numpy()
    found = fit_offsets(features, centered, seed=model.seed)
    for offsets, values in zip(module.covariate_offsets.values(), found, strict=True):
        overall, of_states = (module.design.center(x) for x in (values.overall, values.of_states))
        offsets.set(values._replace(overall=overall, of_states=of_states))


def _is_worth_keeping(model: IndiSeek, run: StageRun, stages: Sequence[str]) -> bool:
    """Return False if the first stage ended early and the model already had all stages."""
    ended_early = bool(run.fits) and run.fits[0].reason is not None
    return not (ended_early and set(stages) <= set(model.stages_))


def _apply(model: IndiSeek, run: StageRun, trained: list[str], *, from_scratch: bool) -> None:
    """Replace the module of the model by the trained one."""
    release(run.module)
    model.train_settings_ = ({} if from_scratch else model.train_settings_) | describe_changes(model, run.options)
    model.module = run.module
    model.stages_ = trained
    model.is_trained_ = "specific" in trained
    model.history_ = run.full_history
    model.trainer = run.trainer


def _conclude(run: StageRun, *, is_applied: bool) -> TrainingOutcome:
    """Return the result of the training, with a warning if it was discarded."""
    early = next((fit for fit in run.fits if fit.reason is not None), None)
    if not is_applied:
        warnings.warn(
            "The first stage was not completed: the model keeps its previous training.",
            EarlyEndWarning,
            stacklevel=3,
        )
    return TrainingOutcome(
        tuple(run.fits),
        None if early is None else f"Stage {early.stage!r}: {early.reason}",
        early is not None and early.is_interrupted,
        is_applied,
    )
