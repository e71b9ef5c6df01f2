"""Modality weights of Seurat's weighted nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

from indiseek_sc._checks import check_flag, check_name, check_whole
from indiseek_sc._settings import settings
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

WnnSearch = Literal["annoy", "exact"]
"""Approximate neighbour search with the same result as Seurat's, or exact search."""

_CROSS_CONSTANT = 1e-4
"""Constant added to the affinity of the prediction by the other modality."""

_MAX_SCORE = 200.0
"""Upper limit of the ratio of the affinities within and across modalities."""

_ROUNDING = 1e-12
"""Excess over the nearest distance, relative to it, that counts as a rounding error."""

_MIN_BANDWIDTH = 1e-7
"""Bandwidths below this share of the nearest distance are rounding errors and set to 0.

Distances of Annoy are in single precision.
"""
_SEURAT_SEED = 4273
_SEURAT_N_CHECKED = 50
"""Number of cells drawn with this seed to check that each is its own nearest neighbour."""


class WnnModality(NamedTuple):
    """Neighbours and scales of one modality, from which its weights are computed."""

    points: NDArray[np.float64]  # (n_cells, n_features)
    neighbors: NDArray[np.intp]  # (n_cells, k); the first is usually the cell itself
    predictors: NDArray[np.intp]  # (n_cells, k - 1 or k); neighbours whose mean predicts the cell
    nearest: NDArray[np.float64]  # (n_cells,); distance to the nearest other cell
    bandwidth: NDArray[np.float64]  # (n_cells,)


class Wnn(NamedTuple):
    """Both modalities, and the weights of the first."""

    modalities: tuple[WnnModality, WnnModality]
    weights: NDArray[np.float64]


def wnn_weights(
    first: ArrayLike,
    second: ArrayLike,
    *,
    n_neighbors: int = 20,
    normalize: bool = True,
    search: WnnSearch = "annoy",
) -> NDArray[np.float64]:
    r"""Compute Seurat's modality weight of the first of two modalities in each cell.

    Each cell is predicted by the mean of its neighbours in its own modality (*within*) and by the
    mean of its neighbours in the other modality (*cross*). With :math:`x_i` the cell in modality
    :math:`m`, :math:`\hat x_i` a prediction and :math:`\nu_i` the distance to the nearest
    neighbour,

    .. math::

        \theta = \exp\left(-\frac{\max(\lVert x_i - \hat x_i \rVert - \nu_i, 0)}{\sigma_i}\right), \qquad
        s_m = \min\left(\frac{\theta_\text{within}}{\theta_\text{cross} + 10^{-4}}, 200\right), \qquad
        w_i = \frac{e^{s_1}}{e^{s_1} + e^{s_2}}.

    The bandwidth :math:`\sigma_i` is the mean of :math:`\max(\lVert x_i - x_j \rVert - \nu_i, 0)`
    over the k cells :math:`j` whose sets of k neighbours have the smallest non-zero Jaccard
    similarity with that of :math:`i`; among these and the cells tied for the last place, the k
    farthest are used.

    Memory is linear in the number of cells.

    Parameters
    ----------
    first, second
        Any two representations of the same cells in the same order, such as principal components,
        shape ``(n_cells, n_dimensions)``; widths may differ.
    n_neighbors
        Number of neighbours k, including the cell itself, as in Seurat; predictions are means of
        the k - 1 others. All cells are neighbours if there are fewer.
    normalize
        Scale each row to length 1 first; rows of zeros remain.
    search
        ``"annoy"`` finds the same neighbours as Seurat, and so gives the same weights. This search
        is approximate and depends on the order of the cells. ``"exact"`` finds the exact neighbours
        and gives the weights of the formula, which do not depend on the order.

    Returns
    -------
    Weights between 0 and 1, shape ``(n_cells,)``; the second modality has 1 minus these. They are
    0.5 if the data are uninformative: for two cells, or if all cells are identical in both
    modalities.

    Raises
    ------
    ValueError
        If a representation is not a finite matrix, the numbers of rows differ, there are fewer than
        2 cells, ``n_neighbors`` is less than 2, or ``search`` is unknown.

    Notes
    -----
    The weights are those of ``FindMultiModalNeighbors`` of satijalab/seurat with its defaults
    (``FindModalityWeights`` in ``R/clustering.R``, ``ComputeSNN`` and ``SNN_SmallestNonzero_Dist``
    in ``src/snn.cpp``; ``prune.SNN`` of 1/15 applies to the joint graph only). This was verified on
    recorded output: all 300 cells of Seurat 5.5.1 agree to 1e-15, and all 30,534 cells of Seurat
    4.3.0.

    Weights are sensitive to the neighbour search (``NNHelper``, which calls Annoy for ``k.nn``
    neighbours with 50 trees). A bandwidth is the mean distance to the cells that share the *fewest*
    neighbours with a cell, so that single neighbours missed by Annoy change it by tens of per cent:
    with exact neighbours, the weights of half of these 300 cells differ from Seurat's by more than
    0.001, and some by 0.6. Means of cell types differ by less than 0.01. If R was compiled with
    different rounding (vector instructions, fused multiplications), trees of many cells differ, and
    so do single weights.

    The two searches differ as follows:

    - Among cells at the same distance, Annoy returns those with the smallest row number, so that a
      cell with an identical earlier cell is not its own first neighbour. Seurat (``PredictAssay``)
      excludes the first neighbours from all predictions if each of 50 randomly drawn cells is its
      own first neighbour; otherwise it predicts every cell from its k first neighbours, usually
      including itself. ``"annoy"`` does the same. ``"exact"`` always excludes the cell itself, and
      the choice among cells at the same distance is arbitrary.
    - ``"exact"`` rounds unit rows to 12 decimals, so that rows with the same direction coincide.

    Both differ from Seurat where its weight is undefined (0 / 0). If the bandwidth is 0, because a
    cell is identical to all cells with which it is compared, all affinities are 1 and the modality
    has the score of an uninformative one. As a result, cells without any protein, or a single
    protein scaled to length 1, do not outweigh RNA. Excess distances below 1e-12 of the nearest
    distance are treated as rounding errors. Both searches are slow if thousands of cells are
    identical, since these all share neighbours.

    References
    ----------
    Hao et al., Integrated analysis of multimodal single-cell data, Cell 184, 3573 (2021).
    Bernhardsson, Annoy: approximate nearest neighbors in C++/Python (2013-2023).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clusters, noise = np.repeat(5 * np.eye(4), 20, axis=0), rng.normal(size=(80, 4))
    >>> weights = isk.metrics.wnn_weights(clusters + rng.normal(size=(80, 4)), noise, search="exact")
    >>> bool(weights.mean() > 0.5)
    True
    """
    return fit_wnn(first, second, n_neighbors, normalize, search).weights


def fit_wnn(first: ArrayLike, second: ArrayLike, n_neighbors: int, normalize: bool, search: WnnSearch) -> Wnn:
    """Check the arguments of :func:`wnn_weights`; return weights and intermediate results."""
    points = [as_matrix(first, "first").astype(np.float64)]
    points.append(as_matrix(second, "second", len(points[0])).astype(np.float64))
    if len(points[0]) < 2:
        raise ValueError(f"first and second need at least 2 cells to compare; got {len(points[0])}.")
    if not check_whole("n_neighbors", n_neighbors, 0) >= 2:
        raise ValueError(f"n_neighbors={n_neighbors} must be at least 2: the cell itself is one of them.")
    check_flag("normalize", normalize)
    check_name("search", search, get_args(WnnSearch))
    points = [_normalize(matrix) if normalize else _shrink(matrix) for matrix in points]
    if normalize and search == "exact":
        points = [matrix.round(12) for matrix in points]
    one, other = (_describe(matrix, n_neighbors, search) for matrix in points)
    weights = expit(_score(one, other.predictors) - _score(other, one.predictors))
    return Wnn((one, other), weights)


def _shrink(points: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Divide by a power of 2, which is exact, so that squares neither overflow nor underflow.

    Weights do not depend on units.
    """
    exponent = np.frexp(np.abs(points).max(axis=axis, keepdims=True))[1]
    return np.ldexp(points, -exponent)


def _normalize(points: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = _shrink(points, axis=1)
    length = norm(scaled)[:, None]
    return np.divide(scaled, length, out=scaled, where=length > 0)


def search_neighbors(
    points: NDArray[np.float64], n_neighbors: int, search: WnnSearch
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the nearest cells in order and the distance to the nearest other cell.

    The nearest cells include the cell itself; with ``"exact"`` it is always the first, even among
    duplicates.
    """
    n_neighbors = min(n_neighbors, len(points))
    if search == "annoy":
        from indiseek_sc.metrics._annoy import annoy_neighbors  # deferred, since importing Numba is slow

        found = annoy_neighbors(points, n_neighbors)
        return found.indices, found.distances[:, 1].astype(np.float64)
    others = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(points).kneighbors(return_distance=False)
    nearest = np.empty(len(points))
    for rows in blocks(np.full(len(points), others.shape[1] * points.shape[1])):
        nearest[rows] = norm(points[others[rows]] - points[rows, None]).min(axis=1)
    return np.column_stack([np.arange(len(points)), others]), nearest


def _describe(points: NDArray[np.float64], n_neighbors: int, search: WnnSearch) -> WnnModality:
    neighbors, nearest = search_neighbors(points, n_neighbors, search)
    checked = sample_as_r(len(points), min(_SEURAT_N_CHECKED, len(points)), _SEURAT_SEED)
    is_first = (neighbors[checked, 0] == checked).all()
    predictors = neighbors[:, 1:] if is_first else neighbors
    return WnnModality(points, neighbors, predictors, nearest, _bandwidth(points, neighbors, nearest))


def sample_as_r(n: int, n_drawn: int, seed: int) -> NDArray[np.intp]:
    """Draw from ``range(n)`` without replacement as R does after ``set.seed(seed)``.

    The result is that of ``sample(n, n_drawn) - 1`` in R.
    """
    words = np.empty(50 + 625, dtype=np.uint32)
    for i in range(len(words)):
        seed = (69069 * seed + 1) % 2**32
        words[i] = seed
    generator = np.random.MT19937()
    generator.state = {"bit_generator": "MT19937", "state": {"key": words[51:], "pos": 624}}
    left = np.arange(n)
    drawn = np.empty(n_drawn, dtype=np.intp)
    for i in range(n_drawn):
        n_bits = (len(left) - 1).bit_length()
        place = len(left)
        # Rejection sampling: R draws n_bits bits, 16 at a time, until the number is in range.
        while place >= len(left):
            place = 0
            for _ in range(0, n_bits + 1, 16):
                place = (place << 16) + (generator.random_raw() >> 16)
            place &= (1 << n_bits) - 1
        drawn[i] = left[place]
        left[place] = left[-1]
        left = left[:-1]
    return drawn


def _score(own: WnnModality, others: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return how much better own neighbours predict a cell than those of the other modality."""
    points = own.points
    within, cross = (np.empty(len(points)) for _ in range(2))
    for rows in blocks(np.full(len(points), (own.predictors.shape[1] + others.shape[1]) * points.shape[1])):
        for error, predictors in ((within, own.predictors), (cross, others)):
            error[rows] = norm((points[predictors[rows]] - points[rows, None]).mean(axis=1))
    affinity_within, affinity_cross = (affinity(error, own.nearest, own.bandwidth) for error in (within, cross))
    return np.minimum(affinity_within / (affinity_cross + _CROSS_CONSTANT), _MAX_SCORE)


def _bandwidth(
    points: NDArray[np.float64], neighbors: NDArray[np.intp], nearest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean excess distance to the cells that share the fewest neighbours, at least one.

    All sets have k members, so that the Jaccard similarity increases with the number of shared
    ones.
    """
    n_cells, k = neighbors.shape
    sets = as_sets(neighbors)
    containing = sets.T.tocsr()
    # An upper bound of the number of partners: each is counted once for each shared neighbour.
    most_sharing = np.bincount(neighbors.ravel())[neighbors].sum(axis=1)
    bandwidth = np.empty(n_cells)
    for rows in blocks(most_sharing * points.shape[1]):
        shared = sets[rows] @ containing
        n_partners = np.diff(shared.indptr)
        owner = np.repeat(np.arange(len(n_partners)), n_partners)
        n_far = np.minimum(n_partners, k)
        histogram = np.bincount(owner * (k + 1) + shared.data, minlength=len(n_partners) * (k + 1))
        last = (histogram.reshape(-1, k + 1).cumsum(axis=1) >= n_far[:, None]).argmax(axis=1)
        candidate = shared.data <= last[owner]
        owner, partner = owner[candidate], shared.indices[candidate]
        excess = _excess(norm(points[partner] - points[rows][owner]), nearest[rows][owner])
        order = np.lexsort((-excess, owner))
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        far = order[place < n_far[owner]]
        bandwidth[rows] = np.bincount(owner[far], excess[far]) / n_far
    return np.where(bandwidth > _MIN_BANDWIDTH * nearest, bandwidth, 0.0)


def as_sets(neighbors: NDArray[np.intp]) -> csr_array:
    """Return sets of neighbours as indicator rows, shape ``(n_cells, n_cells)``."""
    n_cells, k = neighbors.shape
    ones = np.ones(neighbors.size, dtype=np.intp)
    return csr_array((ones, neighbors.ravel(), np.arange(0, neighbors.size + 1, k)), (n_cells, n_cells))


def affinity(
    distance: NDArray[np.float64], nearest: NDArray[np.float64], bandwidth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the exponential kernel of the distance in excess of that to the nearest cell."""
    with np.errstate(over="ignore"):
        return np.exp(-_excess(distance, nearest) / np.where(bandwidth > 0, bandwidth, np.inf))


def _excess(distance: NDArray[np.float64], nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(distance > nearest * (1 + _ROUNDING), distance - nearest, 0.0)


def norm(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt((difference**2).sum(axis=-1))


def blocks(sizes: NDArray[np.integer]) -> Iterator[slice]:
    """Yield slices of at least one row whose sizes add up to at most one block."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + settings.values_at_once, side="right")))
        yield slice(start, stop)
        start = stop
