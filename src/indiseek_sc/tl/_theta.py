"""Modality importance of cell types: theta, and the information that each modality adds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_number, check_whole
from indiseek_sc._fingerprint import record_inputs
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
"""Number of cells over which theta is averaged for display, including the cell itself."""

WITHOUT_REFITS = (
    "There are no refits of the model, so the intervals of theta include the variation over cells only. Another training "
    "run, or other training cells, may change theta by more than these intervals, so no claims are made. Call model.write_refits() first."
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
    """Determine which modality resolves each cell type better.

    *Theta* of a cell is the log ratio of the shares of its nearest neighbours that carry its own
    label, in the RNA-specific and in the ADT-specific representation; theta of a label is its mean,
    positive where RNA separates the label better (:func:`indiseek_sc.metrics.modality_importance`).
    *Information* is what a specific representation adds to the shared ones about a label, in bits
    per cell of that label (:func:`indiseek_sc.metrics.label_information`). It detects differences
    that theta misses, because a few informative dimensions are diluted in neighbourhoods that
    depend on all of them.

    Call ``model.write_latents()`` and ``model.write_refits()`` first. With refits, all results are
    means over refits on cells that these were not trained on, and intervals include the variation
    over cells, training cells and seeds. Without refits, only theta is computed, with an interval
    over cells alone. This is too narrow to show whether another training run or other cells would
    give the same result, so no claims are made.

    Parameters
    ----------
    mdata
        Data with representations of both modalities in ``obsm``.
    label_key
        Column of cell types in ``mdata.obs`` or in ``obs`` of a modality, with or without the
        modality as prefix (``"cell_type"``, ``"rna:cell_type"``).
    latent
        ``"specific"``, ``"shared"``, ``"both"`` (shared and specific representations of a modality
        concatenated) or ``"raw"`` (an embedding of each modality, such as principal components,
        which needs no model). The joint representation combines both modalities, so theta is
        undefined for it.
    rna_obsm_key, adt_obsm_key
        Embeddings for ``latent="raw"``, in ``obsm`` of the modality or of ``mdata``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as recorded by the
        model.
    cells
        ``"held_out"`` restricts cells and their neighbours to those that the model was not fitted
        on (test cells, or validation cells if there are no test cells).
    n_neighbors
        Number of neighbours of a cell.
    smoothing
        Number of pseudo-neighbours with the label, and as many without, which keep shares above 0;
        must be positive.
    n_bootstrap
        Number of bootstrap samples of the cells of a label for its interval without refits.
    confidence
        Confidence level of the intervals.
    minimum_cells
        Labels with fewer cells are reported, but not as ``reliable``.
    sample_key
        Column with the donor or sample of each cell; standard errors are then over samples. By
        default the column that the refits were trained with. Ignored without refits.
    seed
        Seed of the bootstrap and of the probes.

    Returns
    -------
    One row per label in decreasing order of theta: ``label``, ``n_cells``, ``theta`` with its
    interval ``lower``, ``upper`` and its ``rank``, ``purity_rna`` and ``purity_adt`` with
    ``chance_rna`` and ``chance_adt`` (purities after permutation of labels within batches),
    ``reliable`` (enough cells) and ``claim``. With refits and the specific representation also
    ``theta_q_value``, ``information_rna`` and ``information_adt`` with their intervals
    (``information_rna_lower``, ...), ``information_difference`` (RNA minus ADT) with its interval
    ``information_lower``, ``information_upper``, ``p_value`` and ``q_value`` (Benjamini-Hochberg
    over reliable labels).

    ``claim`` is ``"rna"`` or ``"adt"`` if the difference in information is significant at a false
    discovery rate of 5 % and at least one modality has information above 0; ``"undecided"`` if only
    the latter holds; ``"neither"`` if neither modality resolves the label beyond the shared
    representations; ``"not assessed"`` without refits or with too few cells.

    Raises
    ------
    KeyError
        If the representations, labels or split are missing.
    ValueError
        If an argument is out of range, or there are too few cells with a label and both
        representations.

    Notes
    -----
    Written to ``mdata``: ``obs["indiseek_theta"]`` (NaN for cells that are not used or lack the
    label or a representation), ``obs["indiseek_theta_smoothed"]`` (its mean over the 50 nearest
    cells in the joint representation, including the cell itself, because theta of a single cell is
    mostly noise), ``uns["indiseek_importance"]`` (the table), ``uns["indiseek_importance_params"]``
    (the arguments) and ``uns["indiseek_importance_made_of"]`` (fingerprints of representations,
    labels and cells, by which later changes are detected). For representations other than the
    specific one, its name is appended (``obs["indiseek_theta_shared"]``, ...). Nothing is written
    if an error is raised.

    Examples
    --------
    >>> table = isk.tl.modality_importance(mdata, "cell_type", latent="shared")
    >>> table.columns[:3].tolist()
    ['label', 'n_cells', 'theta']
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
    key = _keys.with_latent_suffix(_keys.IMPORTANCE, latent)
    mdata.obs[_keys.with_latent_suffix(_keys.THETA, latent)] = theta
    if latent == "specific" and _keys.JOINT in mdata.obsm:
        mdata.obs[_keys.THETA_SMOOTHED] = _smooth(theta, np.asarray(mdata.obsm[_keys.JOINT]))
    mdata.uns[key] = table
    mdata.uns[f"{key}_params"] = params
    record_inputs(
        mdata, key, list_places(mdata, roles, [latent], obsm_keys, columns=columns, cells=cells, refits=bool(refits))
    )
    return table.copy()


def _smooth(theta: NDArray[np.float64], joint: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average theta over neighbouring cells in the joint representation; NaN where undefined."""
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
    """Compute theta of each cell, NaN for unused cells, and the importance among used cells.

    Parameters
    ----------
    latents
        Representation of each modality, shape ``(n_cells, n_features)``; NaN in rows of cells that
        lack it.
    labels
        Label of each cell.
    within
        Mask of the cells to use, shape ``(n_cells,)``; those without a label or representation are
        excluded.
    batches
        Batch of each cell, if there are several.
    n_neighbors
        Number of neighbours of a cell.
    **settings
        Further arguments of :func:`indiseek_sc.metrics.modality_importance`.

    Raises
    ------
    ValueError
        If there are too few cells.
    """
    check_whole("n_neighbors", n_neighbors, 1)
    used = within & labels.notna().to_numpy() & find_complete(latents.values())
    if used.sum() <= n_neighbors:
        raise ValueError(
            f"n_neighbors={n_neighbors} requires more cells than that with a label and representations of both modalities; "
            f"{used.sum()} of the {within.sum()} selected cells have them. Lower n_neighbors, or select more cells."
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
