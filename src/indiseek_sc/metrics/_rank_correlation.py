"""Rank correlation over labels of two scores of cells, such as theta and WNN weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, norm, rankdata

from indiseek_sc._checks import check_name, check_share, check_whole
from indiseek_sc._settings import settings
from indiseek_sc.metrics._checks import as_labels, as_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

FEWEST_LABELS = 3
"""Smallest number of labels for a rank correlation."""


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(
        np.corrcoef(rankdata([a, b], axis=1))[0, 1]
    )  # spearmanr of scipy would also compute a p-value for each draw


def _kendall(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(kendalltau(a, b).statistic)


STATISTICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]] = {
    "spearman": _spearman,
    "kendall": _kendall,
}
"""Spearman's rho and Kendall's tau-b, both with ties; NaN if all labels are tied."""


@dataclass(frozen=True, eq=False)
class RankCorrelation:
    """Rank correlation of labels by two scores, and the ranked means.

    Attributes
    ----------
    table
        A row for each statistic, ``"spearman"`` and ``"kendall"``, with ``statistic``,
        ``estimate``, ``lower`` and ``upper`` (percentiles of the bootstrap), ``jackknife_lower``
        and ``jackknife_upper``, ``n_labels``, and ``left_out`` (labels of too few cells, separated
        by commas). NaN if all labels are tied; the jackknife is NaN for fewer than 4 labels.
    labels
        A row for each label: ``label``, ``n_cells``, ``ranked`` (whether it has enough cells), and
        the mean of both scores with its bootstrap interval: ``value``, ``value_lower``,
        ``value_upper``, ``reference``, ``reference_lower`` and ``reference_upper``. A single cell
        has no interval.

    Examples
    --------
    >>> labels = np.repeat(["a", "b", "c", "d"], 20)
    >>> theta = np.repeat([0.0, 1.0, 2.0, 3.0], 20)
    >>> found = isk.metrics.rank_correlation(theta, theta**2, labels, n_bootstrap=20)
    >>> found.labels[["label", "n_cells", "value", "reference"]]
      label  n_cells  value  reference
    0     a       20    0.0        0.0
    1     b       20    1.0        1.0
    2     c       20    2.0        4.0
    3     d       20    3.0        9.0
    """

    table: pd.DataFrame
    labels: pd.DataFrame


def rank_correlation(
    values: ArrayLike,
    reference: ArrayLike,
    labels: ArrayLike,
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    statistics: Sequence[str] = tuple(STATISTICS),
    estimates: pd.DataFrame | None = None,
    seed: int = 0,
) -> RankCorrelation:
    r"""Correlate the ranks of labels by two scores of cells, such as theta and WNN weights.

    Labels are ranked by the mean of each score over their cells.

    Two intervals are computed. The *bootstrap* resamples the cells of each label, or, if
    ``estimates`` are given, the means of ``values`` from their distribution over refits of a model.
    It describes how much the correlation varies with the cells and the training. The *jackknife*
    leaves out one label at a time. It describes how much the correlation depends on the set of cell
    types; with few labels it is the wider interval and the one to report. Its standard error is
    :math:`\sqrt{\frac{n - 1}{n} \sum_i (\rho_{(i)} - \bar\rho)^2}` [1]_, with a normal interval
    truncated to [-1, 1].

    Parameters
    ----------
    values, reference
        Scores of the cells, shape ``(n_cells,)``.
    labels
        Label of each cell, shape ``(n_cells,)``; cells without one are ignored.
    n_bootstrap
        Number of bootstrap draws.
    confidence
        Confidence level of all intervals.
    minimum_cells
        Labels of fewer cells are not ranked; the table lists them.
    statistics
        Any of ``"spearman"`` and ``"kendall"``.
    estimates
        Means of ``values`` by label, estimated over refits of a model: indexed by label, with
        columns ``value``, ``standard_error`` and ``degrees_of_freedom``. They replace the means of
        ``values``.
    seed
        Seed of the bootstrap.

    Returns
    -------
    The correlations with their intervals, and the means of the labels.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, an argument is out of its range, or fewer than 3
        labels have enough cells.

    References
    ----------
    .. [1] Efron and Stein. The jackknife estimate of variance. Annals of Statistics 9, 586 (1981).

    Examples
    --------
    >>> labels = np.repeat(["a", "b", "c", "d"], 20)
    >>> theta = np.repeat([0.0, 1.0, 2.0, 3.0], 20)
    >>> found = isk.metrics.rank_correlation(theta, theta**2, labels, n_bootstrap=20)
    >>> found.table[["statistic", "estimate", "n_labels"]].round(2)
      statistic  estimate  n_labels
    0  spearman       1.0         4
    1   kendall       1.0         4
    """
    check_whole("n_bootstrap", n_bootstrap, 1)
    check_whole("minimum_cells", minimum_cells, 0)
    check_whole("seed", seed, 0)
    check_share("confidence", confidence)
    for statistic in statistics:
        check_name("statistics", statistic, STATISTICS)
    values = as_vector(values, "values")
    reference = as_vector(reference, "reference", len(values))
    label, names = as_labels(labels, "labels", len(values))
    n_cells = np.bincount(label[label >= 0], minlength=len(names))
    order = np.argsort(n_cells < minimum_cells, kind="stable")  # ranked labels come first
    names, n_cells, n_labels = names[order], n_cells[order], int((n_cells >= minimum_cells).sum())
    if n_labels < FEWEST_LABELS:
        raise ValueError(
            f"labels: ranks need at least {FEWEST_LABELS} labels of minimum_cells={minimum_cells} cells or more; "
            f"there are {n_labels}, and {len(names) - n_labels} with fewer. "
            "Lower minimum_cells, or use coarser or finer labels."
        )
    figures = np.stack([values, reference])
    groups = [np.flatnonzero(label == code) for code in order]
    means = np.stack([figures[:, cells].mean(axis=1) for cells in groups], axis=1)
    rng = np.random.default_rng(seed)
    drawn = np.stack([_draw_means(figures[:, cells], n_bootstrap, rng) for cells in groups], axis=2)
    if estimates is not None:
        means[0], drawn[:, 0] = _draw_estimates(estimates.loc[list(names)], n_bootstrap, rng)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]

    rows = [
        {"statistic": name} | _correlate(STATISTICS[name], means[:, :n_labels], drawn[:, :, :n_labels], ends)
        for name in statistics
    ]
    table = pd.DataFrame(rows).assign(n_labels=n_labels, left_out=", ".join(names[n_labels:]))

    by_label = pd.DataFrame({"label": names, "n_cells": n_cells, "ranked": n_cells >= minimum_cells})
    limits = np.where(n_cells > 1, np.quantile(drawn, ends, axis=0), np.nan)
    for place, name in enumerate(("value", "reference")):
        by_label[name] = means[place]
        by_label[f"{name}_lower"], by_label[f"{name}_upper"] = limits[:, place]
    return RankCorrelation(table, by_label.sort_values("label", ignore_index=True))


def _draw_means(figures: NDArray[np.float64], n_draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return bootstrap means of both scores, shape ``(n_draws, 2)``.

    ``figures`` has shape ``(2, n_cells)``.
    """
    n_cells = figures.shape[1]
    step = settings.rows_at_once(n_cells)
    parts = []
    for start in range(0, n_draws, step):
        again = rng.integers(n_cells, size=(min(step, n_draws - start), n_cells))
        parts.append(figures[:, again].mean(axis=2).T)
    return np.concatenate(parts)


def _draw_estimates(
    estimates: pd.DataFrame, n_draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of labels and draws from their t-distributions.

    Their shapes are ``(n_labels,)`` and ``(n_draws, n_labels)``.
    """
    value, error, df = estimates[["value", "standard_error", "degrees_of_freedom"]].to_numpy(dtype=float).T
    # Labels with a single cell in some refit have a value but no standard error.
    draws = rng.standard_t(np.where(np.isfinite(df), np.maximum(df, 1), 1e6), size=(n_draws, len(value)))
    return value, value + np.nan_to_num(error) * draws


def _correlate(
    statistic: Callable[[NDArray, NDArray], float],
    means: NDArray[np.float64],
    drawn: NDArray[np.float64],
    ends: list[float],
) -> dict[str, float]:
    """Return a statistic of ``means``, shape ``(2, n_labels)``, with its intervals.

    ``drawn`` contains the bootstrap means, shape ``(n_draws, 2, n_labels)``.
    """
    estimate = _evaluate(statistic, means)
    lower, upper = pd.Series([_evaluate(statistic, pair) for pair in drawn]).quantile(
        ends
    )  # draws in which all labels are tied are NaN, and ignored
    half_width = norm.ppf(ends[1]) * _jackknife_error(statistic, means)
    return {
        "estimate": estimate,
        "lower": float(lower),
        "upper": float(upper),
        "jackknife_lower": float(np.clip(estimate - half_width, -1, 1)),
        "jackknife_upper": float(np.clip(estimate + half_width, -1, 1)),
    }


def _evaluate(statistic: Callable[[NDArray, NDArray], float], pair: NDArray[np.float64]) -> float:
    if (np.ptp(pair, axis=1) == 0).any():  # avoids a warning of scipy for each draw
        return np.nan
    return statistic(*pair)


def _jackknife_error(statistic: Callable[[NDArray, NDArray], float], means: NDArray[np.float64]) -> float:
    n = means.shape[1]
    if n <= FEWEST_LABELS:
        return np.nan  # leaving one out would leave two labels, with a correlation of 1 or -1
    without = np.array([_evaluate(statistic, np.delete(means, place, axis=1)) for place in range(n)])
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
