"""Graph of weighted nearest neighbours in the layout of scanpy."""

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
    """Compute Seurat's weighted nearest neighbours (``FindMultiModalNeighbors``) and their graphs.

    Neighbours and weights are those of Seurat, see :func:`indiseek_sc.metrics.wnn_neighbors`. Two
    graphs are computed. The first contains UMAP connectivities, as in scanpy and in Seurat's
    ``RunUMAP(nn.name = "weighted.nn")``. The second is Seurat's ``wsnn``, used there for
    clustering: the Jaccard similarity of the neighbourhoods of two cells.

    Parameters
    ----------
    mdata
        Data with an embedding of each modality, shape ``(n_cells, n_features)``, in ``obsm`` of the
        modality or of ``mdata``.
    modalities, rna_obsm_key, adt_obsm_key, rna_dimensions, adt_dimensions
        As in :func:`wnn_weights`.
    n_neighbors
        Number of neighbours of a cell, not including itself.
    n_candidates
        Number of nearest cells in each modality from which neighbours are selected; more than
        ``n_neighbors``.
    normalize, search
        As in :func:`wnn_weights`.
    prune
        Jaccard similarities below this are set to 0.
    key_added
        Name of the graph.

    Returns
    -------
    Indices, shape ``(n_cells, n_neighbors)``, distances of the same shape and weights of RNA, shape
    ``(n_cells,)``, for all cells of ``mdata``; -1 and NaN for cells that lack a modality.

    Raises
    ------
    KeyError
        If a modality or embedding is missing.
    ValueError
        If an embedding is not a finite matrix, an argument is out of range, or fewer than 2 cells
        have both modalities.

    Notes
    -----
    Written to ``mdata``: ``obsp["<key_added>_connectivities"]``, ``obsp["<key_added>_distances"]``
    and ``uns["<key_added>"]`` in scanpy's layout; ``obsp["<key_added>_snn"]``, the Jaccard
    similarity on which Seurat clusters; ``obsm["X_<key_added>"]``, both embeddings concatenated
    without scaling, by which UMAP places disconnected components; and the weights, as written by
    :func:`wnn_weights`. Cells that lack a modality have no neighbours and are 0 in that ``obsm``;
    remove them before clustering. Nothing is written if an error is raised.

    Examples
    --------
    >>> for name in ("rna", "adt"):
    ...     mdata[name].obsm["X_pca"] = mdata.obsm[f"X_indiseek_shared_{name}"]
    >>> isk.tl.wnn_neighbors(mdata).indices.shape
    (600, 20)
    >>> sc.tl.leiden(mdata, neighbors_key="wnn", flavor="igraph", n_iterations=2)
    """
    check_flag("normalize", normalize)
    check_number("prune", prune)
    if not isinstance(key_added, str) or not key_added or key_added in _keys.RESULTS:
        raise ValueError(f"key_added must be an unused name, such as 'wnn', but is {key_added!r}.")
    keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    data = find_wnn_input(mdata, modalities, keys, {"rna": rna_dimensions, "adt": adt_dimensions})
    settings: dict[str, Any] = {"n_neighbors": n_neighbors, "normalize": normalize, "search": search}
    found = metrics.wnn_neighbors(*data.points, n_candidates=n_candidates, **settings)
    rows = np.flatnonzero(data.paired)
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
    points = np.hstack([embedding.points for embedding in data.embeddings.values()]).astype(np.float32)
    mdata.obsm[_keys.graph_points(key_added)] = np.where(data.paired[:, None], points, 0)
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
    weights = write_wnn_weights(mdata, data, found.weights, settings)
    logger.info(f"Weighted nearest neighbours of {len(rows)} cells, in mdata.uns[{key_added!r}] and mdata.obsp.")
    return WnnNeighbors(indices, distances, weights[data.roles["rna"]].to_numpy())


def _connect(found: WnnNeighbors) -> coo_array:
    """Return connectivities as in scanpy: UMAP's fuzzy simplicial set of neighbours.

    Each cell is its own first neighbour.
    """
    from umap.umap_ import fuzzy_simplicial_set  # not at the top: importing it takes seconds

    n_cells, k = found.indices.shape
    others = found.indices != np.arange(n_cells)[:, None]
    indices = np.column_stack([np.arange(n_cells), np.where(others, found.indices, -1)])
    distances = np.column_stack([np.zeros(n_cells), found.distances]).astype(np.float32)
    cells = coo_array((n_cells, 1))
    graph, _, _ = fuzzy_simplicial_set(cells, k + 1, None, None, knn_indices=indices, knn_dists=distances)
    return graph.tocoo()
