"""Leiden clusters of a code, as many as are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_LOG2_RESOLUTIONS = (-6.0, 6.0)
_MOST_ROUNDS = 12
"""The search ends where resolutions differ by less than a fifth of a percent."""


class Matched(NamedTuple):
    """A resolution, and the number of clusters there."""

    resolution: float
    n_clusters: int


def neighbor_graph(code: NDArray[np.floating], n_neighbors: int, seed: int) -> csr_matrix:
    """Scanpy's weighted graph of neighbours, shape ``(n_cells, n_cells)``, of a code of shape ``(n_cells, n_features)``."""
    cells = AnnData(obsm={"code": code.astype(np.float32)})
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="code", random_state=seed)
    return cells.obsp["connectivities"]


def leiden(graph: csr_matrix, resolution: float, seed: int) -> NDArray[np.intp]:
    """The cluster of each cell, shape ``(n_cells,)``; 0 is the largest."""
    cells = AnnData(obs=pd.DataFrame(index=pd.RangeIndex(graph.shape[0]).astype(str)))
    sc.tl.leiden(
        cells,
        resolution,
        adjacency=graph,
        random_state=seed,
        directed=False,
        flavor="igraph",
        n_iterations=2,
    )
    clusters = cells.obs["leiden"].cat.codes.to_numpy().astype(np.intp)
    order = np.argsort(-np.bincount(clusters), kind="stable")
    return np.argsort(order)[clusters]


def match_resolution(graph: csr_matrix, n_clusters: int, seed: int) -> Matched:
    """The resolution between 1/64 and 64 that makes ``n_clusters``, or the nearest number that was met, by bisection from 1.

    Numbers of clusters grow with resolution but for the chance of the algorithm. They may jump over the one that is sought, and never go below the
    number of parts that the graph falls into by itself.
    """
    low, high = _LOG2_RESOLUTIONS
    met = []
    for _ in range(_MOST_ROUNDS):
        middle = (low + high) / 2
        met.append(Matched(2.0**middle, int(leiden(graph, 2.0**middle, seed).max()) + 1))
        if met[-1].n_clusters == n_clusters:
            break
        low, high = (middle, high) if met[-1].n_clusters < n_clusters else (low, middle)
    return min(met, key=lambda one: abs(one.n_clusters - n_clusters))
