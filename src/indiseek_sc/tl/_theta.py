"""Modality importance of cell types: theta, and what each modality adds to the shared representations about them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_number, check_whole
from indiseek_sc._fingerprint import note_inputs
from indiseek_sc._lookup import find_labels
from indiseek_sc.tl._latents import (
    Cells,
    ModalityLatent,
    find_cells,
    find_complete,
    find_latents,
    find_modalities,
    find_pair,
    find_several_labels,
    list_places,
)
from indiseek_sc.tl._refits import find_refits, find_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger("scvi.indiseek_sc")

SMOOTHING_NEIGHBORS = 50
"""Cells, the cell itself included, that theta is averaged over where it is shown cell by cell."""

WITHOUT_REFITS = (
    "There are no refits of the model, so the intervals of theta are over cells alone: another training, or other cells to train on, may move "
    "theta by more than they say, and nothing is claimed. Call model.write_refits() first."
)


def modality_importance(
    mdata: MuData,
    label_key: str,
    *,
    latent: ModalityLatent = "specific",
    rna_obsm_key: str = "X_pca",
    adt_obsm_key: str = "X_pca",
    modalities: Mapping[str, str] | None = None,
    cells: Cells = "all",
    n_neighbors: int = 10,
    smoothing: float = 0.5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    sample_key: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Find which cell types each modality resolves, and which of them better than the other modality does.

    *Theta* of a cell is the log ratio of the shares of its nearest neighbours that carry its own label, in the RNA-specific
    and in the ADT-specific representation; theta of a label is its mean, positive where RNA separates the label better
    (:func:`indiseek_sc.metrics.modality_importance`). *Information* is what a specific representation adds to the shared ones
    about a label, in bits per cell of that label (:func:`indiseek_sc.metrics.label_information`); it finds what theta misses,
    since a few informative dimensions are diluted among neighbours in all of them.

    Run ``model.write_latents()`` and ``model.write_refits()`` first. With refits all figures are means over them on cells that they
    did not see, and intervals hold the variation of cells, of training cells and of seeds. Without refits there is theta
    with an interval over cells alone, which is too narrow to tell whether another training or other cells would give the
    same, and nothing is claimed.

    Parameters
    ----------
    mdata
        With the representations of both modalities in ``obsm``.
    label_key
        Column of cell types, in ``mdata.obs`` or in a modality's obs, with or without the modality in front
        (``"cell_type"``, ``"rna:cell_type"``).
    latent
        ``"specific"``, ``"shared"``, ``"both"`` (shared and specific representation of a modality side by side), or ``"raw"`` (an embedding of each
        modality, such as principal components, for which no model is needed). The joint representation is one of both modalities, and has no theta.
    rna_obsm_key, adt_obsm_key
        Embeddings for ``latent="raw"``, in ``obsm`` of the modality or of ``mdata``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as the model noted them.
    cells
        ``"held_out"`` looks only at cells that the model was not fitted on (test cells, or validation cells where
        there are none), also for neighbours.
    n_neighbors
        Neighbours of a cell.
    smoothing
        Pseudo-neighbours with and without the label that keep a share from being 0; more than 0.
    n_bootstrap
        Number of times that the cells of a label are drawn again for its interval, where there are no refits.
    confidence
        Of the intervals.
    minimum_cells
        Labels of fewer cells are kept, but not marked ``reliable``.
    sample_key
        Column with the donor or sample of each cell: standard errors are then over samples. By default what refits were made
        with. Refits alone use it.
    seed
        Seed of the bootstrap and of the probes.

    Returns
    -------
    One row a label, highest theta first: ``label``, ``n_cells``, ``theta`` with its interval ``lower``, ``upper`` and its ``rank``,
    ``purity_rna`` and ``purity_adt`` beside ``chance_rna`` and ``chance_adt`` (purities where labels are permuted within batches),
    ``reliable`` (enough cells) and ``claim``. With refits and the specific representation further ``theta_q_value``,
    ``information_rna`` and ``information_adt`` with their intervals (``information_rna_lower``, ...), ``information_difference``
    (RNA less ADT) with its interval ``information_lower``, ``information_upper``, ``p_value`` and ``q_value`` (Benjamini-Hochberg over reliable labels).

    ``claim`` is ``"rna"`` or ``"adt"`` where the difference of information is significant at a false discovery rate of 5 % and one
    information at least is above 0; ``"undecided"`` where the second holds alone; ``"neither"`` where neither modality
    resolves the label beyond the shared representations; ``"not assessed"`` without refits, or with too few cells.

    Notes
    -----
    Written to ``mdata``: ``obs["indiseek_theta"]`` (NaN where the label or a representation is missing and for cells not looked
    at), ``obs["indiseek_theta_smoothed"]`` (its mean over the 50 nearest cells in the joint representation, the cell itself
    included, since theta of a single cell is mostly noise), ``uns["indiseek_importance"]`` (the table), ``uns["indiseek_importance_params"]`` (the arguments) and ``uns["indiseek_importance_made_of"]``
    (fingerprints of representations, labels and cells, by which it is known later whether they are the same still); for a representation other than the
    specific one with its name behind (``obs["indiseek_theta_shared"]``, ...). Nothing is written if an error is raised.

    Raises
    ------
    KeyError
        If the representations, the labels or the split are not there.
    ValueError
        If an argument is out of its range, or there are too few cells with a label and both representations.
    """
    settings: dict[str, Any] = {"n_neighbors": n_neighbors, "smoothing": smoothing}
    settings |= {"confidence": confidence, "minimum_cells": minimum_cells, "seed": seed}
    roles = (
        find_pair(mdata, modalities)
        if isinstance(latent, str) and latent == "raw"
        else find_modalities(mdata, modalities)
    )
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    latents = find_latents(mdata, roles, latent, obsm_keys)
    within = find_cells(mdata, cells)
    labels = find_several_labels(mdata, label_key, within)
    batch_key = str(mdata.uns.get(_keys.SETTINGS, {}).get("batch_key", ""))
    batches = find_labels(mdata, batch_key, "batch_key") if batch_key else None
    refits = [] if latent == "raw" or cells != "all" else find_refits(mdata, roles)
    params = {
        "label_key": label_key,
        "latent": latent,
        "modalities": roles,
        "cells": cells,
        "n_refits": len(refits),
        **settings,
    }
    columns = [label_key, *([batch_key] if batch_key else [])]
    if refits and latent != "raw":
        params["sample_key"], samples = find_samples(mdata, sample_key)
        check_whole("n_neighbors", n_neighbors, 1)
        check_number("smoothing", smoothing, above_zero=True)
        found = metrics.replicated_importance(
            refits,
            labels,
            latent=latent,
            samples=samples,
            batches=batches,
            information=latent == "specific",
            **settings,
        )
        theta, table = found.theta, found.table
        columns += [] if samples is None else [params["sample_key"]]
    else:
        theta, importance = measure_importance(
            latents, labels, within, batches=batches, n_bootstrap=n_bootstrap, **settings
        )
        table = importance.table.assign(claim="not assessed")
        params["n_bootstrap"] = n_bootstrap
        if latent != "raw":
            logger.warning(WITHOUT_REFITS)
    if latent == "raw":
        params["embeddings"] = obsm_keys
    key = _keys.of_latent(_keys.IMPORTANCE, latent)
    mdata.obs[_keys.of_latent(_keys.THETA, latent)] = theta
    if latent == "specific" and _keys.JOINT in mdata.obsm:
        mdata.obs[_keys.THETA_SMOOTHED] = _smooth(theta, np.asarray(mdata.obsm[_keys.JOINT]))
    mdata.uns[key] = table
    mdata.uns[f"{key}_params"] = params
    note_inputs(
        mdata, key, list_places(mdata, roles, [latent], obsm_keys, columns=columns, cells=cells, refits=bool(refits))
    )
    return table.copy()


def _smooth(theta: NDArray[np.float64], joint: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of theta over neighbouring cells in the joint representation; NaN where either is missing."""
    smoothed = np.full(len(theta), np.nan)
    rows = np.flatnonzero(np.isfinite(theta) & np.isfinite(joint).all(axis=1))
    if rows.size and joint.shape[1]:
        smoothed[rows] = metrics.smooth_over_neighbors(theta[rows], joint[rows], SMOOTHING_NEIGHBORS)
    return smoothed


def measure_importance(
    latents: Mapping[_keys.Role, NDArray[np.floating]],
    labels: pd.Series,
    within: NDArray[np.bool_],
    *,
    batches: pd.Series | None = None,
    n_neighbors: int,
    **settings: Any,
) -> tuple[NDArray[np.float64], metrics.ModalityImportance]:
    """Theta of each cell, NaN for those not looked at, and the importance among the others.

    Parameters
    ----------
    latents
        A representation of each modality, shape ``(n_cells, n_features)``; rows of cells that lack it are NaN.
    labels
        One label a cell.
    within
        The cells to look at, shape ``(n_cells,)``; of them those without a label or a representation are left out.
    batches
        Batch of each cell, if there are several.
    n_neighbors, settings
        As in :func:`indiseek_sc.metrics.modality_importance`.

    Raises
    ------
    ValueError
        If there are too few cells.
    """
    check_whole("n_neighbors", n_neighbors, 1)
    used = within & labels.notna().to_numpy() & find_complete(latents.values())
    if used.sum() <= n_neighbors:
        raise ValueError(
            f"n_neighbors={n_neighbors} needs more cells than that with representations of both modalities and a label; of the {within.sum()} "
            f"looked at there are {used.sum()}. Lower n_neighbors, or look at more cells."
        )
    importance = metrics.modality_importance(
        latents["rna"][used],
        latents["adt"][used],
        labels[used],
        batches=None if batches is None else batches[used],
        n_neighbors=n_neighbors,
        **settings,
    )
    theta = np.full(len(used), np.nan)
    theta[used] = importance.theta
    return theta, importance
