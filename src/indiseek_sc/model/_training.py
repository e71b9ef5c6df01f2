"""Training: arguments are checked, a copy of the module goes through the stages, and the model takes it over when all went well."""

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
    find_split,
    get_covariates,
    get_design,
    get_row_major,
    remember_cells,
    require,
    require_own_cells,
)
from indiseek_sc.model._checkpoint import Checkpoint, describe_training
from indiseek_sc.model._lambda_path import LAMBDA_SEARCH, LAMBDAS
from indiseek_sc.model._runs import copy_module, explained_memory, read_options, release, start_run
from indiseek_sc.model._setup import check_query
from indiseek_sc.model._shared import some_rows
from indiseek_sc.model._stages import FINISH, FORMER_START, NEW_START, SPECIFIC, run_stages
from indiseek_sc.train import EarlyEndWarning, StageFit, draw_split, isolated_seed

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._runs import RunOptions, StageRun
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

StageName = Literal["shared", "specific"]

SHARED_PARTS = ("transforms", "design", "covariate_offsets", "encoders", "predictors", "rotations", "log_scale")
SPECIFIC_PARTS = ("encoder_decoders", "joint")

NEEDS_TWO = "Counts of one feature are all of a cell's: give it as logarithms of your own (rna_input='normalized' or adt_input='normalized'). "


@dataclass(frozen=True)
class TrainingOutcome:
    """How a call of ``train`` went.

    Attributes
    ----------
    fits
        The stages that were trained, in their order: epochs, seconds, and why one ended early.
    reason
        Why training ended early, in words, with the stage; None if it came to its end.
    is_interrupted
        Whether the user ended it (Ctrl-C).
    is_applied
        Whether the model has what was trained. If not, it is as it was before.
    """

    fits: tuple[StageFit, ...]
    reason: str | None = None
    is_interrupted: bool = False
    is_applied: bool = True

    @property
    def seconds(self) -> float:
        """How long the stages took."""
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
    """Train the model; each call starts anew, from the same start for the same seed.

    A stage that is interrupted (Ctrl-C) or meets a loss that is not finite keeps its best weights, says so in a warning,
    and the stages behind it are left out. A call that raises an error, or of which not even the first stage came to its end,
    leaves a model that was trained before as it was.

    Parameters
    ----------
    max_epochs
        Largest number of epochs of every stage, or by stage (``shared``, ``shape``, ``critics``, ``specific``,
        ``decoder``); stages in which validation cells show nothing to gain have none. With ``gate_critics=False`` critics learn alone
        in the first epochs of ``specific``, at most half of them.
    lambda_
        Weight of the reconstruction: larger keeps more of the modality in its specific representation, smaller makes that more
        independent of the other modality. ``"auto"`` walks down from 1,000 to the first that keeps the leak ratio within 2 % on
        validation cells (:meth:`lambda_path`), and notes the walk in ``chosen_path``.
    stages
        ``("specific",)`` trains stage 2 again on the shared representations that are there, such as with another ``lambda_``.
    train_size
        Share of the cells to learn from. If not given, nine tenths or a little less.
    validation_size
        Share of the cells to stop and choose by. If not given, the rest.
    held_out
        Row numbers, names or a mask of cells that take no part at all; :meth:`audit` evaluates on them.
    keep_start
        Let the specific representations start from the conditional whitening and shape that are there, such as those of a model that was
        taken over (:meth:`take_over`), in place of training these again; with ``stages=("specific",)`` alone.
    plan_kwargs
        How the stages learn, where it is not to be as the model was made: ``learning_rate`` (shared representations),
        ``one_cycle`` (whether that one rises and falls), ``specific_learning_rate``, ``regression_learning_rate`` (splines,
        decoder), ``critic_learning_rate``, ``weight_decay``, ``n_critic_steps`` (steps for each step of the encoders),
        ``gate_critics`` (whether encoders move only where validation cells show dependence), ``n_critic_warmup_steps`` (steps before
        encoders move, where that is off), ``keep_least_leak``, ``patience``.
    batch_size
        Cells in a batch, in all stages.
    accelerator
        ``"auto"`` (a GPU where there is one), ``"gpu"`` or ``"cpu"``. Everything lies on that device from the first feature on, and
        the trained model stays there.
    devices
        Which GPU, such as ``[1]``; a single one, since the negatives of a batch are those on its device.
    n_threads
        Threads of the CPU. Two take three quarters of the time of one where as many cores are idle; where other programs use them, threads wait for
        each other, and training may take several times as long. Results are the same to the bit for the same number.
    early_stopping
        Stop a stage when its validation figure has not improved for long. The best weights are kept in any case.
    enable_progress_bar
        Show a bar for each stage.
    checkpoint_dir
        Folder for the state after each stage that learns. If the process is killed, or the training interrupted, the same call on the same
        data goes on after the last stage that was finished, and ends in the same numbers, to the bit on a CPU. It is removed when the
        training comes to its end; nothing in it is run when it is read.
    **trainer_kwargs
        ``early_stopping_patience`` (epochs), ``limit_train_batches``, ``check_val_every_n_epoch``, ``gradient_clip_val`` and
        ``gradient_clip_algorithm``, ``callbacks``, ``logger`` (one or several, beside the history), ``log_every_n_steps``,
        ``max_time`` (of each stage), ``profiler``, ``deterministic`` and the like. Others of :class:`scvi.train.Trainer` are refused by a
        sentence that names what to use.

    Returns
    -------
    Which stages were trained for how long, and why training ended early if it did.

    Raises
    ------
    TypeError
        If an argument is unknown.
    ValueError
        If stages are unknown or out of order, a number makes no sense, too few cells are left, there is no such device or several
        are asked for, an argument of a trainer cannot be taken, or ``checkpoint_dir`` has another training. All of it is checked before
        anything changes.
    RuntimeError
        If stage 2 is to be trained alone and stage 1 was not, or the data lack cells that it was trained with.
    MemoryError
        If memory does not suffice; the message says in which stage, and what to do.
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
    is_anew = "shared" in wanted
    if checkpoint_dir is not None:
        arguments = {"stages": wanted, "lambda_": weight, "keep_start": bool(keep_start), "n_threads": n_threads}
        asked = describe_training(model, mdata, matrices, split, options, is_anew=is_anew, **arguments)
        checkpoint = Checkpoint(checkpoint_dir, asked, options.device.torch)
    with explained_memory("features", options, mdata.n_obs, learns=False):
        run, values = _begin(model, mdata, split, options, matrices, checkpoint, is_anew=is_anew)
    middle = LAMBDA_SEARCH if weight == "auto" else SPECIFIC
    values |= {"lambda_": LAMBDAS[0] if weight == "auto" else weight, "path": None}
    trained = ["shared"]
    with isolated_seed(model.seed), limit_threads(n_threads):
        if is_anew:
            values = run_stages(model._shared_stages, run, values, checkpoint)
        if "specific" in wanted and run.reason is None:
            start = FORMER_START if keep_start else NEW_START
            values = run_stages((*start, middle, *FINISH), run, values, checkpoint)
            trained = ["shared", "specific"]
    is_applied = _is_worth_keeping(model, run, wanted)
    if is_applied:
        _apply(model, run, trained)
        if "shared" in wanted:
            model.split_ = remember_cells(model, mdata, split)
        if "specific" in trained:
            model.lambda_, model.lambda_path_ = float(values["lambda_"]), values["path"]
    if checkpoint is not None and run.reason is None:
        checkpoint.remove()
    return _conclude(run, is_applied=is_applied)


def _draw_split(model: IndiSeek, mdata: MuData, train_size: Any, validation_size: Any, held_out: Any) -> Split:
    """Draw a split of the cells that have all modalities."""
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
            "The model was made by load_query_data and keeps what the reference has learnt. To learn from these cells, set up "
            f"a new one: {type(model).__name__}.setup_mudata(mdata, ...), {type(model).__name__}(mdata)."
        )
    if len(stages) == 1 and not model._trains_stages_apart:
        raise ValueError(f"stages: {type(model).__name__} trains both at once; leave the argument out.")
    if stages == ("specific",):
        require(model, "shared")
    if keep_start:
        if "shared" in stages:
            raise ValueError("keep_start: it is a start for other shared representations; give stages=('specific',).")
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
    is_anew: bool,
) -> tuple[StageRun, dict[str, Any]]:
    """Return a run of a copy of the module, and what its stages read; transforms are fitted anew unless they and the history stay."""
    module = copy_module(model, options)
    is_restored = checkpoint is not None and checkpoint.restore(module)
    if is_anew and not is_restored:
        fit_features(model, mdata, module, split, matrices)
    return start_run(model, mdata, module, split, options, None if is_anew else model.history_, matrices=matrices)


def fit_features(
    model: IndiSeek, mdata: MuData, module: IndiSeekModule, split: Split, matrices: Mapping[Role, Any]
) -> None:
    """Fit transforms and offsets of covariates of a module on training cells, whose raw values are given.

    Raises
    ------
    ValueError
        If no feature of a modality varies, or values are not finite.
    """
    for role, name in model.modalities.items():
        fit_transform(module.transforms[role], matrices[role], split.train, seed=model.seed)
        if not bool(module.transforms[role].center.isfinite().all()):
            check_query(model, mdata, is_quiet=True)  # names the cells
        if not bool((module.transforms[role].scale > 0).any()):
            raise ValueError(
                f"mdata[{name!r}]: none of its {module.transforms[role].n_input:,} features varies among the training cells after "
                f"{module.transforms[role].recipe}, so there is nothing to learn from. {NEEDS_TWO if module.transforms[role].n_input == 1 else ''}"
                "Check that the layer holds the measured values."
            )
    covariates = get_covariates(model, mdata, split.train).to(module.device)
    module.design.fit(covariates)
    if not find_covariates(model.registry_).is_empty and module.architecture.batch_offsets:
        _fit_offsets(model, mdata, module, split, matrices)


def _fit_offsets(
    model: IndiSeek, mdata: MuData, module: IndiSeekModule, split: Split, matrices: Mapping[Role, Any]
) -> None:
    """Fit what covariates add to features, and the cell states by which batches are compared that come later."""
    rows = some_rows(torch.from_numpy(split.train)).numpy()
    design = get_design(model, mdata, rows, module)
    features = [apply_transform(module.transforms[role], x, rows).cpu().numpy() for role, x in matrices.items()]
    centered = (design - module.design.mean).cpu().numpy()
    found = fit_offsets(features, centered, seed=model.seed)
    for offsets, values in zip(module.covariate_offsets.values(), found, strict=True):
        overall, of_states = (module.design.center(x) for x in (values.overall, values.of_states))
        offsets.set(values._replace(overall=overall, of_states=of_states))


def _is_worth_keeping(model: IndiSeek, run: StageRun, stages: Sequence[str]) -> bool:
    """Whether what was trained takes the place of what is there: not if the first stage broke off and the model had all before."""
    broke_off = bool(run.fits) and run.fits[0].reason is not None
    return not (broke_off and set(stages) <= set(model.stages_))


def _apply(model: IndiSeek, run: StageRun, trained: list[str]) -> None:
    """Let the model have what was trained."""
    release(run.module)
    model.module = run.module
    model.stages_ = trained
    model.is_trained_ = "specific" in trained
    model.history_ = run.full_history
    model.trainer = run.trainer


def _conclude(run: StageRun, *, is_applied: bool) -> TrainingOutcome:
    early = next((fit for fit in run.fits if fit.reason is not None), None)
    if not is_applied:
        warnings.warn(
            "Not even the first stage came to its end: the model is as it was trained before.",
            EarlyEndWarning,
            stacklevel=3,
        )
    return TrainingOutcome(
        tuple(run.fits),
        None if early is None else f"Stage {early.stage!r}: {early.reason}",
        early is not None and early.is_interrupted,
        is_applied,
    )


def take_over(model: IndiSeek, other: IndiSeek) -> None:
    """Begin where another model of the same cells is, so that what both have in common is not trained twice.

    Taken over are the split, the feature transforms and the shared representations, and the specific representations too where they are of the same make;
    critics are not. Afterwards ``train(stages=("specific",))`` trains stage 2 alone, with ``keep_start=True`` from the conditional
    whitening and shape that the other model has, and so does :meth:`lambda_path`. Later training of either leaves the other alone.

    Parameters
    ----------
    other
        A model whose shared representations are trained, of this class or another one, such as a baseline or an ablation.

    Raises
    ------
    RuntimeError
        If the shared representations of ``other`` are not trained.
    TypeError
        If it is no model.
    ValueError
        If it was trained on other cells, or its shared representations are made otherwise.
    """
    if not hasattr(other, "stages_"):
        raise TypeError(f"other must be a model of this class or a baseline, but is {type(other).__name__}.")
    require(other, "shared")
    if model.adata is None or find_split(model, model._validate_anndata(), other.split_).n_cells < len(
        other.split_["cells"]
    ):
        raise ValueError("other: it was trained on cells that this model does not have.")
    if type(model.module).shared is not type(other.module).shared or not _are_alike(model, other, SHARED_PARTS):
        raise ValueError("other: its shared representations are made otherwise, so that they cannot be taken over.")
    makes = [
        {name: type(encoder_decoder) for name, encoder_decoder in m.module.encoder_decoders.items()}
        for m in (model, other)
    ]
    has_specific = "specific" in other.stages_ and makes[0] == makes[1] and _are_alike(model, other, SPECIFIC_PARTS)
    parts = (*SHARED_PARTS, *SPECIFIC_PARTS) if has_specific else SHARED_PARTS
    model.module.load_state_dict(_get_state(other, parts), strict=False)
    model.module.eval()
    model.stages_ = ["shared", "specific"] if has_specific else ["shared"]
    model.is_trained_ = has_specific
    model.split_ = dict(other.split_)
    model.history_ = dict(other.history_ or {})
    model.lambda_path_ = None
    if has_specific:
        model.lambda_ = other.lambda_


def _are_alike(model: IndiSeek, other: IndiSeek, parts: tuple[str, ...]) -> bool:
    """Whether weights and buffers have the same names and shapes."""
    own, theirs = ({name: x.shape for name, x in _get_state(m, parts).items()} for m in (model, other))
    return own == theirs


def _get_state(model: IndiSeek, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: x for name, x in model.module.state_dict().items() if name.partition(".")[0] in parts}
