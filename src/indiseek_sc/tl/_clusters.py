"""Clusters of each representation at matched numbers of clusters, and their comparison."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_whole
from indiseek_sc._fingerprint import record_inputs
from indiseek_sc.metrics import check_split_minima
from indiseek_sc.tl._latents import (
    Cells,
    Latent,
    find_cells,
    find_complete,
    find_pair,
    find_several_labels,
    find_single_latents,
    list_places,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

logger = logging.getLogger("scvi.indiseek_sc")

LABELS = "labels"
"""Name of the labels among the clusterings."""


class ClusterComparison(NamedTuple):
    """Tables returned by :func:`compare_clusters`.

    Parameters
    ----------
    latents
        Resolution and number of clusters of each representation.
    agreement
        Agreement of each pair of clusterings.
    splits
        Whether each cluster of the reference is kept or split in each other representation.

    Examples
    --------
    >>> isk.tl.ClusterComparison._fields
    ('latents', 'agreement', 'splits')
    """

    latents: pd.DataFrame
    agreement: pd.DataFrame
    splits: pd.DataFrame


def compare_clusters(
    mdata: MuData,
    label_key: str | None = None,
    *,
    latents: Sequence[Latent] = ("shared", "specific", "joint"),
    n_clusters: int | None = None,
    reference: str = "joint",
    minimum_share: float = 0.2,
    minimum_stability: float = 0.5,
    n_neighbors: int = 15,
    n_repeats: int = 5,
    rna_obsm_key: str = "X_pca",
    adt_obsm_key: str = "X_pca",
    modalities: Mapping[str, str] | None = None,
    cells: Cells = "all",
    seed: int = 0,
) -> ClusterComparison:
    """Compare Leiden clusters of the representations with each other and with labels.

    Agreement between clusterings depends on the number of clusters. Therefore the resolution is
    searched separately in each representation until all representations have the same number of
    clusters. Each is then clustered from ``n_repeats`` seeds. The agreement of a representation
    with itself across seeds shows whether it has clusters at all: a specific representation should
    contain little information about cell types, and clusters of a distribution without structure
    differ from seed to seed.

    Because all representations have the same number of clusters, one that splits a cluster must
    merge others. A split therefore shows where a representation resolves more, not that the other
    representations are wrong.

    Parameters
    ----------
    mdata
        Data with representations written by ``model.write_latents(mdata)``.
    label_key
        Column of cell types in ``mdata.obs`` or in ``obs`` of a modality, with or without the
        modality as prefix; optional.
    latents
        ``"shared"``, ``"specific"``, ``"both"`` (shared and specific concatenated) and ``"raw"``
        (an embedding, such as principal components) stand for one representation of each modality,
        ``"joint"`` for the joint representation ``X_indiseek``.
    n_clusters
        Number of clusters; by default the number of labels, or without labels the number of
        clusters of the reference at resolution 1.
    reference
        Clustering whose clusters are tested for splits: a representation, such as ``"joint"`` or
        ``"shared_rna"``, or ``"labels"``.
    minimum_share, minimum_stability
        Thresholds for a split and for its stability, see
        :func:`indiseek_sc.metrics.cluster_splits`.
    n_neighbors
        Number of neighbours in the graph, counted as in scanpy.
    n_repeats
        Number of seeds to cluster from, at least 2.
    rna_obsm_key, adt_obsm_key
        Embeddings for ``"raw"``, in ``obsm`` of the modality or of ``mdata``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as recorded by the
        model.
    cells
        ``"all"`` or ``"held_out"``, which clusters only held-out cells as in
        :func:`modality_importance`.
    seed
        First seed; it is used for the search of resolutions and for the clusters that are written.

    Returns
    -------
    Three tables. ``latents`` has one row per representation: ``latent``, ``kind``, ``modality``,
    ``resolution``, ``n_clusters``. ``agreement`` has one row for each pair of representations (or
    ``"labels"``): ``one``, ``other``, ``ari``, ``nmi``, ``n_cells``, see
    :func:`indiseek_sc.metrics.cluster_agreement`. ``splits`` has one row for each cluster of the
    reference and each other representation, see :func:`indiseek_sc.metrics.cluster_splits`, with
    ``label`` and ``label_share``, its most frequent label, if there are labels.

    Raises
    ------
    KeyError
        If the representations, labels or split are missing.
    ValueError
        If an argument is out of range, ``reference`` is not among the representations, or there are
        too few cells.

    Notes
    -----
    Written to ``mdata``: ``obs["indiseek_clusters_<latent>"]`` (NaN for cells not used),
    ``uns["indiseek_clusters"]`` (the agreement), ``uns["indiseek_clusters_latents"]``,
    ``uns["indiseek_clusters_splits"]`` and ``uns["indiseek_clusters_params"]`` (the arguments).
    Nothing is written if an error is raised.

    Examples
    --------
    >>> latents = ["shared", "joint"]
    >>> found = isk.tl.compare_clusters(mdata, "cell_type", latents=latents, n_repeats=2)
    >>> found.latents["latent"].tolist()
    ['shared_rna', 'shared_adt', 'joint']
    """
    if isinstance(latents, str) or not np.iterable(latents) or not len(latents):
        raise ValueError(
            f"latents={latents!r} must be a sequence of representations, such as ('shared', 'specific', 'joint')."
        )
    if check_whole("n_repeats", n_repeats, 0) < 2:
        raise ValueError(f"n_repeats={n_repeats} must be at least 2 to assess the stability of clusters.")
    roles = find_pair(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    found = find_single_latents(mdata, roles, latents, obsm_keys)
    used = find_cells(mdata, cells) & find_complete(latent.points for latent in found.values())
    others = {} if label_key is None else {LABELS: find_several_labels(mdata, label_key, used)[used]}
    _check_numbers(n_clusters, n_neighbors, int(used.sum()))
    check_whole("seed", seed, 0)
    check_split_minima(minimum_share, minimum_stability)
    if not isinstance(reference, str) or reference not in {*found, *others}:
        raise ValueError(
            f"reference={reference!r} is not among the compared clusterings {[*found, *others]}. Name one of these, or "
            "add representations to latents."
        )
    if set(found) == {reference}:
        raise ValueError(
            f"latents={list(latents)} contains only the reference, so there is nothing to compare it with. Name more "
            "representations."
        )

    graphs = {name: neighbor_graph(latent.points[used], n_neighbors, seed) for name, latent in found.items()}
    if n_clusters is None and label_key is None:
        n_clusters = int(leiden(graphs[reference], 1.0, seed).max()) + 1
    elif n_clusters is None:
        n_clusters = others[LABELS].nunique()
    matched = {name: match_resolution(graph, n_clusters, seed) for name, graph in graphs.items()}
    rows = [{"latent": name, "kind": latent.kind, "modality": latent.modality} for name, latent in found.items()]
    table = pd.concat([pd.DataFrame(rows), pd.DataFrame(matched.values())], axis=1)
    _warn_if_unmatched(table, n_clusters)
    clusters = {
        name: np.stack([leiden(graph, matched[name].resolution, seed + i) for i in range(n_repeats)], axis=1)
        for name, graph in graphs.items()
    }

    reference_clusters = clusters[reference][:, 0] if reference in clusters else others[reference]
    splits = metrics.cluster_splits(
        reference_clusters,
        {name: value for name, value in clusters.items() if name != reference},
        minimum_share=minimum_share,
        minimum_stability=minimum_stability,
    )
    if reference != LABELS:
        splits = splits.sort_values("cluster", key=lambda names: names.astype(int), kind="stable", ignore_index=True)
    if reference != LABELS and label_key is not None:
        splits = splits.merge(
            _most_frequent_labels(reference_clusters, others[LABELS]), on="cluster", how="left"
        ).fillna({"label": ""})
    comparison = ClusterComparison(table, metrics.cluster_agreement(clusters | others), splits)
    _write(mdata, comparison, {name: value[:, 0] for name, value in clusters.items()}, used)
    mdata.uns[f"{_keys.CLUSTERS}_params"] = {
        "label_key": label_key or "",  # None cannot be written to a file
        "latents": list(latents),
        "modalities": roles,
        "n_clusters": n_clusters,
        "reference": reference,
        "minimum_share": minimum_share,
        "minimum_stability": minimum_stability,
        "n_neighbors": n_neighbors,
        "n_repeats": n_repeats,
        "cells": cells,
        "seed": seed,
    }
    record_inputs(
        mdata, _keys.CLUSTERS, list_places(mdata, roles, latents, obsm_keys, columns=[label_key], cells=cells)
    )
    return ClusterComparison(*(part.copy() for part in comparison))


def _check_numbers(n_clusters: int | None, n_neighbors: int, n_cells: int) -> None:
    """Check the numbers of neighbours and clusters against the number of cells."""
    if not 2 <= check_whole("n_neighbors", n_neighbors, 0) < n_cells:
        raise ValueError(
            f"n_neighbors={n_neighbors} must be at least 2 and less than the number of "
            f"selected cells with all representations, {n_cells}."
        )
    if n_clusters is not None and not 2 <= check_whole("n_clusters", n_clusters, 0) < n_cells:
        raise ValueError(
            f"n_clusters={n_clusters} must be at least 2 and less than the number of "
            f"selected cells with all representations, {n_cells}."
        )


def _warn_if_unmatched(table: pd.DataFrame, n_clusters: int) -> None:
    """Log a warning if a representation could not be divided into ``n_clusters`` clusters."""
    off = table[table["n_clusters"] != n_clusters]
    if len(off):
        which = ", ".join(f"{n} in {latent!r}" for latent, n in zip(off["latent"], off["n_clusters"], strict=True))
        logger.warning(
            f"No resolution yields {n_clusters} clusters in every representation; nearest: {which}. The number of "
            "clusters cannot be smaller than the number of connected components of a graph: raise n_clusters or "
            "n_neighbors if the difference is large."
        )


def _most_frequent_labels(clusters: NDArray[np.intp], labels: pd.Series) -> pd.DataFrame:
    """Return the most frequent label of each cluster and its share among labelled cells."""
    known = labels.notna().to_numpy()
    shares = pd.crosstab(clusters[known].astype(str), labels[known].astype(str).to_numpy(), normalize="index")
    table = pd.DataFrame({"label": shares.idxmax(axis=1), "label_share": shares.max(axis=1)})
    return table.rename_axis("cluster").reset_index()


def _write(
    mdata: MuData, comparison: ClusterComparison, clusters: Mapping[str, NDArray[np.intp]], used: NDArray[np.bool_]
) -> None:
    """Write the clusters and tables to ``mdata``."""
    for name, assigned in clusters.items():
        column = pd.Series(np.nan, index=mdata.obs_names, dtype=object)
        column[used] = assigned.astype(str)
        order = [str(place) for place in range(assigned.max() + 1)]
        mdata.obs[_keys.clusters(name)] = pd.Categorical(column, categories=order)
    mdata.uns[_keys.CLUSTERS] = comparison.agreement
    mdata.uns[f"{_keys.CLUSTERS}_latents"] = comparison.latents
    mdata.uns[f"{_keys.CLUSTERS}_splits"] = comparison.splits


_LOG2_RESOLUTIONS = (-6.0, 6.0)
"""Bounds of the search, as binary logarithms of the resolution."""
_MAX_ROUNDS = 12
"""Maximal number of bisections; resolutions then differ by less than 0.2 %."""


class Matched(NamedTuple):
    """Resolution and the resulting number of clusters.

    Parameters
    ----------
    resolution
        Resolution of the Leiden algorithm.
    n_clusters
        Number of clusters at this resolution.
    """

    resolution: float
    n_clusters: int


def neighbor_graph(latent: NDArray[np.floating], n_neighbors: int, seed: int) -> csr_matrix:
    """Return scanpy's weighted graph of nearest neighbours, shape ``(n_cells, n_cells)``.

    Parameters
    ----------
    latent
        Representation, shape ``(n_cells, n_features)``.
    n_neighbors
        Number of neighbours.
    seed
        Seed of the search for neighbours.
    """
    cells = AnnData(obsm={"latent": latent.astype(np.float32)})
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="latent", random_state=seed)
    return cells.obsp["connectivities"]


def leiden(graph: csr_matrix, resolution: float, seed: int) -> NDArray[np.intp]:
    """Return the cluster of each cell, shape ``(n_cells,)``; cluster 0 is the largest."""
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
    """Find a resolution between 1/64 and 64 that yields ``n_clusters`` by bisection from 1.

    Apart from the randomness of the algorithm, the number of clusters increases with resolution. It
    may skip the requested number and is never smaller than the number of connected components of
    the graph. If no tried resolution matches, the one with the nearest number of clusters is
    returned.

    Parameters
    ----------
    graph
        Weighted graph, shape ``(n_cells, n_cells)``.
    n_clusters
        Requested number of clusters.
    seed
        Seed of the Leiden algorithm.
    """
    low, high = _LOG2_RESOLUTIONS
    tried: list[Matched] = []
    for _ in range(_MAX_ROUNDS):
        middle = (low + high) / 2
        tried.append(Matched(2.0**middle, int(leiden(graph, 2.0**middle, seed).max()) + 1))
        if tried[-1].n_clusters == n_clusters:
            break
        low, high = (middle, high) if tried[-1].n_clusters < n_clusters else (low, middle)
    return min(tried, key=lambda matched: abs(matched.n_clusters - n_clusters))
