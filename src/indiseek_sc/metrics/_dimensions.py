"""Association of each dimension of a representation with covariates and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import SplineTransformer

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, first_of
from indiseek_sc.metrics._probes import standardise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

ALL_COVARIATES = "all"
"""Name of the column for all covariates together."""

_PENALTIES = np.logspace(-2, 4, 7)
_KNOTS = np.linspace(0, 1, 5)
"""Quantiles at which the pieces of the cubic spline join."""


def explained_variance(
    latent: ArrayLike,
    covariates: Mapping[str, ArrayLike],
    *,
    given: ArrayLike | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Compute the cross-fitted share of the variance of each dimension that covariates explain.

    Numbers enter as ranks in cubic splines with knots at quartiles, other covariates as indicators
    of categories. A ridge regression on these predicts each fold of the cells from the other folds,
    and

    .. math::

        R^2 = 1 - \sum_i (z_i - \hat z_i)^2 \Big/ \sum_i (z_i - \bar z)^2 .

    With ``given``, the result is what covariates add: :math:`R^2` of both together minus
    :math:`R^2` of ``given`` alone. It remains a share of the variance of the whole dimension.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    covariates
        By name, the value of each cell, shape ``(n_cells,)``: finite numbers, or categories.
        Constant covariates explain nothing.
    given
        A category of each cell, such as its cell type, shape ``(n_cells,)``; missing values form
        a category of their own.
    n_folds
        Number of folds.
    seed
        Seed of the division into folds.

    Returns
    -------
    A row for each dimension, a column for each covariate, and ``"all"`` for all covariates
    together. Values may lie slightly below 0 if a covariate is uninformative; they are NaN for a
    constant dimension.

    Raises
    ------
    ValueError
        If shapes do not match, a number is not finite, a covariate is named ``"all"``, or there are
        fewer than two cells per fold.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> depth, batch = rng.normal(size=300), rng.choice(["a", "b"], size=300)
    >>> latent = np.column_stack([depth, rng.normal(size=300)])
    >>> table = isk.metrics.explained_variance(latent, {"depth": depth, "batch": batch})
    >>> table.round(1).abs()
               depth  batch  all
    dimension
    0            1.0    0.0  1.0
    1            0.0    0.0  0.0
    """
    if ALL_COVARIATES in covariates:
        raise ValueError(f"covariates: {ALL_COVARIATES!r} is the name of all of them together. Rename this covariate.")
    latent = as_matrix(latent, "latent").astype(np.float64)
    n_cells = len(latent)
    if check_whole("n_folds", n_folds, 2) > n_cells // 2:
        raise ValueError(f"n_folds={n_folds} needs at least {2 * n_folds} cells, but there are {n_cells}.")
    check_whole("seed", seed, 0)
    designs = {name: _design(values, f"covariates[{name!r}]", n_cells) for name, values in covariates.items()}
    base = np.empty((n_cells, 0)) if given is None else _indicators(given, "given", n_cells)
    designs[ALL_COVARIATES] = np.hstack([base[:, :0], *designs.values()])
    folds = KFold(n_folds, shuffle=True, random_state=seed)
    baseline = _cross_fitted_r2(base, latent, folds)
    explained = {
        name: _cross_fitted_r2(np.hstack([base, own]), latent, folds) - baseline for name, own in designs.items()
    }
    return pd.DataFrame(explained, index=pd.RangeIndex(latent.shape[1], name="dimension"))


def _cross_fitted_r2(design: NDArray[np.float64], latent: NDArray[np.float64], folds: KFold) -> NDArray[np.float64]:
    variance = ((latent - latent.mean(axis=0)) ** 2).sum(axis=0)
    if design.shape[1] == 0:
        return np.where(variance > 0, 0.0, np.nan)
    # Scaling over all cells is no leakage: it does not use the predicted dimensions.
    scaled = standardise(design, np.arange(len(design)))
    ridge = RidgeCV(_PENALTIES, alpha_per_target=latent.shape[1] > 1)
    predicted = cross_val_predict(ridge, scaled, latent, cv=folds)
    error = ((latent - predicted.reshape(latent.shape)) ** 2).sum(axis=0)
    return np.where(variance > 0, 1 - error / np.where(variance > 0, variance, 1.0), np.nan)


def _design(values: ArrayLike, name: str, n_cells: int) -> NDArray[np.float64]:
    """Return the regressors of a covariate, shape ``(n_cells, n_columns)``."""
    column = pd.Series(values).reset_index(drop=True)
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return _indicators(column, name, n_cells)
    numbers = column.to_numpy(np.float64, na_value=np.nan)
    if len(numbers) != n_cells:
        raise ValueError(f"{name} has {len(numbers)} entries, but there are {n_cells} cells: one number per cell.")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise ValueError(f"{name} is not finite in rows {first_of(bad)}. Leave these cells out.")
    # With raw values, a single outlying cell would distort the spline of all others.
    ranks = rankdata(numbers) / n_cells
    # Quartiles coincide if most cells have the same value.
    knots = np.unique(np.quantile(ranks, _KNOTS))
    if len(knots) < 2:
        return np.empty((n_cells, 0))
    return SplineTransformer(degree=3, knots=knots[:, None]).fit_transform(ranks[:, None])


def _indicators(values: ArrayLike, name: str, n_cells: int) -> NDArray[np.float64]:
    """Return one indicator column for each category; cells without a category are 0 in all."""
    codes, names = as_labels(values, name, n_cells)
    return (codes[:, None] == np.arange(len(names))).astype(np.float64)


def label_use(latent: ArrayLike, labels: ArrayLike) -> pd.DataFrame:
    """Quantify how much of the variance of each dimension the cells of each label account for.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Label of each cell, shape ``(n_cells,)``; cells without one contribute only to the mean and
        variance of the dimension.

    Returns
    -------
    One row for each dimension and label: ``dimension``, ``label``, ``n_cells``; ``mean``, the
    difference between the mean of the label and that of all cells, in standard deviations of the
    dimension; ``variance_ratio``, the variance within the label over that of all cells; and
    ``use``, the sum of ``variance_ratio`` and the squared ``mean``, which is the mean squared
    standardised distance of its cells from the mean of all cells. ``use`` is 1 on average over all
    cells, so that a label above 1 accounts for more than its share of the variance. Values are NaN
    for a constant dimension.

    Raises
    ------
    ValueError
        If there is not one label for each cell, or no label at all.

    Examples
    --------
    >>> latent = [[0.0], [2.0], [10.0], [12.0]]
    >>> isk.metrics.label_use(latent, ["a", "a", "b", "b"]).round(2)
       dimension label  n_cells  mean  variance_ratio  use
    0          0     a        2 -0.98            0.04  1.0
    1          0     b        2  0.98            0.04  1.0
    """
    latent = as_matrix(latent, "latent").astype(np.float64)
    codes, names = as_labels(labels, "labels", len(latent))
    width = latent.std(axis=0)
    scores = (latent - latent.mean(axis=0)) / np.where(width > 0, width, np.nan)
    rows = []
    for number, name in enumerate(names):
        own = scores[codes == number]
        mean, variance = own.mean(axis=0), own.var(axis=0)
        rows.append(
            pd.DataFrame(
                {
                    "dimension": np.arange(latent.shape[1]),
                    "label": name,
                    "n_cells": len(own),
                    "mean": mean,
                    "variance_ratio": variance,
                    "use": mean**2 + variance,
                }
            )
        )
    table = pd.concat(rows, ignore_index=True)
    return table.sort_values("dimension", kind="stable", ignore_index=True)
