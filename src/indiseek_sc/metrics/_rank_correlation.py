"""Whether two scores of cells, such as theta and WNN weights, rank labels alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, norm, rankdata

from indiseek_sc._checks import check_name, check_share, check_whole
from indiseek_sc.metrics._checks import as_labels, as_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

FEWEST_LABELS = 3

_LARGEST_DRAW = 2_000_000
"""Cells drawn at a time: 16 MB."""


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(rankdata([a, b], axis=1))[0, 1])  # scipy's spearmanr also computes a p-value, at each draw


def _kendall(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(kendalltau(a, b).statistic)


STATISTICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]] = {
    "spearman": _spearman,
    "kendall": _kendall,
}
"""Spearman's rho, and Kendall's tau-b, both with ties; NaN where all labels are alike."""


@dataclass(frozen=True, eq=False)
class RankCorrelation:
    """How alike two figures of cells rank their labels, and the means that were ranked.

    Attributes
    ----------
    table
        A row for each statistic, ``"spearman"`` and ``"kendall"``, with ``statistic``, ``estimate``, ``lower`` and ``upper`` (percentiles of the bootstrap),
        ``jackknife_lower`` and ``jackknife_upper``, ``n_labels``, and ``left_out`` (labels of too few cells, joined by commas). Not numbers where all
        labels are alike, and the jackknife where there are fewer than 4.
    labels
        A row for each label: ``label``, ``n_cells``, ``ranked`` (whether it has enough cells), and of both figures the mean with its bootstrap
        interval, ``value``, ``value_lower``, ``value_upper``, ``reference``, ``reference_lower`` and ``reference_upper``. A single cell has no interval.
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
    r"""Correlate the ranks of labels by the mean of two figures of their cells, such as theta and WNN weights.

    Two intervals answer two questions. The *bootstrap* draws the cells of each label again, or the means of ``values`` from their
    distribution over refits of a model where ``estimates`` are given: how much does the correlation vary with the cells and the training?
    The *jackknife* leaves out one label at a time: how much does it depend on which cell types there are? With few labels the second is the wider
    one, and the one to quote. Its standard error is :math:`\sqrt{\frac{n - 1}{n} \sum_i (\rho_{(i)} - \bar\rho)^2}` (Efron and Stein 1981, Ann. Statist. 9, 586),
    its interval normal, cut to [-1, 1].

    Parameters
    ----------
    values, reference
        One number a cell, shape ``(n_cells,)``.
    labels
        One label a cell, shape ``(n_cells,)``; cells without one take no part.
    n_bootstrap
        Number of times that cells are drawn again.
    confidence
        Of all intervals.
    minimum_cells
        Labels of fewer cells are not ranked; the table names them.
    statistics
        Which of ``"spearman"`` and ``"kendall"``.
    estimates
        Means of ``values`` by label as refits of a model give them: indexed by label, with columns ``value``, ``standard_error`` and
        ``degrees_of_freedom``. They take the place of the means of ``values``.
    seed
        Seed of the bootstrap.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, an argument is out of its range, or fewer than 3 labels have enough cells.
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
    order = np.argsort(n_cells < minimum_cells, kind="stable")  # those that are ranked come first
    names, n_cells, n_labels = names[order], n_cells[order], int((n_cells >= minimum_cells).sum())
    if n_labels < FEWEST_LABELS:
        raise ValueError(
            f"labels: ranks need at least {FEWEST_LABELS} labels of minimum_cells={minimum_cells} cells or more; there are {n_labels}, "
            f"and {len(names) - n_labels} with fewer. Lower minimum_cells, or take coarser or finer labels."
        )
    figures = np.stack([values, reference])
    groups = [np.flatnonzero(label == latent) for latent in order]
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
    """Means of both figures, shape ``(2, n_cells)``, when cells are drawn with replacement; shape ``(n_draws, 2)``."""
    n_cells = figures.shape[1]
    step = max(1, _LARGEST_DRAW // n_cells)
    parts = []
    for start in range(0, n_draws, step):
        again = rng.integers(n_cells, size=(min(step, n_draws - start), n_cells))
        parts.append(figures[:, again].mean(axis=2).T)
    return np.concatenate(parts)


def _draw_estimates(
    estimates: pd.DataFrame, n_draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of labels, shape ``(n_labels,)``, and draws from their t-distributions, shape ``(n_draws, n_labels)``."""
    value, error, df = estimates[["value", "standard_error", "degrees_of_freedom"]].to_numpy(dtype=float).T
    # Half-known labels, of a single cell in some refit, have a value and no error.
    draws = rng.standard_t(np.where(np.isfinite(df), np.maximum(df, 1), 1e6), size=(n_draws, len(value)))
    return value, value + np.nan_to_num(error) * draws


def _correlate(
    statistic: Callable[[NDArray, NDArray], float],
    means: NDArray[np.float64],
    drawn: NDArray[np.float64],
    ends: list[float],
) -> dict[str, float]:
    """A statistic of ``means``, shape ``(2, n_labels)``, with its intervals; ``drawn``, shape ``(n_draws, 2, n_labels)``, are those of the bootstrap."""
    estimate = _of(statistic, means)
    lower, upper = pd.Series([_of(statistic, pair) for pair in drawn]).quantile(ends)  # of those that have ranks
    wide = norm.ppf(ends[1]) * _jackknife_error(statistic, means)
    return {
        "estimate": estimate,
        "lower": float(lower),
        "upper": float(upper),
        "jackknife_lower": float(np.clip(estimate - wide, -1, 1)),
        "jackknife_upper": float(np.clip(estimate + wide, -1, 1)),
    }


def _of(statistic: Callable[[NDArray, NDArray], float], pair: NDArray[np.float64]) -> float:
    if (np.ptp(pair, axis=1) == 0).any():  # scipy would say so at each of a thousand draws
        return np.nan
    return statistic(*pair)


def _jackknife_error(statistic: Callable[[NDArray, NDArray], float], means: NDArray[np.float64]) -> float:
    n = means.shape[1]
    if n <= FEWEST_LABELS:
        return np.nan  # two labels are ranked alike or not
    without = np.array([_of(statistic, np.delete(means, place, axis=1)) for place in range(n)])
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
