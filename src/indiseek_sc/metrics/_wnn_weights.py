"""Which modality a cell's neighbours are better predicted from: the modality weights of Seurat's weighted neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

_CROSS_CONSTANT = 1e-4
_LARGEST_SCORE = 200.0
_ROUNDING = 1e-12
_BLOCK_ENTRIES = 4_000_000
"""Differences of coordinates held at once: 32 MB."""


def wnn_weights(
    first: ArrayLike, second: ArrayLike, *, n_neighbors: int = 20, normalize: bool = True
) -> NDArray[np.float64]:
    r"""Weight of the first of two modalities in each cell, as in Seurat's weighted nearest neighbours.

    Each cell is predicted as the mean of its neighbours, found in its own modality (*within*) or in the other one
    (*cross*). With :math:`x_i` the cell in modality :math:`m`, :math:`\hat x_i` a prediction and :math:`\nu_i` the
    distance to the nearest neighbour,

    .. math::

        \theta = \exp\left(-\frac{\max(\lVert x_i - \hat x_i \rVert - \nu_i, 0)}{\sigma_i}\right), \qquad
        s_m = \min\left(\frac{\theta_\text{within}}{\theta_\text{cross} + 10^{-4}}, 200\right), \qquad
        w_i = \frac{e^{s_1}}{e^{s_1} + e^{s_2}}.

    The bandwidth :math:`\sigma_i` is the mean of :math:`\max(\lVert x_i - x_j \rVert - \nu_i, 0)` over the k cells
    :math:`j` whose sets of k neighbours have the smallest non-zero Jaccard similarity with that of :math:`i`; of those
    that tie for the last place the farthest are taken.

    Neighbours are exact. Memory grows with the number of cells alone.

    Parameters
    ----------
    first, second
        Embeddings of the same cells in the same order, such as principal components, shape ``(n_cells, n_features)``;
        widths may differ.
    n_neighbors
        k: neighbours of a cell, itself included, as Seurat counts them; the predictions are means of the k - 1 others.
        All cells are neighbours where there are fewer than that.
    normalize
        Bring each row to length 1 first; a row of zeros stays.

    Returns
    -------
    Weights between 0 and 1, shape ``(n_cells,)``; those of the second modality are 1 minus them. 0.5 where nothing can
    be told: two cells, or neither modality tells any cells apart.

    Raises
    ------
    ValueError
        If an embedding is not a finite matrix, they have not the same number of rows, there are fewer than 2 cells, or
        ``n_neighbors`` is less than 2.

    Notes
    -----
    The formula is that of ``FindModalityWeights`` (``R/clustering.R``), ``ComputeSNN`` and ``SNN_SmallestNonzero_Dist``
    (``src/snn.cpp``) of satijalab/seurat with their defaults, as ``FindMultiModalNeighbors`` calls them (its
    ``prune.SNN`` of 1/15 is for the joint graph alone). Read, not run: R was not at hand, so figures of R are no test
    of this function. It differs in these points:

    - Seurat searches by Annoy, approximately.
    - With identical cells, Seurat may take another cell for the first neighbour, and then keep the cell itself in the
      predictions; here it is always left out of them. Which of several cells at one distance are neighbours is left to
      the search. It is slow where thousands of cells are alike, since they all share neighbours.
    - What Seurat leaves undefined (0 / 0): where the bandwidth is 0, since a cell is identical to all that it could be
      compared with, all affinities are 1 and the modality has the score of one that tells nothing. So cells without any
      protein, or a single protein brought to length 1, do not outweigh RNA.
    - Excess below 1e-12 of the nearest distance is rounding and counts as none, and unit rows are rounded to 12 decimals
      so that rows of one direction are one point.

    References
    ----------
    Hao et al., Integrated analysis of multimodal single-cell data, Cell 184, 3573 (2021).
    """
    points = [as_matrix(first, "first").astype(np.float64)]
    points.append(as_matrix(second, "second", len(points[0])).astype(np.float64))
    if len(points[0]) < 2:
        raise ValueError(f"first and second need at least 2 cells to compare; got {len(points[0])}.")
    if not check_whole("n_neighbors", n_neighbors, 0) >= 2:
        raise ValueError(f"n_neighbors={n_neighbors} must be at least 2: the cell itself is one of them.")
    points = [_normalize(matrix) if normalize else _shrink(matrix) for matrix in points]
    neighbors = [_find_others(matrix, n_neighbors) for matrix in points]
    scores = [_score(points[m], neighbors[m], neighbors[1 - m]) for m in (0, 1)]
    return expit(scores[0] - scores[1])


def _shrink(points: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Divide by the largest entry, so that squares neither overflow nor vanish; weights do not depend on units."""
    largest = np.abs(points).max(axis=axis, keepdims=True)
    return np.divide(points, largest, out=np.zeros_like(points), where=largest > 0)


def _normalize(points: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = _shrink(points, axis=1)
    length = _norm(scaled)[:, None]
    return np.divide(scaled, length, out=scaled, where=length > 0).round(12)


def _find_others(points: NDArray[np.float64], n_neighbors: int) -> NDArray[np.intp]:
    """Nearest other cells, shape ``(n_cells, k - 1)``, whatever the duplicates of a cell are."""
    n_others = min(n_neighbors, len(points)) - 1
    return NearestNeighbors(n_neighbors=n_others).fit(points).kneighbors(return_distance=False)


def _score(points: NDArray[np.float64], own: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.float64]:
    """How much better the modality's own neighbours predict a cell than those of the other modality do."""
    nearest, within, cross = np.empty((3, len(points)))
    for rows in _blocks(np.full(len(points), own.shape[1] * points.shape[1])):
        away = points[own[rows]] - points[rows, None]
        nearest[rows] = _norm(away).min(axis=1)
        within[rows] = _norm(away.mean(axis=1))
        cross[rows] = _norm((points[others[rows]] - points[rows, None]).mean(axis=1))
    bandwidth = _bandwidth(points, own, nearest)
    affinity_within, affinity_cross = (_affinity(_excess(distance, nearest), bandwidth) for distance in (within, cross))
    return np.minimum(affinity_within / (affinity_cross + _CROSS_CONSTANT), _LARGEST_SCORE)


def _bandwidth(points: NDArray[np.float64], own: NDArray[np.intp], nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean excess distance to the cells that share the fewest neighbours, but some, with a cell.

    All sets have k members, so that Jaccard similarity rises with the number of shared ones.
    """
    n_cells, k = len(points), own.shape[1] + 1
    members = np.column_stack([np.arange(n_cells), own])
    shape = (n_cells, n_cells)
    sets = csr_array((np.ones(members.size, dtype=np.intp), members.ravel(), np.arange(0, members.size + 1, k)), shape)
    containing = sets.T.tocsr()
    most_sharing = np.bincount(members.ravel())[members].sum(axis=1)  # each partner is met once for each shared member
    bandwidth = np.empty(n_cells)
    for rows in _blocks(most_sharing * points.shape[1]):
        shared = sets[rows] @ containing
        n_partners = np.diff(shared.indptr)
        owner = np.repeat(np.arange(len(n_partners)), n_partners)
        n_far = np.minimum(n_partners, k)
        histogram = np.bincount(owner * (k + 1) + shared.data, minlength=len(n_partners) * (k + 1))
        last = (histogram.reshape(-1, k + 1).cumsum(axis=1) >= n_far[:, None]).argmax(axis=1)
        candidate = shared.data <= last[owner]
        owner, partner = owner[candidate], shared.indices[candidate]
        excess = _excess(_norm(points[partner] - points[rows][owner]), nearest[rows][owner])
        order = np.lexsort((-excess, owner))
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        far = order[place < n_far[owner]]
        bandwidth[rows] = np.bincount(owner[far], excess[far]) / n_far
    return bandwidth


def _affinity(excess: NDArray[np.float64], bandwidth: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.exp(-excess / np.where(bandwidth > 0, bandwidth, np.inf))


def _excess(distance: NDArray[np.float64], nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(distance > nearest * (1 + _ROUNDING), distance - nearest, 0.0)


def _norm(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt((difference**2).sum(axis=-1))


def _blocks(sizes: NDArray[np.integer]) -> Iterator[slice]:
    """Consecutive rows whose sizes add up to no more than a block, at least one row each."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _BLOCK_ENTRIES, side="right")))
        yield slice(start, stop)
        start = stop
