"""Whether theta ranks cell types as the weights of weighted nearest neighbours do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._fingerprint import note_inputs
from indiseek_sc.tl._latents import (
    Cells,
    ModalityLatent,
    find_cells,
    find_latents,
    find_pair,
    find_several_labels,
    list_places,
)
from indiseek_sc.tl._refits import find_refits, find_samples
from indiseek_sc.tl._theta import measure_importance
from indiseek_sc.tl._wnn_weights import choose_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport

logger = logging.getLogger("scvi.indiseek_sc")

WARNING = (
    "Rank correlation with WNN weights can reward leakage: WNN looks at all that a modality knows, so a specific representation that tells of the other "
    "modality too may come nearer to it. It is no measure of disentanglement; read it beside the leak ratio (audit=model.audit())."
)


def rank_correlation(
    mdata: MuData,
    label_key: str,
    *,
    latents: Sequence[ModalityLatent] = ("shared", "specific", "both"),
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

    The paper (arXiv 2509.21584, figure 5) reads a high correlation as a sign that representations are biologically right. Beware: it can reward leakage.
    A specific representation that keeps what both modalities know separates cell types as raw data do, and WNN weights are made of raw
    data. So the leak ratio of an audit stands beside the specific representation.

    Parameters
    ----------
    mdata
        With representations that ``model.write_latents(mdata)`` wrote, and WNN weights.
    label_key
        Column of cell types, as in :func:`modality_importance`.
    latents
        Representations that theta is computed from, see there: ``"both"`` is shared and specific representation side by side, ``"raw"`` an embedding of each modality.
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
    A row for each representation and statistic: ``latent``, ``statistic`` (``"spearman"``, ``"kendall"``), ``estimate``, ``lower`` and ``upper`` (cells drawn again, and theta
    from its distribution over refits where ``model.write_refits()`` made some; theta is then the mean over refits), ``jackknife_lower``
    and ``jackknife_upper`` (labels left out one by one), ``n_labels``, ``left_out``, ``leak_ratio_rna`` and ``leak_ratio_adt`` (of the specific representation,
    by ``audit``) and ``weights`` (where they come from).

    Notes
    -----
    Written to ``mdata``: ``uns["indiseek_rank_correlation"]`` (the table), ``uns["indiseek_rank_correlation_labels"]`` (means of theta and weights by representation
    and label, with their intervals, and which are ``ranked``) and ``uns["indiseek_rank_correlation_params"]`` (the arguments). Nothing is written if an error is raised.

    Raises
    ------
    TypeError
        If ``audit`` is none.
    KeyError
        If representations, labels, weights or the split are not there.
    ValueError
        If an argument is out of its range, or there are too few cells or labels.
    """
    if audit is not None and not isinstance(getattr(audit, "table", None), pd.DataFrame):
        raise TypeError(f"audit must be what model.audit() returned, but is {type(audit).__name__}.")
    if isinstance(latents, str) or not np.iterable(latents) or not len(latents):
        raise ValueError(f"latents={latents!r} must be a sequence of representations, such as ('shared', 'specific').")
    roles = find_pair(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    weights, source = choose_weights(mdata, weight_key, roles, "weight_key")
    within = find_cells(mdata, cells)
    labels = find_several_labels(mdata, label_key, within)
    of_theta: dict[str, Any] = {"n_neighbors": n_neighbors, "smoothing": smoothing}
    of_ranks: dict[str, Any] = {"n_bootstrap": n_bootstrap, "confidence": confidence, "minimum_cells": minimum_cells}
    of_ranks["seed"] = seed
    refits = find_refits(mdata, roles) if cells == "all" else []
    tables, by_label = [], []
    for latent in latents:
        of_modalities = find_latents(mdata, roles, latent, obsm_keys, "latents")
        estimates = None
        if refits and latent != "raw":
            of_known = labels.where(weights.notna().to_numpy())
            _, samples = find_samples(mdata)
            found = metrics.replicated_importance(
                refits, of_known, latent=latent, samples=samples, information=False, **of_theta
            )
            theta, estimates = found.theta, found.theta_of_labels
        else:
            theta, _ = measure_importance(of_modalities, labels, within, n_bootstrap=1, **of_theta)
        known = np.isfinite(theta) & weights.notna().to_numpy()
        ranks = metrics.rank_correlation(
            theta[known], weights.to_numpy()[known], labels[known], estimates=estimates, **of_ranks
        )
        judged = None if audit is None or latent != "specific" else audit.table
        for role, name in roles.items():
            ranks.table[f"leak_ratio_{role}"] = np.nan if judged is None else judged.loc[name, "leak_ratio"]
        tables.append(ranks.table)
        by_label.append(ranks.labels.rename(columns=_as_theta_and_weight))
    logger.warning(WARNING)
    table = _stack(tables, latents).assign(weights=source)
    mdata.uns[_keys.RANK_CORRELATION] = table
    mdata.uns[f"{_keys.RANK_CORRELATION}_labels"] = _stack(by_label, latents)
    mdata.uns[f"{_keys.RANK_CORRELATION}_params"] = {
        "label_key": label_key,
        "modalities": roles,
        "cells": cells,
        "n_refits": len(refits),
        **of_theta,
        **of_ranks,
    }
    columns = [label_key, weights.name]
    note_inputs(
        mdata,
        _keys.RANK_CORRELATION,
        list_places(mdata, roles, latents, obsm_keys, columns=columns, cells=cells, refits=bool(refits)),
    )
    return table.copy()


def _as_theta_and_weight(column: str) -> str:
    return column.replace("value", "theta").replace("reference", "weight")


def _stack(tables: Sequence[pd.DataFrame], latents: Sequence[ModalityLatent]) -> pd.DataFrame:
    """One table below the other, each with the name of its representation in front."""
    return pd.concat(tables, keys=latents, names=["latent", None]).reset_index("latent").reset_index(drop=True)
