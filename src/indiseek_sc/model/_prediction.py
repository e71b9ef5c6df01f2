"""Prediction of one modality from the other, with the uncertainty of each value. Public functions are methods of the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import torch

from indiseek_sc._checks import check_name, check_number
from indiseek_sc._text import listing
from indiseek_sc.data import MAX_MISSING, read_input, read_modality, read_normalized
from indiseek_sc.metrics import evaluate_prediction, limit_threads
from indiseek_sc.model._cells import (
    as_rows,
    compute_features,
    evaluation_parts,
    find_role,
    get_matrix,
    require,
    require_own_cells,
)
from indiseek_sc.model._latents import CELLS_AT_ONCE
from indiseek_sc.model._runs import copy_module, explained_memory, read_options, release, start_run
from indiseek_sc.model._setup import find_features_in_use
from indiseek_sc.module import Units
from indiseek_sc.nn import LEVELS, take_parts
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.data import ModalityCells
    from indiseek_sc.metrics import PredictionReport
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._runs import StageRun
    from indiseek_sc.module import IndiSeekModule

STAGE = "prediction"

MOST_CELLS = 5_000
"""Calibration looks at every n-th validation cell of more than about this many: genes of many cells are large."""

LACKING = "It needs the cells that it was trained on for it: load it with them, load(..., adata=mdata), call train_prediction() and save it again."


@dataclass(frozen=True, eq=False)
class ModalityPrediction:
    """Values of a target modality predicted from another one, with how sure each of them is.

    Attributes
    ----------
    mean
        Predicted values, shape ``(n_cells, n_features)``: a row a cell, a column a feature.
    std
        Standard deviation of the error of each value, in the same units and shape.
    half_widths
        Half the width of an interval in deviations, by the share of values that it holds (index) and feature (columns).
    source, target
        Names of the modalities.
    units
        What the values are; see :meth:`indiseek_sc.IndiSeek.predict_modality`.
    """

    mean: pd.DataFrame
    std: pd.DataFrame
    half_widths: pd.DataFrame
    source: str
    target: str
    units: Units

    def interval(self, level: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return lower and upper bounds that a share ``level`` of the values of each feature lies between.

        They are around ``mean`` and as wide as was needed on the validation cells, whatever the shape of the errors, so the share
        holds for cells like these: on average over cells, not for each cell or cell type, and not for a new donor.

        Parameters
        ----------
        level
            From 0.05 to 0.99; between multiples of 0.05 widths are interpolated.

        Returns
        -------
        Lower and upper bounds, shape ``(n_cells, n_features)`` both.

        Raises
        ------
        ValueError
            If ``level`` is out of range.
        """
        _check_level(level)
        levels = self.half_widths.index.to_numpy()
        width = np.array([np.interp(level, levels, column) for column in self.half_widths.to_numpy().T])
        reach = self.std * width.astype(np.float32)
        return self.mean - reach, self.mean + reach

    def __repr__(self) -> str:
        n_cells, n_features = self.mean.shape
        return (
            f"{type(self).__name__} of {self.target!r} from {self.source!r}: {n_cells:,} cells, {n_features:,} features, "
            f"units {self.units!r}; mean deviation {np.nanmean(self.std.to_numpy()):.3f}."
        )


def train_prediction(
    model: IndiSeek,
    max_epochs: int | None = None,
    *,
    batch_size: int | None = None,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    early_stopping: bool = True,
    enable_progress_bar: bool = True,
    **trainer_kwargs: Any,
) -> None:
    """Learn to predict each modality from the other; :meth:`predict_modality` calls it if nobody has.

    Representations and transforms stay as they are. Training cells of :meth:`train` are learnt from, and its validation cells say when to stop
    and calibrate deviations and intervals; then it is learnt once more, for as long, from both. Held-out cells are not read.
    Training the model anew forgets it.

    Parameters
    ----------
    max_epochs
        Largest number of epochs.
    batch_size, accelerator, devices, early_stopping, enable_progress_bar, **trainer_kwargs
        As in :meth:`train`.

    Raises
    ------
    RuntimeError
        If the model is not trained, or has no data or other data than it was trained on.
    """
    require(model, "shared")
    options = read_options(
        model,
        max_epochs=max_epochs,
        batch_size=batch_size,
        accelerator=accelerator,
        devices=devices,
        early_stopping=early_stopping,
        enable_progress_bar=enable_progress_bar,
        trainer_kwargs=trainer_kwargs,
        stages=(STAGE,),
    )
    if model.adata is None:
        raise RuntimeError(f"The model has not learnt to predict yet. {LACKING}")
    mdata = model._validate_anndata()
    split = require_own_cells(model, mdata, ("train", "validation"), "train_prediction")
    run, values = start_run(model, mdata, copy_module(model, options), split, options, model.history_)
    matrices = {role: get_matrix(model, mdata, role) for role in model.modalities}
    with isolated_seed(model.seed), limit_threads(), explained_memory(STAGE, options, mdata.n_obs, learns=True):
        _learn_and_calibrate(run, matrices, split.validation, **values)
    release(run.module)
    model.module, model.history_, model.trainer = run.module, run.full_history, run.trainer
    model.stages_ = [*(stage for stage in model.stages_ if stage != STAGE), STAGE]


def _learn_and_calibrate(
    run: StageRun, matrices: Mapping[Role, Any], validation: np.ndarray, features: Mapping[Role, Tensor], design: Tensor
) -> None:
    """Learn both directions; representations stay as they are.

    Networks learn from training cells, and validation cells stop them and calibrate their uncertainty. Then new ones learn for as
    long from both: where cells are few, the validation cells are a quarter of all. The calibration stays that of the first ones,
    which fit worse if anything.
    """
    module = run.module
    module.eval()
    with torch.no_grad():
        inputs = {role: module.prediction_input(role, x, design) for role, x in features.items()}
    train = run.rows.train
    best = _learn(run, STAGE, inputs, features, design, train)
    for role in module.modalities:
        _calibrate(run, role, inputs[role], matrices[module.other(role)], validation, features, design)
    if run.reason is None:
        epochs = {role: max(1, best[f"{role}_validation_loss"]) for role in module.modalities}
        both = torch.cat([train, run.rows.validation]).sort().values
        _learn(run, "prediction_again", inputs, features, design, both, epochs)


def _learn(
    run: StageRun,
    stage: str,
    inputs: Mapping[Role, Tensor],
    features: Mapping[Role, Tensor],
    design: Tensor,
    train: Tensor,
    epochs: Mapping[Role, int] | None = None,
) -> Mapping[str, int]:
    """Fit new networks, and return the epochs that were kept."""
    module = run.module
    for role, predictor in module.modality_predictors.items():
        target = module.other(role)
        add_offsets = partial(module.covariate_offsets[target].add, design=design[train])
        predictor.start_from(inputs[role][train], features[target][train], module.transforms[target], add_offsets)
    heads = {role: predictor.head for role, predictor in module.modality_predictors.items()}
    cells = {role: {"condition": inputs[role], "target": features[module.other(role)]} for role in heads}
    fit = run.fit_regression(
        stage,
        heads,
        lambda role, some: heads[role].loss(some["condition"], some["target"]),
        cells,
        smallest_gain=2e-4,
        learning_rate=run.options.optimisation.prediction_learning_rate,
        at=epochs,
        train=train,
    )
    return fit.best_epochs


def _calibrate(
    run: StageRun,
    source: Role,
    inputs: Tensor,
    matrix: Any,
    validation: np.ndarray,
    features: Mapping[Role, Tensor],
    design: Tensor,
) -> None:
    """Set standard deviations and intervals by validation cells; ``matrix`` has the raw values of the target."""
    module, target = run.module, run.module.other(source)
    kept = _find_complete(module, target, design[run.rows.validation]).nonzero()[:, 0]
    kept = kept[:: max(1, len(kept) // MOST_CELLS)]
    rows, seen = validation[kept.cpu().numpy()], run.rows.validation[kept]
    transform, predictor = module.transforms[target], module.modality_predictors[source]
    add_offsets = partial(module.covariate_offsets[target].add, design=design[seen])
    predictor.calibrate(inputs[seen], features[target][seen], "features", transform, add_offsets)
    measured = read_normalized(transform, matrix, rows)
    predictor.calibrate(inputs[seen], measured, "normalized", transform, add_offsets)


def _find_complete(module: IndiSeekModule, role: Role, design: Tensor) -> Tensor:
    """Return which cells are of batches that measured all features of a modality, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If none is.
    """
    ones = torch.ones(len(design), module.n_features[role], device=design.device)
    is_complete = module.mask(role, ones, module.design.learned(design)).bool().all(dim=1)
    if not is_complete.any():
        raise ValueError(
            "Predictions are compared with cells whose batch measured all proteins, and there is none. Leave proteins out by exclude that "
            "some batch lacks, and set up and train again."
        )
    return is_complete


def predict_modality(
    model: IndiSeek,
    source: str,
    target: str,
    mdata: MuData | None = None,
    *,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    units: Units = "features",
    max_missing: float = MAX_MISSING,
) -> ModalityPrediction:
    """Predict one modality from the other, for any cells that have the other one.

    An ensemble of networks reads the shared representation of the source, the covariates, and the features that the representation was made of. The shared
    representation alone is a few directions, which tell less of single proteins than kernel ridge regression on the features does; the specific
    representation is made to tell nothing of what is shared, and was no help. The ensemble learns at the first call, if
    :meth:`train_prediction` was not called before, and is saved with the model.

    Deviations are of two parts, what varies among cells that look alike and what the members of the ensemble do not agree on, and are
    scaled to the errors on validation cells, feature by feature. So they are right on average for cells like those that
    the model was trained on; of a new donor or another protocol they may be too small.

    Parameters
    ----------
    source
        The modality to read, by its name in the MuData.
    target
        The modality to predict.
    mdata
        Any data with the source modality, whose features are matched by name as in :meth:`get_latent_representation`, and whose batches
        the model knows; the target need not be there and is not read. The model's own data if not given. Nothing is written.
    indices
        Row numbers or mask of cells of the source modality, in any order; all if not given.
    units
        ``"features"``: what the model works on, as :meth:`get_features` gives it: scaled log-ratios of proteins, principal components of RNA.
        ``"normalized"``: centred log-ratios of proteins, log-normalised expression of the genes in use (decoded from the components, with
        what these leave of each gene in the deviation), or values as they were given where they were not counts.
    max_missing
        As in :meth:`get_latent_representation`.

    Returns
    -------
    Means and deviations, a row a cell and a column a feature; ``interval(0.9)`` gives bounds.

    Raises
    ------
    TypeError
        If ``mdata`` is no MuData.
    ValueError
        If modalities or units are unknown, or features, values or batches are not as the model needs them.
    RuntimeError
        If the model is not trained, or has to learn to predict first and lacks the data for it.

    Examples
    --------
    >>> predicted = model.predict_modality("rna", "adt", new_cells)
    >>> lower, upper = predicted.interval(0.9)
    """
    role = _check_prediction(model, source, target, units)
    require(model, "shared")
    check_number("max_missing", max_missing)
    cells = _read_modality(model, mdata, role, max_missing)
    rows = as_rows(indices, cells.names)
    if STAGE not in model.stages_:  # last, since it changes the model
        model.train_prediction()
    columns = _feature_names(model, model.module.other(role), units)
    in_use = _columns_in_use(model, model.module.other(role), units)
    mean, std = np.empty((2, rows.size, columns.size), dtype=np.float32)
    model.module.eval()
    with torch.inference_mode():

        def predict(part: slice) -> tuple[Tensor, Tensor]:
            features, design = _features_of(model, cells, role, rows[part])
            return model.module.predict_other(role, features, design, units)

        for part, found in take_parts(predict, rows.size, CELLS_AT_ONCE):
            for values, predicted in zip((mean, std), found, strict=True):
                values[part] = predicted[:, in_use].cpu().numpy()
    half_widths = model.module.modality_predictors[role].calibrations[units].half_widths[:, in_use].cpu().numpy()
    names = {"index": cells.names[rows], "columns": columns}
    return ModalityPrediction(
        pd.DataFrame(mean, **names),
        pd.DataFrame(std, **names),
        pd.DataFrame(half_widths, index=pd.Index(LEVELS, name="level"), columns=columns),
        source,
        target,
        units,
    )


def audit_prediction(
    model: IndiSeek,
    source: str,
    target: str,
    mdata: MuData | None = None,
    *,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    units: Units = "features",
    level: float = 0.9,
    max_missing: float = MAX_MISSING,
) -> PredictionReport:
    """Judge the prediction of one modality by what was measured.

    Parameters
    ----------
    source, target, mdata, units
        As in :meth:`predict_modality`; the target must be there.
    indices
        As there. If not given, of the model's own data the cells that were held out, or the validation cells if none were (which also
        calibrated the intervals, so their coverage says little); of other data all.
    level
        Share of values that intervals shall hold.
    max_missing
        As in :meth:`get_latent_representation`, of the source; the target must be complete.

    Returns
    -------
    Error, correlations and coverage, over all and by feature; prints as a table. :func:`indiseek_sc.pl.prediction` draws it.

    Raises
    ------
    ValueError
        As :meth:`predict_modality`, and if a cell lacks the target.
    """
    role = _check_prediction(model, source, target, units)
    require(model, "shared")
    _check_level(level)
    if mdata is None and indices is None:
        own = model._validate_anndata()
        indices = require_own_cells(model, own, evaluation_parts(model)[-1:], "audit_prediction").for_judging()[1]
    target_role = model.module.other(role)
    measured = _read_modality(model, mdata, target_role, 0.0)
    prediction = model.predict_modality(source, target, mdata, indices=indices, units=units, max_missing=max_missing)
    rows = measured.names.get_indexer(prediction.mean.index)
    if (rows < 0).any():
        lacking = prediction.mean.index[rows < 0]
        raise ValueError(
            f"mdata: {lacking.size:,} cells of {source!r} lack {target!r}, so there is nothing to compare: "
            f"{listing(lacking)}. Leave them out by indices."
        )
    values, design = _features_of(model, measured, target_role, rows)
    if units == "features":
        values = values[:, _columns_in_use(model, target_role, units)]
    else:
        values = read_normalized(model.module.transforms[target_role], measured.values, rows)
    truth = pd.DataFrame(values.cpu().numpy(), index=prediction.mean.index, columns=prediction.mean.columns)
    is_complete = _find_complete(model.module, target_role, design).cpu().numpy()
    compared = (x[is_complete] for x in (truth, prediction.mean, *prediction.interval(level)))
    return evaluate_prediction(*compared, level=level)


def _check_prediction(model: IndiSeek, source: str, target: str, units: str) -> Role:
    """Return the role of the source."""
    role, _ = (find_role(model, name, argument) for argument, name in (("source", source), ("target", target)))
    if source == target:
        names = " and ".join(map(repr, model.modalities.values()))
        raise ValueError(f"source and target are both {source!r}: name the two modalities, {names}.")
    check_name("units", units, get_args(Units))
    return role


def _check_level(level: float) -> None:
    if not LEVELS[0] <= check_number("level", level) <= LEVELS[-1]:
        raise ValueError(f"level must lie in {LEVELS[0]} to {LEVELS[-1]}, but is {level}.")


def _read_modality(model: IndiSeek, mdata: MuData | None, role: Role, max_missing: float) -> ModalityCells:
    own = model.adata
    if mdata is None and own is None:
        raise ValueError("mdata: the model was loaded without data, so it needs a MuData here.")
    is_own = mdata is None or mdata is own
    return read_modality(
        own if mdata is None else mdata,
        model.registry_,
        role,
        is_used=find_features_in_use(model, role),
        max_missing=max_missing,
        is_sample_enough=is_own,
    )


def _features_of(
    model: IndiSeek, cells: ModalityCells, role: Role, rows: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and covariates of some cells."""
    covariates = torch.from_numpy(cells.covariates[rows].astype(np.float32))
    design = model.module.design(covariates.to(model.module.device))
    return compute_features(model.module, role, cells.values, rows, design), design


def _columns_in_use(model: IndiSeek, role: Role, units: Units) -> torch.Tensor | slice:
    """Columns of a prediction without components that were not kept."""
    return model.module.transforms[role].used if units == "features" else slice(None)


def _feature_names(model: IndiSeek, role: Role, units: Units) -> pd.Index:
    transform = model.module.transforms[role]
    if units == "features" and transform.components is not None:
        return pd.Index([f"component_{k + 1}" for k in transform.used.tolist()])
    names = np.asarray(read_input(model.registry_, role)[1]["column_names"])
    return pd.Index(names[transform.features.cpu().numpy()])
