"""The graph of weighted nearest neighbours, where scanpy looks for graphs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, csr_matrix

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_flag, check_number
from indiseek_sc.metrics import WnnNeighbors
from indiseek_sc.tl._wnn_weights import find_wnn_input, write_wnn_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

logger = logging.getLogger("scvi.indiseek_sc")


def wnn_neighbors(
    mdata: MuData,
    *,
    modalities: Mapping[str, str] | None = None,
    rna_obsm_key: str = "X_pca",
    adt_obsm_key: str = "X_pca",
    rna_dimensions: int | None = None,
    adt_dimensions: int | None = None,
    n_neighbors: int = 20,
    n_candidates: int = 200,
    normalize: bool = True,
    search: metrics.WnnSearch = "annoy",
    prune: float = 1 / 15,
    key_added: str = _keys.WNN_NEIGHBORS,
) -> WnnNeighbors:
    """Find the weighted nearest neighbours of each cell as Seurat's ``FindMultiModalNeighbors`` does, and their graph.

    Neighbours and weights are Seurat's, see :func:`indiseek_sc.metrics.wnn_neighbors`. Of two graphs, the first has the
    connectivities of UMAP, as graphs of scanpy have and as Seurat's ``RunUMAP(nn.name = "weighted.nn")`` computes them.
    The other is Seurat's ``wsnn``, from which it makes clusters: the Jaccard similarity of two cells' sets of
    neighbours.

    Parameters
    ----------
    mdata
        With an embedding of each modality, shape ``(n_cells, n_features)``, in ``obsm`` of the modality or of ``mdata``.
    modalities, rna_obsm_key, adt_obsm_key, rna_dimensions, adt_dimensions, normalize, search
        See :func:`wnn_weights`.
    n_neighbors
        Neighbours of a cell, itself not among them.
    n_candidates
        Nearest cells in each modality that neighbours are chosen from; more than ``n_neighbors``.
    prune
        A smaller Jaccard similarity counts as none.
    key_added
        Name of the graph.

    Returns
    -------
    Indices, shape ``(n_cells, n_neighbors)``, distances of the same shape and weights of RNA, shape ``(n_cells,)``, of
    all cells of ``mdata``: -1 and NaN for those that lack a modality.

    Notes
    -----
    Written to ``mdata``: ``obsp["<key_added>_connectivities"]``, ``obsp["<key_added>_distances"]`` and
    ``uns["<key_added>"]`` in scanpy's layout; ``obsp["<key_added>_snn"]``, the Jaccard similarity, in which Seurat finds
    clusters; ``obsm["X_<key_added>"]``, both embeddings side by side as they were found, from which UMAP places parts
    of the graph that are not connected; and the weights, as :func:`wnn_weights` writes them. Cells that lack a modality
    have no neighbours, and are 0 in that ``obsm``; leave them out before clustering. Nothing is written if an error is
    raised.

    Raises
    ------
    KeyError
        If a modality or an embedding is not there.
    ValueError
        If an embedding is no finite matrix, an argument is out of its range, or fewer than 2 cells have both modalities.

    Examples
    --------
    >>> tl.wnn_neighbors(mdata, rna_dimensions=30, adt_dimensions=18)
    >>> sc.tl.umap(mdata, neighbors_key="wnn")
    >>> sc.tl.leiden(mdata, neighbors_key="wnn")  # or, in Seurat's graph, obsp="wnn_snn"
    """
    check_flag("normalize", normalize)
    check_number("prune", prune)
    if not isinstance(key_added, str) or not key_added or key_added in _keys.RESULTS:
        raise ValueError(f"key_added must be a name that nothing else has, such as 'wnn', but is {key_added!r}.")
    keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    read = find_wnn_input(mdata, modalities, keys, {"rna": rna_dimensions, "adt": adt_dimensions})
    settings: dict[str, Any] = {"n_neighbors": n_neighbors, "normalize": normalize, "search": search}
    found = metrics.wnn_neighbors(*read.points, n_candidates=n_candidates, **settings)
    rows = np.flatnonzero(read.paired)
    indices = np.full((mdata.n_obs, found.indices.shape[1]), -1)
    distances = np.full(indices.shape, np.nan)
    indices[rows], distances[rows] = rows[found.indices], found.distances
    owners = np.repeat(np.arange(len(rows)), indices.shape[1])
    graphs = {
        "connectivities": _connect(found),
        "distances": coo_array((found.distances.ravel(), (owners, found.indices.ravel()))),
        "snn": metrics.shared_neighbors(found.indices, prune=prune).tocoo(),
    }
    for name, graph in graphs.items():
        entries = (graph.data, (rows[graph.row], rows[graph.col]))
        mdata.obsp[_keys.graph(key_added, name)] = csr_matrix(entries, shape=(mdata.n_obs, mdata.n_obs))
    points = np.hstack([embedding.points for embedding in read.embeddings.values()]).astype(np.float32)
    mdata.obsm[_keys.graph_points(key_added)] = np.where(read.paired[:, None], points, 0)
    mdata.uns[key_added] = {
        **{f"{name}_key": _keys.graph(key_added, name) for name in graphs},
        "params": {
            **settings,
            "n_candidates": n_candidates,
            "prune": prune,
            "method": "umap",
            "metric": "euclidean",
            "use_rep": _keys.graph_points(key_added),
        },
    }
    weights = write_wnn_weights(mdata, read, found.weights, settings)
    logger.info(f"Weighted nearest neighbours of {len(rows)} cells, in mdata.uns[{key_added!r}] and mdata.obsp.")
    return WnnNeighbors(indices, distances, weights[read.roles["rna"]].to_numpy())


def _connect(found: WnnNeighbors) -> coo_array:
    """Connectivities as in scanpy's graphs: UMAP's fuzzy simplicial set, of which a cell is its own first neighbour."""
    from umap.umap_ import fuzzy_simplicial_set  # here alone: it is imported in seconds

    n_cells, k = found.indices.shape
    others = found.indices != np.arange(n_cells)[:, None]
    indices = np.column_stack([np.arange(n_cells), np.where(others, found.indices, -1)])
    distances = np.column_stack([np.zeros(n_cells), found.distances]).astype(np.float32)
    cells = coo_array((n_cells, 1))
    graph, _, _ = fuzzy_simplicial_set(cells, k + 1, None, None, knn_indices=indices, knn_dists=distances)
    return graph.tocoo()
