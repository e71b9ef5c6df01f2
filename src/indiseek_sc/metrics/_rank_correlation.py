"""Whether two figures of cells rank their labels alike, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, norm, rankdata

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


def rank_correlation(
    values: ArrayLike,
    reference: ArrayLike,
    labels: ArrayLike,
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    statistics: Sequence[str] = tuple(STATISTICS),
    seed: int = 0,
) -> pd.DataFrame:
    r"""Correlate the ranks of labels by the mean of two figures of their cells, such as theta and WNN weights.

    Two intervals answer two questions. The *bootstrap* draws the cells of each label again: how far would other cells of the same types move the figure? The
    *jackknife* leaves out one label at a time: how far does it hang on which types there are? With few labels the second is the wider one, and the
    one to quote. Its standard error is :math:`\sqrt{\frac{n - 1}{n} \sum_i (\rho_{(i)} - \bar\rho)^2}` (Efron and Stein 1981, Ann. Statist. 9, 586),
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
        Of both intervals.
    minimum_cells
        Labels of fewer cells are left out, and named in the table.
    statistics
        Which of ``"spearman"`` and ``"kendall"``.
    seed
        Seed of the bootstrap.

    Returns
    -------
    A row for each of ``statistics``, with ``statistic``, ``estimate``, ``lower`` and ``upper`` (bootstrap, percentile),
    ``jackknife_lower`` and ``jackknife_upper``, ``n_labels``, and ``left_out`` (labels of too few cells, joined by commas). Not numbers where all labels are
    alike, and the jackknife where there are fewer than 4.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, an argument is out of its range, or fewer than 3 labels have enough cells.
    """
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap={n_bootstrap} must be at least 1.")
    if unknown := sorted(set(statistics) - set(STATISTICS)):
        raise ValueError(f"statistics: there is no {unknown[0]!r}, only {', '.join(STATISTICS)}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1.")
    values = as_vector(values, "values")
    reference = as_vector(reference, "reference", len(values))
    label, names = as_labels(labels, "labels", len(values))
    groups = [np.flatnonzero(label == code) for code in range(len(names))]
    left_out = [str(name) for name, cells in zip(names, groups, strict=True) if cells.size < minimum_cells]
    groups = [cells for cells in groups if cells.size >= minimum_cells]
    if len(groups) < FEWEST_LABELS:
        raise ValueError(
            f"labels: ranks need at least {FEWEST_LABELS} labels of minimum_cells={minimum_cells} cells or more; there are {len(groups)}, "
            f"and {len(left_out)} with fewer. Lower minimum_cells, or take coarser or finer labels."
        )
    rng = np.random.default_rng(seed)
    means = np.array([[x[cells].mean() for cells in groups] for x in (values, reference)])
    drawn = np.empty((n_bootstrap, 2, len(groups)))
    for place, cells in enumerate(groups):
        step = max(1, _LARGEST_DRAW // cells.size)
        for start in range(0, n_bootstrap, step):
            some = drawn[start : start + step, :, place]
            again = cells[rng.integers(cells.size, size=(len(some), cells.size))]
            some[:] = np.stack([values[again].mean(axis=1), reference[again].mean(axis=1)], axis=1)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = []
    for name in statistics:
        statistic = STATISTICS[name]
        estimate = _of(statistic, means)
        lower, upper = pd.Series([_of(statistic, pair) for pair in drawn]).quantile(ends)  # of those that have ranks
        wide = norm.ppf(ends[1]) * _jackknife_error(statistic, means)
        rows.append(
            {
                "statistic": name,
                "estimate": estimate,
                "lower": float(lower),
                "upper": float(upper),
                "jackknife_lower": float(np.clip(estimate - wide, -1, 1)),
                "jackknife_upper": float(np.clip(estimate + wide, -1, 1)),
                "n_labels": len(groups),
                "left_out": ", ".join(left_out),
            }
        )
    return pd.DataFrame(rows)


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
