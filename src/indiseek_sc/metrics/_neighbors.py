"""How well a code keeps cells of one label together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from indiseek_sc.metrics._checks import as_labels, as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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
    if not 1 <= n_neighbors < len(labelled):
        raise ValueError(
            f"n_neighbors={n_neighbors} must be at least 1 and less than the number of labelled cells, {len(labelled)}."
        )
    # Asked without a query, scikit-learn leaves each cell itself out, whatever its duplicates are.
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(points[labelled])
    neighbors = labelled[search.kneighbors(return_distance=False)]
    purity = np.full(len(points), np.nan)
    purity[labelled] = (label[neighbors] == label[labelled, None]).mean(axis=1)
    return purity
