"""Training and calibration of the prediction of one modality from the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indiseek_sc.data import read_normalized
from indiseek_sc.metrics import limit_threads
from indiseek_sc.model._cells import (
    get_matrix,
    require,
    require_own_cells,
)
from indiseek_sc.model._runs import copy_module, explain_memory_errors, read_options, release, start_run
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._runs import StageRun
    from indiseek_sc.module import IndiSeekModule

STAGE = "prediction"

MOST_CELLS = 5_000
"""Approximate number of validation cells for calibration, to limit memory; of more cells, every
n-th is used."""

TRAINING_CELLS_REQUIRED = (
    "Training for prediction requires the training cells of the model: load it with them, load(..., adata=mdata), "
    "call train_prediction() and save it again."
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
    """Train the prediction of each modality from the other one.

    :meth:`predict_modality` calls this method if it has not been called. Representations and
    transforms are not changed. Networks are trained on the training cells of :meth:`train`; its
    validation cells determine when to stop, and calibrate standard deviations and intervals. Then
    new networks are trained on both for the same number of epochs. Held-out cells are not read.
    A new call of :meth:`train` discards the networks.

    Parameters
    ----------
    max_epochs
        Largest number of epochs.
    batch_size, accelerator, devices, early_stopping, enable_progress_bar, **trainer_kwargs
        As in :meth:`train`.

    Raises
    ------
    RuntimeError
        If the model is not trained, or its training data are not available.

    Examples
    --------
    >>> model.train_prediction(max_epochs=1, enable_progress_bar=False)
    >>> model.predict_modality("rna", "adt").mean.shape[0]
    600
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
        raise RuntimeError(f"The model has not been trained to predict yet. {TRAINING_CELLS_REQUIRED}")
    mdata = model._validate_anndata()
    split = require_own_cells(model, mdata, ("train", "validation"), "train_prediction")
    run, values = start_run(model, mdata, copy_module(model, options), split, options, model.history_)
    matrices = {role: get_matrix(model, mdata, role) for role in model.modalities}
    with isolated_seed(model.seed), limit_threads(), explain_memory_errors(STAGE, options, mdata.n_obs, learns=True):
        _learn_and_calibrate(run, matrices, split.validation, **values)
    release(run.module)
    model.module, model.history_, model.trainer = run.module, run.full_history, run.trainer
    model.stages_ = [*(stage for stage in model.stages_ if stage != STAGE), STAGE]


def _learn_and_calibrate(
    run: StageRun, matrices: Mapping[Role, Any], validation: np.ndarray, features: Mapping[Role, Tensor], design: Tensor
) -> None:
    """Train and calibrate the prediction in both directions; representations are not changed.

    Networks are trained on training cells, with early stopping and calibration on validation cells.
    Then new networks are trained for as many epochs on both, since validation cells are up to a
    quarter of small data. The calibration of the first networks is kept; it is conservative, as
    they were trained on fewer cells.
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
    """Train new networks, and return the best epoch of each."""
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
    """Calibrate standard deviations and intervals on validation cells.

    ``matrix`` contains the raw values of the target modality.
    """
    module, target = run.module, run.module.other(source)
    kept = find_complete(module, target, design[run.rows.validation]).nonzero()[:, 0]
    kept = kept[:: max(1, len(kept) // MOST_CELLS)]
    rows, seen = validation[kept.cpu().numpy()], run.rows.validation[kept]
    transform, predictor = module.transforms[target], module.modality_predictors[source]
    add_offsets = partial(module.covariate_offsets[target].add, design=design[seen])
    predictor.calibrate(inputs[seen], features[target][seen], "features", transform, add_offsets)
    measured = read_normalized(transform, matrix, rows)
    predictor.calibrate(inputs[seen], measured, "normalized", transform, add_offsets)


def find_complete(module: IndiSeekModule, role: Role, design: Tensor) -> Tensor:
    """Return a mask of the cells of batches in which all features were measured.

    Parameters
    ----------
    module
        Module that maps batches to measured features.
    role
        Modality of the features.
    design
        Covariates of the cells, shape ``(n_cells, n_columns)``.

    Returns
    -------
    Mask, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If there is no such cell.
    """
    ones = torch.ones(len(design), module.n_features[role], device=design.device)
    is_complete = module.mask(role, ones, module.design.learned(design)).bool().all(dim=1)
    if not is_complete.any():
        raise ValueError(
            "Predictions are compared with cells of batches in which all proteins were measured, but there is no such "
            "batch. Exclude the proteins that some batches lack (setup_mudata(..., exclude=...)), and train again."
        )
    return is_complete
