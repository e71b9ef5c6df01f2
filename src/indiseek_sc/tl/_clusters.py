"""Clusters of each representation at matched numbers: how alike they are, and which fall apart where."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_whole
from indiseek_sc._fingerprint import note_inputs
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
"""The name of the labels among the clusterings."""


class ClusterComparison(NamedTuple):
    """What :func:`compare_clusters` finds."""

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
    """Cluster the cells in each representation by Leiden, and compare: with the labels, the representations with each other, and cluster by cluster.

    Figures depend on how many clusters there are, whatever the representation; so the resolution of each representation is searched until it has as many clusters as
    the others. Then each is clustered from ``n_repeats`` seeds. How well a representation agrees with itself from other seeds says whether it has clusters at
    all: a specific representation should hold little of cell types, and where it is a round cloud its clusters are cuts, another one from each seed.

    As all have as many clusters, a representation that splits one cluster merges others. So a split says where a representation looks closer, not that others are wrong.

    Parameters
    ----------
    mdata
        With representations that ``model.write_latents(mdata)`` wrote.
    label_key
        Column of cell types, in ``mdata.obs`` or in a modality's obs, with or without the modality in front; none is needed.
    latents
        ``"shared"``, ``"specific"``, ``"both"`` (these two side by side) and ``"raw"`` (an embedding, such as principal components) are one representation of
        each modality, ``"joint"`` is the joint representation ``X_indiseek``.
    n_clusters
        How many clusters to make; by default as many as there are labels, or else as the reference has at resolution 1.
    reference
        Whose clusters are asked where they fall apart: a representation, such as ``"joint"`` or ``"shared_rna"``, or ``"labels"``.
    minimum_share, minimum_stability
        When a cluster falls apart, and when it is believed, see :func:`indiseek_sc.metrics.cluster_splits`.
    n_neighbors
        Neighbours in the graph, as scanpy counts them.
    n_repeats
        Seeds to cluster from, 2 or more.
    rna_obsm_key, adt_obsm_key
        Embeddings for ``"raw"``, in ``obsm`` of the modality or of ``mdata``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as the model noted them.
    cells
        ``"held_out"`` clusters only cells that the model was not fitted on, as :func:`modality_importance` has it.
    seed
        The first seed; it decides on resolutions and on the clusters that are written.

    Returns
    -------
    Three tables. ``latents`` has a row for each: ``latent``, ``kind``, ``modality``, ``resolution``, ``n_clusters``. ``agreement`` has a row for each pair of
    representations (or ``"labels"``): ``one``, ``other``, ``ari``, ``nmi``, ``n_cells``, see :func:`indiseek_sc.metrics.cluster_agreement`. ``splits`` has a row for
    each cluster of the reference and each other representation: see :func:`indiseek_sc.metrics.cluster_splits`, and ``label`` and ``label_share``, its commonest
    label, if there are labels.

    Notes
    -----
    Written to ``mdata``: ``obs["indiseek_clusters_<latent>"]`` (NaN for cells not looked at), ``uns["indiseek_clusters"]`` (the agreement),
    ``uns["indiseek_clusters_latents"]``, ``uns["indiseek_clusters_splits"]`` and ``uns["indiseek_clusters_params"]`` (the arguments). Nothing is written if an
    error is raised.

    Raises
    ------
    KeyError
        If representations, labels or the split are not there.
    ValueError
        If an argument is out of its range, ``reference`` is not among the representations, or there are too few cells.
    """
    if isinstance(latents, str) or not np.iterable(latents) or not len(latents):
        raise ValueError(
            f"latents={latents!r} must be a sequence of representations, such as ('shared', 'specific', 'joint')."
        )
    if check_whole("n_repeats", n_repeats, 0) < 2:
        raise ValueError(f"n_repeats={n_repeats} must be at least 2, or it cannot be said whether clusters come again.")
    roles = find_pair(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    found = find_single_latents(mdata, roles, latents, obsm_keys)
    used = find_cells(mdata, cells) & find_complete(latent.points for latent in found.values())
    others = {} if label_key is None else {LABELS: find_several_labels(mdata, label_key, used)[used]}
    _check_numbers(n_clusters, n_neighbors, int(used.sum()))
    check_whole("seed", seed, 0)
    check_split_minima(minimum_share, minimum_stability)  # before the work
    if not isinstance(reference, str) or reference not in {*found, *others}:
        raise ValueError(
            f"reference={reference!r} is not among what is compared, {[*found, *others]}. Name one of these, or more representations."
        )
    if set(found) == {reference}:
        raise ValueError(
            f"latents={list(latents)} are but the reference: no representation is left for its clusters to fall apart in. Name more."
        )

    graphs = {name: neighbor_graph(latent.points[used], n_neighbors, seed) for name, latent in found.items()}
    if n_clusters is None and label_key is None:
        n_clusters = int(leiden(graphs[reference], 1.0, seed).max()) + 1
    elif n_clusters is None:
        n_clusters = others[LABELS].nunique()
    matched = {name: match_resolution(graph, n_clusters, seed) for name, graph in graphs.items()}
    rows = [{"latent": name, "kind": latent.kind, "modality": latent.modality} for name, latent in found.items()]
    table = pd.concat([pd.DataFrame(rows), pd.DataFrame(matched.values())], axis=1)
    _warn_of_mismatch(table, n_clusters)
    clusters = {
        name: np.stack([leiden(graph, matched[name].resolution, seed + i) for i in range(n_repeats)], axis=1)
        for name, graph in graphs.items()
    }

    asked = clusters[reference][:, 0] if reference in clusters else others[reference]
    splits = metrics.cluster_splits(
        asked,
        {name: value for name, value in clusters.items() if name != reference},
        minimum_share=minimum_share,
        minimum_stability=minimum_stability,
    )
    if reference != LABELS:
        splits = splits.sort_values("cluster", key=lambda names: names.astype(int), kind="stable", ignore_index=True)
    if reference != LABELS and label_key is not None:
        splits = splits.merge(_commonest_labels(asked, others[LABELS]), on="cluster", how="left").fillna({"label": ""})
    comparison = ClusterComparison(table, metrics.cluster_agreement(clusters | others), splits)
    _write(mdata, comparison, {name: value[:, 0] for name, value in clusters.items()}, used)
    mdata.uns[f"{_keys.CLUSTERS}_params"] = {
        "label_key": label_key or "",  # None does not survive a file
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
    note_inputs(mdata, _keys.CLUSTERS, list_places(mdata, roles, latents, obsm_keys, columns=[label_key], cells=cells))
    return ClusterComparison(*(one.copy() for one in comparison))


def _check_numbers(n_clusters: int | None, n_neighbors: int, n_cells: int) -> None:
    if not 2 <= check_whole("n_neighbors", n_neighbors, 0) < n_cells:
        raise ValueError(
            f"n_neighbors={n_neighbors} must be at least 2 and less than the number of cells looked at that have all representations, {n_cells}."
        )
    if n_clusters is not None and not 2 <= check_whole("n_clusters", n_clusters, 0) < n_cells:
        raise ValueError(
            f"n_clusters={n_clusters} must be at least 2 and less than the number of cells looked at that have all representations, {n_cells}."
        )


def _warn_of_mismatch(table: pd.DataFrame, n_clusters: int) -> None:
    off = table[table["n_clusters"] != n_clusters]
    if len(off):
        which = ", ".join(f"{n} in {latent!r}" for latent, n in zip(off["latent"], off["n_clusters"], strict=True))
        logger.warning(
            f"No resolution that was tried makes {n_clusters} clusters of every representation; nearest: {which}. A representation whose graph falls into more parts "
            "cannot have fewer: raise n_clusters or n_neighbors where the difference is large."
        )


def _commonest_labels(clusters: NDArray[np.intp], labels: pd.Series) -> pd.DataFrame:
    """The label that most cells of a cluster have, and their share among those with a label."""
    known = labels.notna().to_numpy()
    shares = pd.crosstab(clusters[known].astype(str), labels[known].astype(str).to_numpy(), normalize="index")
    table = pd.DataFrame({"label": shares.idxmax(axis=1), "label_share": shares.max(axis=1)})
    return table.rename_axis("cluster").reset_index()


def _write(
    mdata: MuData, comparison: ClusterComparison, clusters: Mapping[str, NDArray[np.intp]], used: NDArray[np.bool_]
) -> None:
    for name, of_cells in clusters.items():
        column = pd.Series(np.nan, index=mdata.obs_names, dtype=object)
        column[used] = of_cells.astype(str)
        order = [str(place) for place in range(of_cells.max() + 1)]
        mdata.obs[_keys.clusters(name)] = pd.Categorical(column, categories=order)
    mdata.uns[_keys.CLUSTERS] = comparison.agreement
    mdata.uns[f"{_keys.CLUSTERS}_latents"] = comparison.latents
    mdata.uns[f"{_keys.CLUSTERS}_splits"] = comparison.splits


_LOG2_RESOLUTIONS = (-6.0, 6.0)
_MOST_ROUNDS = 12
"""The search ends where resolutions differ by less than a fifth of a percent."""


class Matched(NamedTuple):
    """A resolution, and the number of clusters there."""

    resolution: float
    n_clusters: int


def neighbor_graph(latent: NDArray[np.floating], n_neighbors: int, seed: int) -> csr_matrix:
    """Scanpy's weighted graph of neighbours, shape ``(n_cells, n_cells)``, of a representation of shape ``(n_cells, n_features)``."""
    cells = AnnData(obsm={"latent": latent.astype(np.float32)})
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="latent", random_state=seed)
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
