"""Theta: comparison of the neighbourhood purity of labels in two representations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from indiseek_sc._checks import check_number, check_share, check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_vector

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class ModalityImportance:
    """Theta of cells and of labels; positive where RNA separates a label better than ADT.

    Attributes
    ----------
    theta
        Theta of each cell, shape ``(n_cells,)``; NaN where the label is missing.
    purity_rna, purity_adt
        Share of a cell's neighbours with the same label in each representation, shape
        ``(n_cells,)``.
    table
        One row for each label, highest theta first: ``label``, ``n_cells``, ``theta`` (mean over
        its cells), ``lower`` and ``upper`` (bootstrap interval of the mean; NaN for a single cell),
        ``rank`` (1 is the highest theta), ``purity_rna``, ``purity_adt`` (means), ``chance_rna``,
        ``chance_adt`` (purities expected if labels are permuted within batches; without batches,
        the frequency of the label) and ``reliable`` (whether the label has enough cells).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.tile(["a", "b"], 20)
    >>> rna = rng.normal(size=(40, 2)) + 10 * (labels == "b")[:, None]
    >>> adt = rng.normal(size=(40, 3))
    >>> isk.metrics.modality_importance(rna, adt, labels).purity_rna.mean().round(2).item()
    1.0
    """

    theta: NDArray[np.float64]
    purity_rna: NDArray[np.float64]
    purity_adt: NDArray[np.float64]
    table: pd.DataFrame


def modality_importance(
    latent_rna: ArrayLike,
    latent_adt: ArrayLike,
    labels: ArrayLike,
    *,
    batches: ArrayLike | None = None,
    n_neighbors: int = 10,
    smoothing: float = 0.5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    seed: int = 0,
) -> ModalityImportance:
    r"""Compare how well two representations keep the cells of each label together.

    With :math:`\beta_m(c)` the share of the :math:`k` nearest neighbours of cell :math:`c` in
    representation :math:`m` that have its label, smoothed by :math:`a` pseudo-neighbours of each
    kind so that it is never 0,

    .. math::
        \theta(c) = \log \frac{\tilde\beta_{RNA}(c)}{\tilde\beta_{ADT}(c)}, \qquad
        \tilde\beta_m(c) = \frac{k \beta_m(c) + a}{k + 2a},

    averaged over the cells of a label [1]_. The smoothing and the interval are not from the paper.

    Parameters
    ----------
    latent_rna, latent_adt
        Any two representations of the same cells, shape ``(n_cells, n_dimensions)`` each.
    labels
        Label of each cell, shape ``(n_cells,)``; a cell without one has a theta of NaN and is no
        neighbour of others.
    batches
        Batch of each cell, shape ``(n_cells,)``. The expected purity is then that of labels
        permuted within batches.
    n_neighbors
        Number of neighbours of a cell, :math:`k`.
    smoothing
        Number of pseudo-neighbours, :math:`a`; above 0.
    n_bootstrap
        Number of bootstrap draws of the cells of a label.
    confidence
        Confidence level of the bootstrap interval.
    minimum_cells
        Labels of fewer cells are included, but not marked ``reliable``.
    seed
        Seed of the bootstrap.

    Returns
    -------
    Theta of cells and labels.

    Raises
    ------
    ValueError
        If an argument is out of its range, lengths differ, a representation is not finite, or there
        are too few cells.

    References
    ----------
    .. [1] Gui, Ma and Ma. IndiSeek learns information-guided disentangled representations. arXiv
       2509.21584 (2025).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.tile(["a", "b"], 20)
    >>> rna = rng.normal(size=(40, 2)) + 10 * (labels == "b")[:, None]
    >>> adt = rng.normal(size=(40, 3))
    >>> table = isk.metrics.modality_importance(rna, adt, labels).table
    >>> (table["theta"] > 0).tolist(), table["purity_rna"].tolist()
    ([True, True], [1.0, 1.0])
    """
    _check_settings(smoothing, n_bootstrap, confidence)
    check_whole("minimum_cells", minimum_cells, 0)
    check_whole("seed", seed, 0)
    scores = {}
    for role, latent in (("rna", latent_rna), ("adt", latent_adt)):
        label, names, neighbors = _find_labelled(latent, f"latent_{role}", labels, n_neighbors)
        batch = np.zeros(len(label), dtype=np.intp) if batches is None else as_labels(batches, "batches", len(label))[0]
        scores[f"purity_{role}"] = _purity(neighbors, label)
        scores[f"chance_{role}"] = expected_purity(neighbors, label, batch, len(names))
    theta = log_purity_ratio(scores["purity_rna"], scores["purity_adt"], n_neighbors, smoothing)
    rng = np.random.default_rng(seed)
    rows = []
    for code, name in enumerate(names):
        of_label = label == code
        lower, upper = _bootstrap_interval(theta[of_label], n_bootstrap, confidence, rng)
        row = {"label": str(name), "n_cells": int(of_label.sum()), "theta": theta[of_label].mean()}
        row |= {"lower": lower, "upper": upper}
        rows.append(row | {column: values[of_label].mean() for column, values in scores.items()})
    table = pd.DataFrame(rows)
    table = table[[*table.columns[:5], *PURITY_COLUMNS]]
    table.insert(5, "rank", table["theta"].rank(ascending=False, method="min").astype(int))
    table["reliable"] = table["n_cells"] >= minimum_cells
    table = table.sort_values(["rank", "label"], ignore_index=True)
    return ModalityImportance(theta, scores["purity_rna"], scores["purity_adt"], table)


PURITY_COLUMNS = ("purity_rna", "purity_adt", "chance_rna", "chance_adt")


def log_purity_ratio(
    purity_rna: NDArray[np.float64], purity_adt: NDArray[np.float64], n_neighbors: int, smoothing: float
) -> NDArray[np.float64]:
    """Return theta of cells from their purities, shape ``(n_cells,)``."""
    return np.log(
        (n_neighbors * purity_rna + smoothing) / (n_neighbors * purity_adt + smoothing)
    )  # the denominators k + 2a cancel


def exact_neighbors(points: NDArray[np.floating], n_neighbors: int) -> NDArray[np.intp]:
    """Return the exact nearest other cells of each cell, shape ``(n_cells, n_neighbors)``."""
    # Without a query, scikit-learn excludes each cell itself, even among duplicates.
    return NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(return_distance=False)


def smooth_over_neighbors(values: ArrayLike, latent: ArrayLike, n_neighbors: int = 50) -> NDArray[np.float64]:
    """Average values over the nearest cells, including the cell itself.

    Parameters
    ----------
    values
        Value of each cell, shape ``(n_cells,)``.
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    n_neighbors
        Number of averaged cells, the bandwidth; all cells if there are fewer.

    Returns
    -------
    Shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or ``n_neighbors`` is less than 1.

    Examples
    --------
    >>> latent = [[0.0], [0.1], [5.0], [5.1]]
    >>> isk.metrics.smooth_over_neighbors([1.0, 3.0, 5.0, 7.0], latent, n_neighbors=2)
    array([2., 2., 6., 6.])
    """
    points = as_matrix(latent, "latent")
    values = as_vector(values, "values", len(points))
    n_others = min(check_whole("n_neighbors", n_neighbors, 1), len(points)) - 1
    if n_others == 0:
        return values
    return (values[exact_neighbors(points, n_others)].sum(axis=1) + values) / (n_others + 1)


def _bootstrap_interval(
    values: NDArray[np.float64], n_bootstrap: int, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the percentile interval of the mean of ``values``, shape ``(n_cells,)``.

    Theta has few distinct values, so that a bootstrap draw is a multinomial draw of their counts.
    This gives the same distribution without an array of shape ``(n_bootstrap, n_cells)``.
    """
    if len(values) < 2:
        return np.nan, np.nan
    distinct, times = np.unique(values, return_counts=True)
    draws = rng.multinomial(len(values), times / len(values), size=n_bootstrap)
    means = draws @ distinct / len(values)
    lower, upper = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def _check_settings(smoothing: float, n_bootstrap: int, confidence: float) -> None:
    check_number("smoothing", smoothing, above_zero=True)  # otherwise the log ratio may be infinite
    check_whole("n_bootstrap", n_bootstrap, 1)
    check_share("confidence", confidence)


def label_purity(latent: ArrayLike, labels: ArrayLike, *, n_neighbors: int = 10) -> NDArray[np.float64]:
    """Compute the share of a cell's nearest neighbours that have the same label.

    Neighbours are exact (Euclidean) and never the cell itself, even among cells with identical
    representations. A cell without a label has a purity of NaN and is no neighbour of others.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Label of each cell, shape ``(n_cells,)``; None or NaN where it is unknown.
    n_neighbors
        Number of neighbours of a cell.

    Returns
    -------
    Shares between 0 and 1, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If ``latent`` is not a finite matrix, lengths differ, or there are not more labelled cells
        than ``n_neighbors``.

    Examples
    --------
    >>> latent = [[0.0], [0.1], [5.0], [5.2], [5.3]]
    >>> isk.metrics.label_purity(latent, ["a", "a", "b", "b", "a"], n_neighbors=1)
    array([1., 1., 1., 0., 0.])
    """
    label, _, neighbors = _find_labelled(latent, "latent", labels, n_neighbors)
    return _purity(neighbors, label)


def _find_labelled(
    latent: ArrayLike, name: str, labels: ArrayLike, n_neighbors: int
) -> tuple[NDArray[np.intp], NDArray[np.str_], NDArray[np.intp]]:
    """Return integer labels, their names, and neighbours among labelled cells.

    Neighbours are -1 for cells without a label.
    """
    points = as_matrix(latent, name)
    label, names = as_labels(labels, "labels", len(points))
    labelled = np.flatnonzero(label >= 0)
    if not check_whole("n_neighbors", n_neighbors, 1) < len(labelled):
        raise ValueError(
            f"n_neighbors={n_neighbors} must be at least 1 and less than the number of labelled cells, {len(labelled)}."
        )
    neighbors = np.full((len(points), n_neighbors), -1)
    neighbors[labelled] = labelled[exact_neighbors(points[labelled], n_neighbors)]
    return label, names, neighbors


def _purity(neighbors: NDArray[np.intp], label: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the share of neighbours with the same label; NaN for cells without a label."""
    return np.where(label >= 0, (label[neighbors] == label[:, None]).mean(axis=1), np.nan)


def expected_purity(
    neighbors: NDArray[np.intp], label: NDArray[np.intp], batch: NDArray[np.intp], n_labels: int
) -> NDArray[np.float64]:
    """Return the expected purity of each cell if labels of others are permuted within batches.

    Shape ``(n_cells,)``.
    """
    known = label >= 0
    counts = np.zeros((batch.max() + 1, n_labels))
    np.add.at(counts, (batch[known], label[known]), 1)
    of_batch = counts.sum(axis=1)
    own = (batch[neighbors] == batch[:, None]).astype(int)  # excludes the cell itself
    expected = (counts[batch[neighbors], label[:, None]] - own) / np.maximum(of_batch[batch[neighbors]] - own, 1)
    return np.where(known, expected.mean(axis=1), np.nan)
