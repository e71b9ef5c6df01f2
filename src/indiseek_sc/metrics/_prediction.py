"""Accuracy of predictions of many features in many cells, and coverage of their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def root_mean_squared_error(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Compute the root mean squared error over all cells and features.

    Parameters
    ----------
    measured, predicted
        Measured and predicted values, shape ``(n_cells, n_features)`` both.

    Raises
    ------
    ValueError
        If shapes differ or values are not finite.

    Examples
    --------
    >>> isk.metrics.root_mean_squared_error([[1.0, 2.0]], [[1.0, 4.0]])
    1.4142...
    """
    truth, guess = _pair(measured, predicted)
    return float(np.sqrt(np.square(truth - guess).mean()))


def pearson_per_feature(measured: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Compute the Pearson correlation over cells for each feature.

    Parameters
    ----------
    measured, predicted
        Measured and predicted values, shape ``(n_cells, n_features)`` both.

    Returns
    -------
    Shape ``(n_features,)``; NaN where either is constant.

    Raises
    ------
    ValueError
        As in :func:`root_mean_squared_error`.

    Examples
    --------
    >>> measured = [[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]]
    >>> isk.metrics.pearson_per_feature(measured, [[0, 1], [2, 1], [4, 1]]).round(2)
    array([ 1., nan])
    """
    return _pearson(*_pair(measured, predicted))


def pearson_per_cell(measured: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Compute the Pearson correlation over features for each cell.

    Parameters
    ----------
    measured, predicted
        Measured and predicted values, shape ``(n_cells, n_features)`` both, with features in
        comparable units, such as standardised.

    Returns
    -------
    Shape ``(n_cells,)``; NaN where either is constant.

    Raises
    ------
    ValueError
        As in :func:`root_mean_squared_error`.

    Examples
    --------
    >>> isk.metrics.pearson_per_cell([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]], [[1, 2, 3], [1, 3, 2]]).round(2)
    array([ 1., -1.])
    """
    truth, guess = _pair(measured, predicted)
    return _pearson(truth.T, guess.T)


def interval_coverage(measured: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.float64]:
    """Compute, for each feature, the share of cells whose measured value lies within its interval.

    Bounds count as inside.

    Parameters
    ----------
    measured, lower, upper
        Measured values and bounds of their intervals, shape ``(n_cells, n_features)`` each.

    Returns
    -------
    Shape ``(n_features,)``.

    Raises
    ------
    ValueError
        As in :func:`root_mean_squared_error`, and if a lower bound lies above the upper one.

    Examples
    --------
    >>> isk.metrics.interval_coverage([[0.0], [5.0]], [[-1.0], [-1.0]], [[1.0], [1.0]])
    array([0.5])
    """
    truth, low = _pair(measured, lower, "lower")
    _, high = _pair(measured, upper, "upper")
    if (low > high).any():
        raise ValueError(f"lower lies above upper in {int((low > high).sum())} places. Were they swapped?")
    return ((low <= truth) & (truth <= high)).mean(axis=0)


@dataclass(frozen=True, eq=False)
class PredictionReport:
    """Accuracy of a prediction in cells with measured values; printing it lists the measures.

    Attributes
    ----------
    table
        One row for each feature: ``rmse``, ``pearson`` and ``coverage``, in the order of the
        features.
    rmse
        Root mean squared error over all cells and features.
    pearson_per_feature, pearson_per_cell
        Means over features and cells, without constant ones.
    coverage
        Share of all values within their intervals.
    level
        Nominal coverage of the intervals.
    measured, mean, lower, upper
        The compared values, shape ``(n_cells, n_features)`` each.

    Examples
    --------
    >>> cells, proteins = ["cell_0", "cell_1", "cell_2"], ["CD3", "CD19"]
    >>> measured = pd.DataFrame([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]], cells, proteins)
    >>> mean = measured + [0.0, 0.5]
    >>> report = isk.metrics.evaluate_prediction(measured, mean, mean - 1, mean + 1, level=0.9)
    >>> print(report)
    Prediction of 2 features in 3 cells
      root mean squared error    0.354
      correlation per feature    1.000 (mean)
    ...
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
        """Return the four overall measures by name.

        Examples
        --------
        >>> cells, proteins = ["cell_0", "cell_1", "cell_2"], ["CD3", "CD19"]
        >>> measured = pd.DataFrame([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]], cells, proteins)
        >>> mean = measured + [0.0, 0.5]
        >>> report = isk.metrics.evaluate_prediction(measured, mean, mean - 1, mean + 1, level=0.9)
        >>> list(report.to_dict())
        ['rmse', 'pearson_per_feature', 'pearson_per_cell', 'coverage']
        """
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
    """Compare a prediction with measured values.

    Parameters
    ----------
    measured, mean, lower, upper
        Measured values, predictions and bounds of their intervals, with the same cells as rows and
        features as columns, shape ``(n_cells, n_features)`` each.
    level
        Nominal coverage of the intervals from ``lower`` to ``upper``.

    Returns
    -------
    The report, which can be printed.

    Raises
    ------
    ValueError
        If cells or features differ, or values are not finite.

    Examples
    --------
    >>> cells, proteins = ["cell_0", "cell_1", "cell_2"], ["CD3", "CD19"]
    >>> measured = pd.DataFrame([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]], cells, proteins)
    >>> mean = measured + [0.0, 0.5]
    >>> report = isk.metrics.evaluate_prediction(measured, mean, mean - 1, mean + 1, level=0.9)
    >>> report.table.round(2)
          rmse  pearson  coverage
    CD3    0.0      1.0       1.0
    CD19   0.5      1.0       1.0
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
    """Return the correlation of each pair of columns; NaN if one is constant up to rounding."""
    spread = [np.ptp(x, axis=0) > 1e-9 * np.abs(x).max(axis=0, initial=0) for x in (a, b)]
    left, right = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    varies = spread[0] & spread[1] & (size > 0)
    return np.where(varies, (left * right).sum(axis=0) / np.where(varies, size, 1.0), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
