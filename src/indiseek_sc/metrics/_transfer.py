"""Label transfer by nearest labelled neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

N_AT_ONCE = 20_000
"""Number of cells whose votes are held at once."""


def transfer_labels(
    reference: ArrayLike, labels: ArrayLike, query: ArrayLike, *, n_neighbors: int = 15
) -> tuple[NDArray, NDArray[np.float64]]:
    """Assign labels to cells by a distance-weighted vote of the nearest labelled cells.

    Votes are weighted by the inverse of the distance.

    Parameters
    ----------
    reference
        Any representation of labelled cells, shape ``(n_reference, n_dimensions)``.
    labels
        Their labels, shape ``(n_reference,)``.
    query
        Representation of the cells to label, shape ``(n_query, n_dimensions)``.
    n_neighbors
        Number of voting cells; all labelled cells if there are fewer.

    Returns
    -------
    For each cell, the label with the most votes, and its share of the votes, shape ``(n_query,)``
    both.

    Raises
    ------
    ValueError
        If an array has a wrong shape or is not finite, or ``n_neighbors`` is below 1.

    Examples
    --------
    >>> reference, labels = [[0.0], [1.0], [10.0], [11.0]], ["a", "a", "b", "b"]
    >>> found, share = isk.metrics.transfer_labels(reference, labels, [[0.4], [10.6]], n_neighbors=2)
    >>> found.tolist(), share.tolist()
    (['a', 'b'], [1.0, 1.0])
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
