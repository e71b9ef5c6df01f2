"""Prediction of labels and of known factors from a representation, on held-out cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_split
from indiseek_sc.metrics._probes import held_out_r2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike


def label_accuracy(
    latent: ArrayLike, labels: ArrayLike, train: ArrayLike, test: ArrayLike, *, n_neighbors: int = 15
) -> float:
    """Compute the accuracy of a nearest-neighbour classifier of labels on test cells.

    Each test cell receives the most frequent label among its nearest training cells.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Label of each cell, shape ``(n_cells,)``; cells without one are left out of both parts.
    train, test
        Row numbers of the cells for fitting and for evaluation, shapes ``(n_train,)`` and
        ``(n_test,)``.
    n_neighbors
        Number of neighbours among the training cells.

    Returns
    -------
    Accuracy between 0 and 1.

    Raises
    ------
    ValueError
        If ``latent`` is not a finite matrix, ``train`` and ``test`` overlap or lie outside of the
        cells, or a part has too few labelled cells.

    Examples
    --------
    >>> labels = np.tile(["a", "b"], 20)
    >>> latent = np.random.default_rng(0).normal(size=(40, 2)) + 10 * (labels == "b")[:, None]
    >>> isk.metrics.label_accuracy(latent, labels, np.arange(30), np.arange(30, 40), n_neighbors=5)
    1.0
    """
    points = as_matrix(latent, "latent")
    label, _ = as_labels(labels, "labels", len(points))
    known, unseen = (rows[label[rows] >= 0] for rows in as_split(train, test, len(points)))
    if not 1 <= check_whole("n_neighbors", n_neighbors, 0) <= len(known):
        raise ValueError(
            f"n_neighbors={n_neighbors} must be 1 or more, up to the {len(known)} labelled cells of train."
        )
    if len(unseen) == 0:
        raise ValueError("No cell of test has a label.")
    classifier = KNeighborsClassifier(n_neighbors=n_neighbors).fit(points[known], label[known])
    return float(classifier.score(points[unseen], label[unseen]))


def factor_recovery(
    latent: ArrayLike,
    factors: Mapping[str, ArrayLike],
    train: ArrayLike,
    test: ArrayLike,
    *,
    given: ArrayLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute how much of each known factor a representation explains on held-out cells.

    Each factor has its own probes, the better of which counts. For a specific representation of the
    synthetic suite, the targets are at least .95 for the private factors of its modality and at
    most .02 for shared factors and their squares. This metric is not from the paper.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    factors
        By name, one or more factors of the same cells, shape ``(n_cells,)`` or
        ``(n_cells, n_factors)``.
    train, test
        Row numbers of the cells on which probes are fitted and evaluated, shapes ``(n_train,)`` and
        ``(n_test,)``; they must not overlap.
    given
        Additional predictors, shape ``(n_cells, n_given)``. For example, a product s * p identifies
        p only up to its sign: p and p * sign(s) are equally independent of a symmetric s. A
        representation of either is evaluated fairly with s given, which by itself explains nothing
        of p.
    seed
        Seed of the probes.

    Returns
    -------
    One row for each factor: ``factor`` (name and column, such as ``shared_0``; the name alone if
    the array has one dimension) and ``r2``, NaN for a constant factor.

    Raises
    ------
    ValueError
        If no factor is given, shapes differ, a value is not finite, or ``train`` and ``test``
        overlap or lie outside of the cells.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> factors = {"shared": rng.normal(size=(60, 1)), "private": rng.normal(size=(60, 1))}
    >>> table = isk.metrics.factor_recovery(factors["private"], factors, np.arange(32), np.arange(32, 60))
    >>> table.assign(recovered=table["r2"] > 0.95)[["factor", "recovered"]]
          factor  recovered
    0   shared_0      False
    1  private_0       True
    """
    if not factors:
        raise ValueError("factors is empty. Give at least one array by name.")
    source = as_matrix(latent, "latent")
    if given is not None:
        source = np.hstack([source, as_matrix(given, "given", len(source))])
    rows_train, rows_test = as_split(train, test, len(source))
    rows = []
    for name, values in factors.items():
        values = np.asarray(values)
        matrix = as_matrix(values[:, None] if values.ndim == 1 else values, f"factors[{name!r}]", len(source))
        for column in range(matrix.shape[1]):
            r2 = held_out_r2(source, matrix[:, [column]], rows_train, rows_test, seed=seed)
            rows.append({"factor": name if values.ndim == 1 else f"{name}_{column}", "r2": r2})
    return pd.DataFrame(rows)
