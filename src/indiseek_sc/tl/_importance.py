"""Modality importance of cell types, written into a MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._lookup import find_obs
from indiseek_sc.tl._codes import Cells, find_cells, find_modalities
from indiseek_sc.tl._embeddings import find_pair
from indiseek_sc.tl._find_codes import Code, find_codes, find_complete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray


def modality_importance(
    mdata: MuData,
    label_key: str,
    *,
    code: Code = "specific",
    rna_obsm_key: str = "X_pca",
    adt_obsm_key: str = "X_pca",
    modalities: Mapping[str, str] | None = None,
    cells: Cells = "all",
    n_neighbors: int = 10,
    smoothing: float = 0.5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank cell types by which modality's code keeps them together.

    Theta of a cell is the log ratio of the shares of its nearest neighbours that carry its own label, in the RNA and
    in the ADT code; theta of a label is its mean. It is positive where RNA separates the label better, see
    :func:`indiseek_sc.metrics.modality_importance`. Run ``model.write_latents(mdata)`` first.

    Parameters
    ----------
    mdata
        With the codes of both modalities in ``obsm``.
    label_key
        Column of cell types, in ``mdata.obs`` or in a modality's obs, with or without the modality in front
        (``"cell_type"``, ``"rna:cell_type"``).
    code
        ``"specific"``, ``"shared"``, ``"joint"`` (both codes of a modality side by side), or ``"raw"`` (an embedding of each modality, such as
        principal components, for which no model is needed).
    rna_obsm_key, adt_obsm_key
        Embeddings for ``code="raw"``, in ``obsm`` of the modality or of ``mdata``.
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
        Number of times that the cells of a label are drawn again for its interval.
    confidence
        Share of the bootstrap means that lies within the interval.
    minimum_cells
        Labels of fewer cells are kept, but not marked ``reliable``.
    seed
        Seed of the bootstrap.

    Returns
    -------
    One row a label, highest theta first: ``label``, ``n_cells``, ``theta``, ``lower``, ``upper``, ``rank``,
    ``purity_rna``, ``purity_adt``, ``reliable``.

    Notes
    -----
    Written to ``mdata``: ``obs["indiseek_theta"]`` (NaN where the label or a code is missing and for cells not looked
    at), ``uns["indiseek_importance"]`` (the table) and ``uns["indiseek_importance_params"]`` (the arguments); for a code other than the
    specific one with its name behind (``obs["indiseek_theta_shared"]``, ...). Nothing is written if an error is raised.

    Raises
    ------
    KeyError
        If the codes, the labels or the split are not there.
    ValueError
        If an argument is out of its range, or there are too few cells with a label and both codes.
    """
    settings: dict[str, Any] = {"n_neighbors": n_neighbors, "smoothing": smoothing, "n_bootstrap": n_bootstrap}
    settings |= {"confidence": confidence, "minimum_cells": minimum_cells, "seed": seed}
    roles = find_pair(mdata, modalities) if code == "raw" else find_modalities(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    codes = find_codes(mdata, roles, code, obsm_keys)
    labels = find_obs(mdata, label_key, "label_key")
    theta, importance = measure_importance(codes, labels, find_cells(mdata, cells), **settings)
    params = {"label_key": label_key, "code": code, "modalities": roles, "cells": cells, **settings}
    if code == "raw":
        params["embeddings"] = obsm_keys
    key = _keys.of_code(_keys.IMPORTANCE, code)
    mdata.obs[_keys.of_code(_keys.THETA, code)] = theta
    mdata.uns[key] = importance.table
    mdata.uns[f"{key}_params"] = params
    return importance.table.copy()


def measure_importance(
    codes: Mapping[_keys.Role, NDArray[np.floating]],
    labels: pd.Series,
    within: NDArray[np.bool_],
    *,
    n_neighbors: int,
    **settings: Any,
) -> tuple[NDArray[np.float64], metrics.ModalityImportance]:
    """Theta of each cell, NaN for those not looked at, and the importance among the others.

    Parameters
    ----------
    codes
        A code of each modality, shape ``(n_cells, n_features)``; rows of cells that lack it are NaN.
    labels
        One label a cell.
    within
        The cells to look at, shape ``(n_cells,)``; of them those without a label or a code are left out.
    n_neighbors, settings
        As in :func:`indiseek_sc.metrics.modality_importance`.

    Raises
    ------
    ValueError
        If there are too few cells.
    """
    used = within & labels.notna().to_numpy() & find_complete(codes.values())
    if used.sum() <= n_neighbors:
        raise ValueError(
            f"n_neighbors={n_neighbors} needs more cells than that with codes of both modalities and a label; of the {within.sum()} "
            f"looked at there are {used.sum()}. Lower n_neighbors, or look at more cells."
        )
    importance = metrics.modality_importance(
        codes["rna"][used], codes["adt"][used], labels[used], n_neighbors=n_neighbors, **settings
    )
    theta = np.full(len(used), np.nan)
    theta[used] = importance.theta
    return theta, importance
