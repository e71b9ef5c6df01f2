"""Prediction of one modality from the other, with uncertainty; public functions are methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
import torch

from indiseek_sc._checks import check_name, check_number
from indiseek_sc._settings import settings
from indiseek_sc._text import listing
from indiseek_sc.data import MAX_MISSING, read_input, read_modality, read_normalized
from indiseek_sc.metrics import evaluate_prediction
from indiseek_sc.model._cells import (
    as_rows,
    compute_features,
    evaluation_parts,
    find_role,
    require,
    require_own_cells,
)
from indiseek_sc.model._prediction_training import STAGE, find_complete
from indiseek_sc.model._setup import find_features_in_use
from indiseek_sc.module import Units
from indiseek_sc.nn import LEVELS, take_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.data import ModalityCells
    from indiseek_sc.metrics import PredictionReport
    from indiseek_sc.model._model import IndiSeek


@dataclass(frozen=True, eq=False)
class ModalityPrediction:
    """Values of a modality predicted from the other one, with their uncertainty.

    Attributes
    ----------
    mean
        Predicted values, shape ``(n_cells, n_features)``.
    std
        Standard deviation of the prediction error, in the same units and shape.
    half_widths
        Half-width of prediction intervals in standard deviations, by coverage (index) and feature
        (columns).
    source, target
        Names of the modalities.
    units
        Units of the values; see :meth:`indiseek_sc.IndiSeek.predict_modality`.

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 2.0]], index=["cell1"], columns=["CD3", "CD4"])
    >>> half_widths = pd.DataFrame([[1.6, 1.7]], index=[0.9], columns=table.columns)
    >>> isk.model.ModalityPrediction(table, table / 2, half_widths, "rna", "adt", "features")
    ModalityPrediction of 'adt' from 'rna': 1 cells, 2 features, units 'features'; ...
    """

    mean: pd.DataFrame
    std: pd.DataFrame
    half_widths: pd.DataFrame
    source: str
    target: str
    units: Units

    def interval(self, level: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return prediction intervals with a coverage of ``level`` for each feature.

        The intervals are centred at ``mean``, and their widths are calibrated on the validation
        cells without assumptions about the distribution of errors. The coverage therefore holds for
        similar cells and on average over cells, but not for each cell or cell type, nor for a new
        donor.

        Parameters
        ----------
        level
            Coverage from 0.05 to 0.99; widths between multiples of 0.05 are interpolated.

        Returns
        -------
        Lower and upper bounds, each of shape ``(n_cells, n_features)``.

        Raises
        ------
        ValueError
            If ``level`` is out of range.

        Examples
        --------
        >>> table = pd.DataFrame([[1.0, 2.0]], columns=["CD3", "CD4"])
        >>> half_widths = pd.DataFrame([[1.0, 2.0]] * 2, index=[0.5, 0.9], columns=table.columns)
        >>> predicted = isk.model.ModalityPrediction(table, table / 2, half_widths, "rna", "adt", "features")
        >>> lower, upper = predicted.interval(0.9)
        >>> upper.to_numpy().tolist()
        [[1.5, 4.0]]
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
            f"units {self.units!r}; mean standard deviation {np.nanmean(self.std.to_numpy()):.3f}."
        )


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
    """Predict one modality from the other, for any cells that have the latter.

    An ensemble of networks reads the shared representation of the source modality, the covariates,
    and the features from which the representation was computed. The few dimensions of the shared
    representation alone explain less of single proteins than kernel ridge regression on the
    features; the specific representation is trained to be independent of shared signal and did not
    improve predictions. The ensemble is trained at the first call, unless :meth:`train_prediction`
    was called before, and is saved with the model.

    Standard deviations combine the variance among similar cells with the disagreement of the
    ensemble, and are scaled to the errors on validation cells for each feature. They are therefore
    correct on average for cells similar to the training cells, and may be too small for a new donor
    or protocol.

    Parameters
    ----------
    source
        Modality to read, by its name in the MuData.
    target
        Modality to predict.
    mdata
        Data with the source modality. Features are matched by name as in
        :meth:`get_latent_representation`, and batches must be among those of the model. The target
        is not read and may be missing. The model's own data if not given. Nothing is written.
    indices
        Row numbers, names or mask of cells of the source modality, in any order; all if not given.
    units
        ``"features"``: features of the model as returned by :meth:`get_features`, which are scaled
        log-ratios of proteins or principal components of RNA. ``"normalized"``: centred log-ratios
        of proteins, log-normalised expression of the genes in use (decoded from the components;
        the standard deviation includes the residual variance), or the given values if these are not
        counts.
    max_missing
        As in :meth:`get_latent_representation`.

    Returns
    -------
    Means and standard deviations of shape ``(n_cells, n_features)``; ``interval(0.9)`` returns
    bounds.

    Raises
    ------
    TypeError
        If ``mdata`` is not a MuData.
    ValueError
        If modalities or units are unknown, or features, values or batches are not as the model
        requires.
    RuntimeError
        If the model is not trained, or the prediction must be trained first and the training data
        are not available.

    Examples
    --------
    >>> model.train_prediction(max_epochs=1, enable_progress_bar=False)
    >>> predicted = model.predict_modality("rna", "adt", mdata, indices=[0, 1, 2])
    >>> lower, upper = predicted.interval(0.9)
    >>> bool((lower < upper).all(axis=None))
    True
    """
    role = _check_prediction(model, source, target, units)
    require(model, "shared")
    check_number("max_missing", max_missing)
    cells = _read_modality(model, mdata, role, max_missing)
    rows = as_rows(indices, cells.names)
    if STAGE not in model.stages_:  # after all checks, since it changes the model
        model.train_prediction()
    columns = _feature_names(model, model.module.other(role), units)
    in_use = _columns_in_use(model, model.module.other(role), units)
    mean, std = np.empty((2, rows.size, columns.size), dtype=np.float32)
    model.module.eval()
    with torch.inference_mode():

        def predict(part: slice) -> tuple[Tensor, Tensor]:
            features, design = _features_of(model, cells, role, rows[part])
            return model.module.predict_other(role, features, design, units)

        for part, found in take_parts(predict, rows.size, settings.cells_at_once):
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
    """Evaluate the prediction of one modality by comparison with its measured values.

    Parameters
    ----------
    source, target, mdata
        As in :meth:`predict_modality`; the target is required.
    indices
        As in :meth:`predict_modality`. If not given: all cells of other data; of the model's own
        data, the held-out cells or, if there are none, the validation cells (on which intervals
        were calibrated, so that their coverage is optimistic).
    units
        As in :meth:`predict_modality`.
    level
        Nominal coverage of the intervals.
    max_missing
        As in :meth:`get_latent_representation`, for the source; the target must be complete.

    Returns
    -------
    Error, correlations and coverage, overall and by feature, printed as a table;
    :func:`indiseek_sc.pl.prediction` plots it.

    Raises
    ------
    ValueError
        As in :meth:`predict_modality`, and if a cell lacks the target.

    Examples
    --------
    >>> model.train_prediction(max_epochs=1, enable_progress_bar=False)
    >>> report = model.audit_prediction("rna", "adt")
    >>> type(report).__name__
    'PredictionReport'
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
    is_complete = find_complete(model.module, target_role, design).cpu().numpy()
    compared = (x[is_complete] for x in (truth, prediction.mean, *prediction.interval(level)))
    return evaluate_prediction(*compared, level=level)


def _check_prediction(model: IndiSeek, source: str, target: str, units: str) -> Role:
    """Check the arguments of a prediction, and return the role of the source."""
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
        raise ValueError("mdata: the model was loaded without data, so a MuData must be given here.")
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
    """Return features and covariates of some cells."""
    covariates = torch.from_numpy(cells.covariates[rows].astype(np.float32))
    design = model.module.design(covariates.to(model.module.device))
    return compute_features(model.module, role, cells.values, rows, design), design


def _columns_in_use(model: IndiSeek, role: Role, units: Units) -> torch.Tensor | slice:
    """Return the columns of a prediction that are in use."""
    return model.module.transforms[role].used if units == "features" else slice(None)


def _feature_names(model: IndiSeek, role: Role, units: Units) -> pd.Index:
    """Return the names of the predicted features."""
    transform = model.module.transforms[role]
    if units == "features" and transform.components is not None:
        return pd.Index([f"component_{k + 1}" for k in transform.used.tolist()])
    names = np.asarray(read_input(model.registry_, role)[1]["column_names"])
    return pd.Index(names[transform.features.cpu().numpy()])
