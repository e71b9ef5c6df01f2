"""Modality importance of cell types, and whether it ranks them as the weights of weighted nearest neighbours do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_whole
from indiseek_sc._fingerprint import note_inputs
from indiseek_sc.tl._codes import (
    Cells,
    ModalityCode,
    find_cells,
    find_codes,
    find_complete,
    find_modalities,
    find_pair,
    find_several_labels,
    list_places,
)
from indiseek_sc.tl._wnn_weights import choose_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from indiseek_sc.metrics import AuditReport


def modality_importance(
    mdata: MuData,
    label_key: str,
    *,
    code: ModalityCode = "specific",
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
        ``"specific"``, ``"shared"``, ``"both"`` (shared and specific code of a modality side by side), or ``"raw"`` (an embedding of each
        modality, such as principal components, for which no model is needed). The joint code is one of both modalities, and has no theta.
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
    at), ``uns["indiseek_importance"]`` (the table), ``uns["indiseek_importance_params"]`` (the arguments) and ``uns["indiseek_importance_made_of"]``
    (fingerprints of codes, labels and cells, by which it is known later whether they are the same still); for a code other than the
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
    roles = (
        find_pair(mdata, modalities) if isinstance(code, str) and code == "raw" else find_modalities(mdata, modalities)
    )
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    codes = find_codes(mdata, roles, code, obsm_keys)
    within = find_cells(mdata, cells)
    labels = find_several_labels(mdata, label_key, within)
    theta, importance = measure_importance(codes, labels, within, **settings)
    params = {"label_key": label_key, "code": code, "modalities": roles, "cells": cells, **settings}
    if code == "raw":
        params["embeddings"] = obsm_keys
    key = _keys.of_code(_keys.IMPORTANCE, code)
    mdata.obs[_keys.of_code(_keys.THETA, code)] = theta
    mdata.uns[key] = importance.table
    mdata.uns[f"{key}_params"] = params
    note_inputs(mdata, key, list_places(mdata, roles, [code], obsm_keys, columns=[label_key], cells=cells))
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
    check_whole("n_neighbors", n_neighbors, 1)
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


logger = logging.getLogger("scvi.indiseek_sc")

WARNING = (
    "Rank correlation with WNN weights can reward leakage: WNN looks at all that a modality knows, so a specific code that tells of the other "
    "modality too may come nearer to it. It is no measure of disentanglement; read it beside the leak ratio (audit=model.audit())."
)


def rank_correlation(
    mdata: MuData,
    label_key: str,
    *,
    codes: Sequence[ModalityCode] = ("shared", "specific", "both"),
    weight_key: str | None = None,
    audit: AuditReport | None = None,
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
    """Correlate the ranks of cell types by theta with those by the weight of RNA among weighted nearest neighbours (WNN).

    The paper (arXiv 2509.21584, figure 5) reads a high correlation as a sign that codes are biologically right. Beware: it can reward leakage.
    A specific code that keeps what both modalities know separates cell types as raw data do, and WNN weights are made of raw
    data. So the leak ratio of an audit stands beside the specific code.

    Parameters
    ----------
    mdata
        With codes that ``model.write_latents(mdata)`` wrote, and WNN weights.
    label_key
        Column of cell types, as in :func:`modality_importance`.
    codes
        Codes that theta is computed from, see there: ``"both"`` is shared and specific code side by side, ``"raw"`` an embedding of each modality.
    weight_key
        Column with the weight of RNA; by default the first that :func:`find_wnn_weights` finds. :func:`wnn_weights` makes one.
    audit
        What ``model.audit()`` returned, for the leak ratio.
    rna_obsm_key, adt_obsm_key, modalities, cells, n_neighbors, smoothing
        As in :func:`modality_importance`.
    n_bootstrap, confidence, minimum_cells, seed
        As in :func:`indiseek_sc.metrics.rank_correlation`; labels of fewer cells are left out, and named.

    Returns
    -------
    A row for each code and statistic: ``code``, ``statistic`` (``"spearman"``, ``"kendall"``), ``estimate``, ``lower`` and ``upper`` (cells drawn again), ``jackknife_lower``
    and ``jackknife_upper`` (labels left out one by one), ``n_labels``, ``left_out``, ``leak_ratio_rna`` and ``leak_ratio_adt`` (of the specific code,
    by ``audit``) and ``weights`` (where they come from).

    Notes
    -----
    Written to ``mdata``: ``uns["indiseek_rank_correlation"]`` (the table), ``uns["indiseek_rank_correlation_labels"]`` (means of theta and weights by code
    and label, with their intervals, and which are ``ranked``) and ``uns["indiseek_rank_correlation_params"]`` (the arguments). Nothing is written if an error is raised.

    Raises
    ------
    TypeError
        If ``audit`` is none.
    KeyError
        If codes, labels, weights or the split are not there.
    ValueError
        If an argument is out of its range, or there are too few cells or labels.
    """
    if audit is not None and not isinstance(getattr(audit, "table", None), pd.DataFrame):
        raise TypeError(f"audit must be what model.audit() returned, but is {type(audit).__name__}.")
    if isinstance(codes, str) or not np.iterable(codes) or not len(codes):
        raise ValueError(f"codes={codes!r} must be a sequence of codes, such as ('shared', 'specific').")
    roles = find_pair(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    weights, source = choose_weights(mdata, weight_key, roles, "weight_key")
    within = find_cells(mdata, cells)
    labels = find_several_labels(mdata, label_key, within)
    of_theta: dict[str, Any] = {"n_neighbors": n_neighbors, "smoothing": smoothing}
    of_ranks: dict[str, Any] = {"n_bootstrap": n_bootstrap, "confidence": confidence, "minimum_cells": minimum_cells}
    of_ranks["seed"] = seed
    tables, by_label = [], []
    for code in codes:
        theta, _ = measure_importance(
            find_codes(mdata, roles, code, obsm_keys, "codes"), labels, within, n_bootstrap=1, **of_theta
        )
        known = np.isfinite(theta) & weights.notna().to_numpy()
        ranks = metrics.rank_correlation(theta[known], weights.to_numpy()[known], labels[known], **of_ranks)
        judged = None if audit is None or code != "specific" else audit.table
        for role, name in roles.items():
            ranks.table[f"leak_ratio_{role}"] = np.nan if judged is None else judged.loc[name, "leak_ratio"]
        tables.append(ranks.table)
        by_label.append(ranks.labels.rename(columns=_as_theta_and_weight))
    logger.warning(WARNING)
    table = _stack(tables, codes).assign(weights=source)
    mdata.uns[_keys.RANK_CORRELATION] = table
    mdata.uns[f"{_keys.RANK_CORRELATION}_labels"] = _stack(by_label, codes)
    mdata.uns[f"{_keys.RANK_CORRELATION}_params"] = {
        "label_key": label_key,
        "modalities": roles,
        "cells": cells,
        **of_theta,
        **of_ranks,
    }
    columns = [label_key, weights.name]
    note_inputs(
        mdata, _keys.RANK_CORRELATION, list_places(mdata, roles, codes, obsm_keys, columns=columns, cells=cells)
    )
    return table.copy()


def _as_theta_and_weight(column: str) -> str:
    return column.replace("value", "theta").replace("reference", "weight")


def _stack(tables: Sequence[pd.DataFrame], codes: Sequence[ModalityCode]) -> pd.DataFrame:
    """One table below the other, each with the name of its code in front."""
    return pd.concat(tables, keys=codes, names=["code", None]).reset_index("code").reset_index(drop=True)
