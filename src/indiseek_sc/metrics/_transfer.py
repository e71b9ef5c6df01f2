"""Labels of cells by their nearest neighbours among labelled ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

N_AT_ONCE = 20_000
"""Cells whose votes are held at a time."""


def transfer_labels(
    reference: ArrayLike, labels: ArrayLike, query: ArrayLike, *, n_neighbors: int = 15
) -> tuple[NDArray, NDArray[np.float64]]:
    """Let the nearest labelled cells vote for the label of each cell, each by the inverse of its distance.

    Parameters
    ----------
    reference
        Representations of labelled cells, shape ``(n_reference, n_dimensions)``.
    labels
        Their labels, shape ``(n_reference,)``.
    query
        Representations of the cells to label, shape ``(n_query, n_dimensions)``.
    n_neighbors
        How many cells vote; all if there are fewer.

    Returns
    -------
    The label of each cell with the most votes, and its share of them, shape ``(n_query,)`` both.

    Raises
    ------
    ValueError
        If an array has another shape or is not finite, or ``n_neighbors`` is below 1.
    """
    from sklearn.neighbors import KNeighborsClassifier

    reference, labels = as_matrix(reference, "reference"), np.asarray(labels)
    query = as_matrix(query, "query")
    if labels.shape != (len(reference),) or not len(reference):
        raise ValueError(
            f"labels must have one entry for each of {len(reference):,} cells, and at least one; got {labels.shape}."
        )
    if query.shape[1] != reference.shape[1]:
        raise ValueError(f"query has {query.shape[1]} dimensions, but reference has {reference.shape[1]}.")
    n_neighbors = min(check_whole("n_neighbors", n_neighbors, 1), len(reference))
    voters = KNeighborsClassifier(n_neighbors, weights="distance").fit(reference, labels)
    found, shares = np.empty(len(query), dtype=int), np.empty(len(query))
    for start in range(0, len(query), N_AT_ONCE):
        some = slice(start, start + N_AT_ONCE)
        votes = voters.predict_proba(query[some])
        found[some], shares[some] = votes.argmax(axis=1), votes.max(axis=1)
    return voters.classes_[found], shares
