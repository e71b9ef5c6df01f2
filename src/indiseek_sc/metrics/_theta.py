"""Theta: which of two modalities keeps the cells of a label together, and whether it ranks labels as another figure does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, norm, rankdata
from sklearn.neighbors import NearestNeighbors

from indiseek_sc._checks import check_name, check_number, check_share, check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class ModalityImportance:
    """Theta of cells and of labels; positive where RNA separates a label better than ADT.

    Attributes
    ----------
    theta
        Theta by cell, shape ``(n_cells,)``; NaN where the label is missing.
    purity_rna, purity_adt
        Share of a cell's neighbours with its own label in each code, shape ``(n_cells,)``.
    table
        One row a label, highest theta first: ``label``, ``n_cells``, ``theta`` (mean over its cells), ``lower`` and
        ``upper`` (bootstrap interval of that mean; NaN for a single cell), ``rank`` (1 is the highest theta),
        ``purity_rna``, ``purity_adt`` (means) and ``reliable`` (whether the label has enough cells).
    """

    theta: NDArray[np.float64]
    purity_rna: NDArray[np.float64]
    purity_adt: NDArray[np.float64]
    table: pd.DataFrame


def modality_importance(
    code_rna: ArrayLike,
    code_adt: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 10,
    smoothing: float = 0.5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    seed: int = 0,
) -> ModalityImportance:
    r"""Compare how well two codes keep each label together.

    With :math:`\beta_m(c)` the share of the :math:`k` nearest neighbours of cell :math:`c` in code :math:`m` that
    carry its label, smoothed by :math:`a` pseudo-neighbours of each kind so that it is never 0,

    .. math::
        \theta(c) = \log \frac{\tilde\beta_{RNA}(c)}{\tilde\beta_{ADT}(c)}, \qquad
        \tilde\beta_m(c) = \frac{k \beta_m(c) + a}{k + 2a},

    averaged over the cells of a label (Gui, Ma and Ma, arXiv 2509.21584; the smoothing and the interval are ours).

    Parameters
    ----------
    code_rna, code_adt
        Codes of the same cells, shapes ``(n_cells, n_rna)`` and ``(n_cells, n_adt)``.
    labels
        One label a cell, shape ``(n_cells,)``; a cell without one gets NaN and is nobody's neighbour.
    n_neighbors
        Neighbours of a cell, :math:`k`.
    smoothing
        Pseudo-neighbours, :math:`a`; more than 0.
    n_bootstrap
        Number of times that the cells of a label are drawn again, for the interval.
    confidence
        Share of the bootstrap means that lies within the interval.
    minimum_cells
        Labels of fewer cells are kept, but not marked ``reliable``.
    seed
        Seed of the bootstrap.

    Raises
    ------
    ValueError
        If an argument is out of its range, lengths differ, a code is not finite, or cells are too few.
    """
    _check_settings(smoothing, n_bootstrap, confidence)
    check_whole("minimum_cells", minimum_cells, 0)
    check_whole("seed", seed, 0)
    purity = {
        "purity_rna": label_purity(code_rna, labels, n_neighbors=n_neighbors),
        "purity_adt": label_purity(code_adt, labels, n_neighbors=n_neighbors),
    }
    smooth = {name: n_neighbors * share + smoothing for name, share in purity.items()}
    theta = np.log(smooth["purity_rna"] / smooth["purity_adt"])  # k + 2a cancels

    label, names = as_labels(labels, "labels", len(theta))
    rng = np.random.default_rng(seed)
    rows = []
    for code, name in enumerate(names):
        of_label = label == code
        lower, upper = _bootstrap_interval(theta[of_label], n_bootstrap, confidence, rng)
        row = {"label": str(name), "n_cells": int(of_label.sum()), "theta": theta[of_label].mean()}
        row |= {"lower": lower, "upper": upper}
        rows.append(row | {column: share[of_label].mean() for column, share in purity.items()})
    table = pd.DataFrame(rows)
    table.insert(5, "rank", table["theta"].rank(ascending=False, method="min").astype(int))
    table["reliable"] = table["n_cells"] >= minimum_cells
    table = table.sort_values(["rank", "label"], ignore_index=True)
    return ModalityImportance(theta=theta, table=table, **purity)


def _bootstrap_interval(
    values: NDArray[np.float64], n_bootstrap: int, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values``, shape ``(n_cells,)``, when cells are drawn with replacement.

    Theta takes few distinct values, so a draw of cells is a multinomial draw of how often each value comes up: the
    same distribution, without an array of shape ``(n_bootstrap, n_cells)``.
    """
    if len(values) < 2:
        return np.nan, np.nan
    distinct, times = np.unique(values, return_counts=True)
    draws = rng.multinomial(len(values), times / len(values), size=n_bootstrap)
    means = draws @ distinct / len(values)
    lower, upper = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def _check_settings(smoothing: float, n_bootstrap: int, confidence: float) -> None:
    check_number("smoothing", smoothing, above_zero=True)  # else the log ratio may be infinite
    check_whole("n_bootstrap", n_bootstrap, 1)
    check_share("confidence", confidence)


def label_purity(code: ArrayLike, labels: ArrayLike, *, n_neighbors: int = 10) -> NDArray[np.float64]:
    """Share of a cell's nearest neighbours that carry its own label.

    Neighbours are exact (Euclidean) and never the cell itself, also where cells have identical codes. A cell without
    a label can neither agree nor disagree: it gets NaN and is nobody's neighbour.

    Parameters
    ----------
    code
        Positions of the cells, shape ``(n_cells, n_features)``.
    labels
        One label a cell, shape ``(n_cells,)``; None or NaN where it is not known.
    n_neighbors
        Number of neighbours of a cell.

    Returns
    -------
    Shares between 0 and 1, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If ``code`` is not a finite matrix, lengths differ, or there are not more labelled cells than ``n_neighbors``.
    """
    points = as_matrix(code, "code")
    label, _ = as_labels(labels, "labels", len(points))
    labelled = np.flatnonzero(label >= 0)
    if not check_whole("n_neighbors", n_neighbors, 1) < len(labelled):
        raise ValueError(
            f"n_neighbors={n_neighbors} must be at least 1 and less than the number of labelled cells, {len(labelled)}."
        )
    # Asked without a query, scikit-learn leaves each cell itself out, whatever its duplicates are.
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(points[labelled])
    neighbors = labelled[search.kneighbors(return_distance=False)]
    purity = np.full(len(points), np.nan)
    purity[labelled] = (label[neighbors] == label[labelled, None]).mean(axis=1)
    return purity


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
        A row for each statistic, ``"spearman"`` and ``"kendall"``, with ``statistic``, ``estimate``, ``lower`` and ``upper`` (bootstrap, percentile),
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
    seed: int = 0,
) -> RankCorrelation:
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
        Of all intervals.
    minimum_cells
        Labels of fewer cells are not ranked; the table names them.
    statistics
        Which of ``"spearman"`` and ``"kendall"``.
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
    groups = [np.flatnonzero(label == code) for code in order]
    means = np.stack([figures[:, cells].mean(axis=1) for cells in groups], axis=1)
    rng = np.random.default_rng(seed)
    drawn = np.stack([_draw_means(figures[:, cells], n_bootstrap, rng) for cells in groups], axis=2)
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
