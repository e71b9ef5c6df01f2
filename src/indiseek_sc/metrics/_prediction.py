"""How good predictions of many features in many cells are, and whether their intervals hold what they promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def root_mean_squared_error(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Root of the mean squared error over all cells and features.

    Parameters
    ----------
    measured, predicted
        Shape ``(n_cells, n_features)`` both.

    Raises
    ------
    ValueError
        If shapes differ or values are not finite.
    """
    truth, guess = _pair(measured, predicted)
    return float(np.sqrt(np.square(truth - guess).mean()))


def pearson_per_feature(measured: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation over cells, for each feature.

    Parameters
    ----------
    measured, predicted
        Shape ``(n_cells, n_features)`` both.

    Returns
    -------
    Shape ``(n_features,)``; NaN where either is constant.

    Raises
    ------
    ValueError
        As :func:`root_mean_squared_error`.
    """
    return _pearson(*_pair(measured, predicted))


def pearson_per_cell(measured: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation over features, for each cell.

    Parameters
    ----------
    measured, predicted
        Shape ``(n_cells, n_features)`` both; features in comparable units, such as standardised.

    Returns
    -------
    Shape ``(n_cells,)``; NaN where either is constant.

    Raises
    ------
    ValueError
        As :func:`root_mean_squared_error`.
    """
    truth, guess = _pair(measured, predicted)
    return _pearson(truth.T, guess.T)


def interval_coverage(measured: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.float64]:
    """Share of the cells whose measured value lies within its interval, bounds included, for each feature.

    Parameters
    ----------
    measured, lower, upper
        Shape ``(n_cells, n_features)`` each.

    Returns
    -------
    Shape ``(n_features,)``.

    Raises
    ------
    ValueError
        As :func:`root_mean_squared_error`, and if a lower bound lies above its upper one.
    """
    truth, low = _pair(measured, lower, "lower")
    _, high = _pair(measured, upper, "upper")
    if (low > high).any():
        raise ValueError(f"lower lies above upper in {int((low > high).sum())} places. Were they exchanged?")
    return ((low <= truth) & (truth <= high)).mean(axis=0)


@dataclass(frozen=True, eq=False)
class PredictionReport:
    """Figures of a prediction on cells where the truth was measured; print it to read them.

    Attributes
    ----------
    table
        One row a feature: ``rmse``, ``pearson`` and ``coverage``, in the order of the features.
    rmse
        Root of the mean squared error over all cells and features.
    pearson_per_feature, pearson_per_cell
        Means over features and cells; those that are constant have no part in it.
    coverage
        Share of all values within their intervals.
    level
        Share that the intervals promise.
    measured, mean, lower, upper
        What was compared, shape ``(n_cells, n_features)`` each.
    """

    table: pd.DataFrame
    rmse: float
    pearson_per_feature: float
    pearson_per_cell: float
    coverage: float
    level: float
    measured: pd.DataFrame
    mean: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame

    def to_dict(self) -> dict[str, float]:
        """The four figures over all, by name."""
        names = "rmse", "pearson_per_feature", "pearson_per_cell", "coverage"
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        n_cells, n_features = self.measured.shape
        spread = self.table["coverage"].quantile([0.05, 0.95])
        return "\n".join(
            [
                f"Prediction of {n_features:,} features in {n_cells:,} cells",
                f"  root mean squared error    {self.rmse:.3f}",
                f"  correlation per feature    {self.pearson_per_feature:.3f} (mean)",
                f"  correlation per cell       {self.pearson_per_cell:.3f} (mean)",
                f"  within {self.level:.0%} intervals       {self.coverage:.1%} "
                f"(features: {spread.iloc[0]:.1%} to {spread.iloc[1]:.1%}, their 5th and 95th percentile)",
            ]
        )


def evaluate_prediction(
    measured: pd.DataFrame, mean: pd.DataFrame, lower: pd.DataFrame, upper: pd.DataFrame, *, level: float
) -> PredictionReport:
    """Compare a prediction with what was measured.

    Parameters
    ----------
    measured, mean, lower, upper
        Rows of the same cells and columns of the same features, shape ``(n_cells, n_features)`` each.
    level
        Share of values that the intervals from ``lower`` to ``upper`` promise to hold.

    Raises
    ------
    ValueError
        If cells or features differ, or values are not finite.
    """
    for name, values in (("mean", mean), ("lower", lower), ("upper", upper)):
        if not (values.index.equals(measured.index) and values.columns.equals(measured.columns)):
            raise ValueError(f"{name} must have the cells and features of measured, in the same order.")
    truth, guess = _pair(measured, mean)
    covered, per_feature = interval_coverage(measured, lower, upper), _pearson(truth, guess)
    errors = np.sqrt(np.square(truth - guess).mean(axis=0))
    table = pd.DataFrame({"rmse": errors, "pearson": per_feature, "coverage": covered}, index=measured.columns)
    return PredictionReport(
        table,
        rmse=root_mean_squared_error(truth, guess),
        pearson_per_feature=_mean(per_feature),
        pearson_per_cell=_mean(_pearson(truth.T, guess.T)),
        coverage=float(covered.mean()),
        level=level,
        measured=measured,
        mean=mean,
        lower=lower,
        upper=upper,
    )


def _pair(
    measured: ArrayLike, other: ArrayLike, name: str = "predicted"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = as_matrix(measured, "measured").astype(np.float64)
    values = as_matrix(other, name, len(truth)).astype(np.float64)
    if truth.shape != values.shape:
        raise ValueError(f"measured and {name} must have the same shape; got {truth.shape} and {values.shape}.")
    return truth, values


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of each pair of columns; NaN where one is constant up to rounding."""
    spread = [np.ptp(x, axis=0) > 1e-9 * np.abs(x).max(axis=0, initial=0) for x in (a, b)]
    left, right = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    varies = spread[0] & spread[1] & (size > 0)
    return np.where(varies, (left * right).sum(axis=0) / np.where(varies, size, 1.0), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
