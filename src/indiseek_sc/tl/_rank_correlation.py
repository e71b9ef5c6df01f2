"""Whether theta ranks cell types as the weights of weighted nearest neighbours do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._lookup import find_obs
from indiseek_sc.tl._codes import Cells, find_cells
from indiseek_sc.tl._embeddings import find_pair
from indiseek_sc.tl._find_codes import Code, find_codes
from indiseek_sc.tl._find_wnn_weights import find_wnn_weights
from indiseek_sc.tl._importance import measure_importance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport

logger = logging.getLogger("scvi.indiseek_sc")

WARNING = (
    "Rank correlation with WNN weights can reward leakage: WNN looks at all that a modality knows, so a specific code that tells of the other "
    "modality too may come nearer to it. It is no measure of disentanglement; read it beside the leak ratio (audit=model.audit())."
)


def rank_correlation(
    mdata: MuData,
    label_key: str,
    *,
    codes: Sequence[Code] = ("shared", "specific", "joint"),
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
        Codes that theta is computed from, see there; ``"raw"`` is an embedding of each modality.
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
    KeyError
        If codes, labels, weights or the split are not there.
    ValueError
        If an argument is out of its range, or there are too few cells or labels.
    """
    if isinstance(codes, str) or not codes:
        raise ValueError(f"codes={codes!r} must be a sequence of codes, such as ('shared', 'specific').")
    roles = find_pair(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    weights, source = find_wnn_weights(mdata, weight_key, modalities={str(role): name for role, name in roles.items()})
    labels, within = find_obs(mdata, label_key, "label_key"), find_cells(mdata, cells)
    of_theta: dict[str, Any] = {"n_neighbors": n_neighbors, "smoothing": smoothing}
    of_ranks: dict[str, Any] = {"n_bootstrap": n_bootstrap, "confidence": confidence, "minimum_cells": minimum_cells}
    of_ranks["seed"] = seed
    tables, by_label = [], []
    for code in codes:
        theta, _ = measure_importance(
            find_codes(mdata, roles, code, obsm_keys), labels, within, n_bootstrap=1, **of_theta
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
    return table.copy()


def _as_theta_and_weight(column: str) -> str:
    return column.replace("value", "theta").replace("reference", "weight")


def _stack(tables: Sequence[pd.DataFrame], codes: Sequence[Code]) -> pd.DataFrame:
    """One table below the other, each with the name of its code in front."""
    return pd.concat(tables, keys=codes, names=["code", None]).reset_index("code").reset_index(drop=True)
