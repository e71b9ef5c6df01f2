"""Weighted nearest neighbours of Seurat for two modalities, and their shared-neighbour graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from indiseek_sc._checks import check_number, check_whole
from indiseek_sc.metrics._wnn_weights import WnnSearch, affinity, as_sets, blocks, fit_wnn, norm, search_neighbors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class WnnNeighbors(NamedTuple):
    """Weighted nearest neighbours of cells, in order of distance.

    Examples
    --------
    >>> first, second = np.random.default_rng(0).normal(size=(2, 30, 4))
    >>> found = isk.metrics.wnn_neighbors(first, second, n_neighbors=5, n_candidates=10, search="exact")
    >>> found.indices.shape, found.weights.shape
    ((30, 5), (30,))
    """

    indices: NDArray[np.intp]
    """Row numbers of the neighbours, shape ``(n_cells, n_neighbors)``, without the cell itself."""
    distances: NDArray[np.float64]
    """``sqrt((1 - affinity) / 2)``, between 0 and 0.71, of the same shape."""
    weights: NDArray[np.float64]
    """Weights of the first modality, shape ``(n_cells,)``, as returned by :func:`wnn_weights`."""


def wnn_neighbors(
    first: ArrayLike,
    second: ArrayLike,
    *,
    n_neighbors: int = 20,
    n_candidates: int = 200,
    normalize: bool = True,
    search: WnnSearch = "annoy",
) -> WnnNeighbors:
    r"""Find the weighted nearest neighbours of each cell in two modalities, as Seurat does.

    The candidates of a cell are its nearest cells in either modality. With :math:`w_i`,
    :math:`\nu_i` and :math:`\sigma_i` the weight, the distance to the nearest neighbour and the
    bandwidth of each modality as in :func:`wnn_weights`, the candidates with the largest affinity

    .. math::

        \sum_m w_{mi} \exp\left(-\frac{\max(\lVert x_{mi} - x_{mj} \rVert - \nu_{mi}, 0)}{\sigma_{mi}}\right)

    are selected. Ties are resolved by the distance in the first modality, then in the second.

    Parameters
    ----------
    first, second
        Any two representations of the same cells in the same order, shape
        ``(n_cells, n_dimensions)``; widths may differ.
    n_neighbors
        Number of neighbours of a cell (Seurat's ``k.nn``), without the cell itself; all others if
        there are fewer. Weights are computed from the same number of neighbours including the cell
        itself, as in Seurat.
    n_candidates
        Number of nearest cells in each modality that are compared (Seurat's ``knn.range``),
        including the cell itself; all cells if there are fewer.
    normalize, search
        As in :func:`wnn_weights`.

    Returns
    -------
    Indices, distances and weights.

    Raises
    ------
    ValueError
        As in :func:`wnn_weights`, and if ``n_candidates`` is not above ``n_neighbors``.

    Notes
    -----
    Indices and distances are those of ``FindMultiModalNeighbors`` of satijalab/seurat with its
    defaults (object ``weighted.nn``), verified on recorded output of Seurat 5.5.1 and 4.3.0. Seurat
    drops the first neighbour that Annoy finds, assuming that it is the cell itself. Among identical
    cells it may be another cell; Seurat, and ``search="annoy"``, then list the cell among its own
    neighbours.

    References
    ----------
    Hao et al., Integrated analysis of multimodal single-cell data, Cell 184, 3573 (2021).

    Examples
    --------
    >>> first, second = np.random.default_rng(0).normal(size=(2, 30, 4))
    >>> found = isk.metrics.wnn_neighbors(first, second, n_neighbors=5, n_candidates=10, search="exact")
    >>> bool((found.indices == np.arange(30)[:, None]).any())
    False
    """
    if check_whole("n_candidates", n_candidates, 2) <= check_whole("n_neighbors", n_neighbors, 2):
        raise ValueError(
            f"n_candidates={n_candidates} must be above n_neighbors={n_neighbors}: neighbours are selected among the candidates."
        )
    wnn = fit_wnn(first, second, n_neighbors, normalize, search)
    n_cells = len(wnn.weights)
    n_neighbors = min(n_neighbors, n_cells - 1)
    ranges = [search_neighbors(modality.points, n_candidates, search)[0][:, 1:] for modality in wnn.modalities]
    n_pairs, width = ranges[0].shape[1] * 2, sum(modality.points.shape[1] for modality in wnn.modalities)
    indices = np.empty((n_cells, n_neighbors), dtype=np.intp)
    affinities = np.empty((n_cells, n_neighbors))
    for rows in blocks(np.full(n_cells, n_pairs * width)):
        candidates = np.hstack([found[rows] for found in ranges])
        both = np.zeros(candidates.shape)
        for modality, weight in zip(wnn.modalities, (wnn.weights, 1 - wnn.weights), strict=True):
            distance = norm(modality.points[candidates] - modality.points[rows, None])
            nearest, bandwidth = modality.nearest[rows, None], modality.bandwidth[rows, None]
            both += weight[rows, None] * affinity(distance, nearest, bandwidth)
        both[_find_repeated(candidates, n_cells)] = -np.inf
        order = np.argsort(-both, axis=1, kind="stable")[:, :n_neighbors]
        indices[rows] = np.take_along_axis(candidates, order, axis=1)
        affinities[rows] = np.take_along_axis(both, order, axis=1)
    return WnnNeighbors(indices, np.sqrt(np.clip((1 - affinities) / 2, 0, 1)), wnn.weights)


def _find_repeated(candidates: NDArray[np.intp], n_cells: int) -> NDArray[np.bool_]:
    """Return which candidates of the second modality are also candidates of the first."""
    of_row = candidates + np.arange(len(candidates))[:, None] * n_cells
    is_second = np.arange(candidates.shape[1]) >= candidates.shape[1] // 2
    return is_second & np.isin(of_row, of_row[:, ~is_second])


def shared_neighbors(indices: ArrayLike, *, prune: float = 1 / 15) -> csr_array:
    """Compute the Jaccard similarity of neighbour sets, as in Seurat's shared-neighbour graph.

    Parameters
    ----------
    indices
        Row numbers of the neighbours of each cell, shape ``(n_cells, n_neighbors)``, such as those
        of :func:`wnn_neighbors`.
    prune
        Smaller similarities are set to 0 (Seurat's ``prune.SNN``).

    Returns
    -------
    Symmetric sparse matrix of shape ``(n_cells, n_cells)`` with values between 0 and 1. In contrast
    to Seurat's graph ``wsnn``, the diagonal is empty, as in scanpy's graphs.

    Raises
    ------
    ValueError
        If ``indices`` is not a matrix of row numbers, or ``prune`` is negative.

    Examples
    --------
    >>> isk.metrics.shared_neighbors([[1, 2], [0, 2], [1, 0]]).toarray().round(2)
    array([[0.  , 0.33, 0.33],
           [0.33, 0.  , 0.33],
           [0.33, 0.33, 0.  ]])
    """
    neighbors = np.asarray(indices)
    n_cells = len(neighbors)
    if neighbors.ndim != 2 or neighbors.dtype.kind not in "iu" or not neighbors.size:
        raise ValueError(
            "indices must be row numbers of shape (n_cells, n_neighbors) with at least one neighbour; got "
            f"{neighbors.dtype} of shape {neighbors.shape}."
        )
    if neighbors.min() < 0 or neighbors.max() >= n_cells:
        raise ValueError(f"indices must lie in [0, {n_cells}), the rows; got {neighbors.min()} to {neighbors.max()}.")
    check_number("prune", prune)
    sets = as_sets(neighbors)
    shared = (sets @ sets.T).tocoo()
    similarity = shared.data / (2 * neighbors.shape[1] - shared.data)
    kept = (similarity >= prune) & (shared.row != shared.col)
    graph = csr_array((similarity[kept], (shared.row[kept], shared.col[kept])), shape=(n_cells, n_cells))
    graph.sort_indices()
    return graph
