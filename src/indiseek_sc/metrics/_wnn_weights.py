"""Which modality a cell's neighbours are better predicted from: the modality weights of Seurat's weighted neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors

from indiseek_sc._checks import check_flag, check_name, check_whole
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

WnnSearch = Literal["annoy", "exact"]
"""How neighbours are found: as Seurat does, or all of them."""

_CROSS_CONSTANT = 1e-4
_LARGEST_SCORE = 200.0
_ROUNDING = 1e-12
_NO_BANDWIDTH = 1e-7
"""A bandwidth of less than this share of the nearest distance is rounding: Annoy's distances are in single precision."""
_BLOCK_ENTRIES = 4_000_000
"""Differences of features held at once: 32 MB."""
_SEURAT_SEED = 4273
_SEURAT_N_CHECKED = 50
"""Seurat draws so many cells, after this seed, and looks whether each is its own nearest neighbour."""


class WnnModality(NamedTuple):
    """One modality as the weights see it."""

    points: NDArray[np.float64]  # (n_cells, n_features)
    neighbors: NDArray[np.intp]  # (n_cells, k); the first is mostly the cell itself
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
    r"""Weight of the first of two modalities in each cell, as in Seurat's weighted nearest neighbours.

    Each cell is predicted as the mean of its neighbours, found in its own modality (*within*) or in the other one
    (*cross*). With :math:`x_i` the cell in modality :math:`m`, :math:`\hat x_i` a prediction and :math:`\nu_i` the
    distance to the nearest neighbour,

    .. math::

        \theta = \exp\left(-\frac{\max(\lVert x_i - \hat x_i \rVert - \nu_i, 0)}{\sigma_i}\right), \qquad
        s_m = \min\left(\frac{\theta_\text{within}}{\theta_\text{cross} + 10^{-4}}, 200\right), \qquad
        w_i = \frac{e^{s_1}}{e^{s_1} + e^{s_2}}.

    The bandwidth :math:`\sigma_i` is the mean of :math:`\max(\lVert x_i - x_j \rVert - \nu_i, 0)` over the k cells
    :math:`j` whose sets of k neighbours have the smallest non-zero Jaccard similarity with that of :math:`i`; of these
    and the cells that tie for the last place, the k farthest are taken.

    Memory grows with the number of cells alone.

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
    search
        ``"annoy"`` finds the neighbours that Seurat finds, and so gives its weights. This search is approximate and
        depends on the order of the cells. ``"exact"`` finds all neighbours and gives the weights of the formula, which
        do not depend on the order.

    Returns
    -------
    Weights between 0 and 1, shape ``(n_cells,)``; those of the second modality are 1 minus them. 0.5 where nothing can
    be told: two cells, or neither modality tells any cells apart.

    Raises
    ------
    ValueError
        If an embedding is not a finite matrix, they have not the same number of rows, there are fewer than 2 cells,
        ``n_neighbors`` is less than 2, or ``search`` is neither.

    Notes
    -----
    The weights are those of ``FindMultiModalNeighbors`` of satijalab/seurat with its defaults (``FindModalityWeights`` in
    ``R/clustering.R``, ``ComputeSNN`` and ``SNN_SmallestNonzero_Dist`` in ``src/snn.cpp``; its ``prune.SNN`` of 1/15 is
    for the joint graph alone). Both were run: all 300 cells of a recording of Seurat 5.5.1 agree to 1e-15, and all
    30,534 cells of one of Seurat 4.3.0.

    The search makes the difference (``NNHelper``, which has Annoy find ``k.nn`` neighbours with 50 trees). A bandwidth is
    the mean distance to the cells that share *fewest* neighbours with a cell, so that single neighbours that Annoy
    misses change it by tens of per cent: with exact neighbours, weights of half of these 300 cells differ from Seurat's
    by more than 0.001, and some by 0.6. Means of cell types differ by less than 0.01. Where R was compiled to round
    otherwise (vector instructions, fused multiplications), trees of many cells differ, and so do single weights.

    Where the two searches differ:

    - Of cells at one distance, Annoy takes those first that come first, so that a cell with an identical one before it
      is not its own first neighbour. Seurat (``PredictAssay``) leaves the first neighbours out of all predictions if
      each of 50 cells that it draws is its own first neighbour, and else predicts every cell from its k first
      neighbours, mostly itself among them; so does ``"annoy"``. ``"exact"`` always leaves the cell itself out, and which
      of several cells at one distance are neighbours is left to the search.
    - ``"exact"`` rounds unit rows to 12 decimals, so that rows of one direction are one point.

    Both differ from Seurat where it leaves a weight undefined (0 / 0): where the bandwidth is 0, since a cell is identical
    to all that it could be compared with, all affinities are 1 and the modality has the score of one that tells nothing.
    So cells without any protein, or a single protein brought to length 1, do not outweigh RNA. Excess below 1e-12 of the
    nearest distance is rounding and counts as none. Both are slow where thousands of cells are alike, since they all
    share neighbours.

    References
    ----------
    Hao et al., Integrated analysis of multimodal single-cell data, Cell 184, 3573 (2021).
    Bernhardsson, Annoy: approximate nearest neighbors in C++/Python (2013-2023).
    """
    return fit_wnn(first, second, n_neighbors, normalize, search).weights


def fit_wnn(first: ArrayLike, second: ArrayLike, n_neighbors: int, normalize: bool, search: WnnSearch) -> Wnn:
    """Check the arguments of :func:`wnn_weights`, and return what the weights are made of beside them."""
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
    """Divide by a power of 2, exactly, so that squares neither overflow nor vanish; weights do not depend on units."""
    exponent = np.frexp(np.abs(points).max(axis=axis, keepdims=True))[1]
    return np.ldexp(points, -exponent)


def _normalize(points: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = _shrink(points, axis=1)
    length = norm(scaled)[:, None]
    return np.divide(scaled, length, out=scaled, where=length > 0)


def find_neighbors(
    points: NDArray[np.float64], n_neighbors: int, search: WnnSearch
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Nearest cells in order, itself included, and the distance to the nearest other one.

    With ``"exact"`` the first is the cell itself whatever the duplicates of it are.
    """
    n_neighbors = min(n_neighbors, len(points))
    if search == "annoy":
        from indiseek_sc.metrics._annoy import annoy_neighbors  # here alone: Numba is imported in a second

        found = annoy_neighbors(points, n_neighbors)
        return found.indices, found.distances[:, 1].astype(np.float64)
    others = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(points).kneighbors(return_distance=False)
    nearest = np.empty(len(points))
    for rows in blocks(np.full(len(points), others.shape[1] * points.shape[1])):
        nearest[rows] = norm(points[others[rows]] - points[rows, None]).min(axis=1)
    return np.column_stack([np.arange(len(points)), others]), nearest


def _describe(points: NDArray[np.float64], n_neighbors: int, search: WnnSearch) -> WnnModality:
    neighbors, nearest = find_neighbors(points, n_neighbors, search)
    checked = draw_as_r(len(points), min(_SEURAT_N_CHECKED, len(points)), _SEURAT_SEED)
    is_first = (neighbors[checked, 0] == checked).all()
    predictors = neighbors[:, 1:] if is_first else neighbors
    return WnnModality(points, neighbors, predictors, nearest, _bandwidth(points, neighbors, nearest))


def draw_as_r(n: int, n_drawn: int, seed: int) -> NDArray[np.intp]:
    """Draw from ``range(n)`` what R draws by ``set.seed(seed)`` and ``sample(n, n_drawn)``, less 1."""
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
        while place >= len(left):  # numbers of so many bits until one is small enough, 16 bits of each draw
            place = 0
            for _ in range(0, n_bits + 1, 16):
                place = (place << 16) + (generator.random_raw() >> 16)
            place &= (1 << n_bits) - 1
        drawn[i] = left[place]
        left[place] = left[-1]
        left = left[:-1]
    return drawn


def _score(own: WnnModality, others: NDArray[np.intp]) -> NDArray[np.float64]:
    """How much better the modality's own neighbours predict a cell than those of the other modality do."""
    points = own.points
    within, cross = (np.empty(len(points)) for _ in range(2))
    for rows in blocks(np.full(len(points), (own.predictors.shape[1] + others.shape[1]) * points.shape[1])):
        for error, predictors in ((within, own.predictors), (cross, others)):
            error[rows] = norm((points[predictors[rows]] - points[rows, None]).mean(axis=1))
    affinity_within, affinity_cross = (affinity(error, own.nearest, own.bandwidth) for error in (within, cross))
    return np.minimum(affinity_within / (affinity_cross + _CROSS_CONSTANT), _LARGEST_SCORE)


def _bandwidth(
    points: NDArray[np.float64], neighbors: NDArray[np.intp], nearest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean excess distance to the cells that share the fewest neighbours, but some, with a cell.

    All sets have k members, so that Jaccard similarity rises with the number of shared ones.
    """
    n_cells, k = neighbors.shape
    sets = as_sets(neighbors)
    containing = sets.T.tocsr()
    most_sharing = np.bincount(neighbors.ravel())[neighbors].sum(axis=1)  # a partner is met once for each shared member
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
    return np.where(bandwidth > _NO_BANDWIDTH * nearest, bandwidth, 0.0)


def as_sets(neighbors: NDArray[np.intp]) -> csr_array:
    """Sets of neighbours as rows of ones, shape ``(n_cells, n_cells)``."""
    n_cells, k = neighbors.shape
    ones = np.ones(neighbors.size, dtype=np.intp)
    return csr_array((ones, neighbors.ravel(), np.arange(0, neighbors.size + 1, k)), (n_cells, n_cells))


def affinity(
    distance: NDArray[np.float64], nearest: NDArray[np.float64], bandwidth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Exponential kernel of what a distance has more than that to the nearest cell."""
    with np.errstate(over="ignore"):
        return np.exp(-_excess(distance, nearest) / np.where(bandwidth > 0, bandwidth, np.inf))


def _excess(distance: NDArray[np.float64], nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(distance > nearest * (1 + _ROUNDING), distance - nearest, 0.0)


def norm(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt((difference**2).sum(axis=-1))


def blocks(sizes: NDArray[np.integer]) -> Iterator[slice]:
    """Consecutive rows whose sizes add up to no more than a block, at least one row each."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _BLOCK_ENTRIES, side="right")))
        yield slice(start, stop)
        start = stop
