"""Rank correlation of cell types by theta and by weights of weighted nearest neighbours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._fingerprint import record_inputs
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
    "Rank correlation with WNN weights can reward leakage: WNN weights depend on all information in a modality, so a "
    "specific representation that also contains shared information may agree with them better. It does not measure "
    "disentanglement; compare it with the leak ratio (audit=model.audit())."
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
    """Correlate the ranks of cell types by theta and by the WNN weight of RNA.

    The paper (arXiv 2509.21584, figure 5) interprets a high correlation as evidence that
    representations are biologically meaningful. The correlation can reward leakage, however: a
    specific representation that also contains shared information separates cell types as raw data
    do, and WNN weights (weighted nearest neighbours) are computed from raw data. The table
    therefore includes the leak ratio of an audit for the specific representation.

    Parameters
    ----------
    mdata
        Data with representations written by ``model.write_latents(mdata)`` and with WNN weights.
    label_key
        Column of cell types, as in :func:`modality_importance`.
    latents
        Representations from which theta is computed, as in :func:`modality_importance`.
    weight_key
        Column with the weight of RNA; by default the first found by :func:`find_wnn_weights`.
        :func:`wnn_weights` computes one.
    audit
        Report returned by ``model.audit()``, for the leak ratio.
    rna_obsm_key, adt_obsm_key, modalities, cells, n_neighbors, smoothing
        As in :func:`modality_importance`.
    n_bootstrap, confidence, minimum_cells, seed
        As in :func:`indiseek_sc.metrics.rank_correlation`; labels with fewer than ``minimum_cells``
        cells are excluded and listed.

    Returns
    -------
    One row for each representation and statistic: ``latent``, ``statistic`` (``"spearman"`` or
    ``"kendall"``), ``estimate``, ``lower`` and ``upper`` (bootstrap over cells; if
    ``model.write_refits()`` was called, theta is the mean over refits and is drawn from its
    distribution over refits), ``jackknife_lower`` and ``jackknife_upper`` (over labels),
    ``n_labels``, ``left_out``, ``leak_ratio_rna`` and ``leak_ratio_adt`` (of the specific
    representation, from ``audit``) and ``weights`` (the source of the weights).

    Raises
    ------
    TypeError
        If ``audit`` is not a report.
    KeyError
        If the representations, labels, weights or split are missing.
    ValueError
        If an argument is out of range, or there are too few cells or labels.

    Notes
    -----
    Written to ``mdata``: ``uns["indiseek_rank_correlation"]`` (the table),
    ``uns["indiseek_rank_correlation_labels"]`` (means of theta and weights by representation and
    label, with intervals, and whether the label was ``ranked``) and
    ``uns["indiseek_rank_correlation_params"]`` (the arguments). Nothing is written if an error is
    raised.

    Examples
    --------
    >>> mdata.obs["RNA.weight"] = np.linspace(0, 1, mdata.n_obs)
    >>> table = isk.tl.rank_correlation(mdata, "cell_type", latents=["shared"], n_bootstrap=10)
    >>> table["statistic"].tolist()
    ['spearman', 'kendall']
    """
    if audit is not None and not isinstance(getattr(audit, "table", None), pd.DataFrame):
        raise TypeError(f"audit must be a report returned by model.audit(), but is {type(audit).__name__}.")
    if isinstance(latents, str) or not np.iterable(latents) or not len(latents):
        raise ValueError(f"latents={latents!r} must be a sequence of representations, such as ('shared', 'specific').")
    roles = find_pair(mdata, modalities)
    obsm_keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    weights, source = choose_weights(mdata, weight_key, roles, "weight_key")
    within = find_cells(mdata, cells)
    labels = find_several_labels(mdata, label_key, within)
    theta_settings: dict[str, Any] = {"n_neighbors": n_neighbors, "smoothing": smoothing}
    rank_settings: dict[str, Any] = {
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "minimum_cells": minimum_cells,
    }
    rank_settings["seed"] = seed
    refits = find_refits(mdata, roles) if cells == "all" else []
    tables, by_label = [], []
    for latent in latents:
        representations = find_latents(mdata, roles, latent, obsm_keys, "latents")
        estimates = None
        if refits and latent != "raw":
            known_labels = labels.where(weights.notna().to_numpy())
            _, samples = find_samples(mdata)
            found = metrics.replicated_importance(
                refits, known_labels, latent=latent, samples=samples, information=False, **theta_settings
            )
            theta, estimates = found.theta, found.theta_of_labels
        else:
            theta, _ = measure_importance(representations, labels, within, n_bootstrap=1, **theta_settings)
        known = np.isfinite(theta) & weights.notna().to_numpy()
        ranks = metrics.rank_correlation(
            theta[known], weights.to_numpy()[known], labels[known], estimates=estimates, **rank_settings
        )
        audited = None if audit is None or latent != "specific" else audit.table
        for role, name in roles.items():
            ranks.table[f"leak_ratio_{role}"] = np.nan if audited is None else audited.loc[name, "leak_ratio"]
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
        **theta_settings,
        **rank_settings,
    }
    columns = [label_key, weights.name]
    record_inputs(
        mdata,
        _keys.RANK_CORRELATION,
        list_places(mdata, roles, latents, obsm_keys, columns=columns, cells=cells, refits=bool(refits)),
    )
    return table.copy()


def _as_theta_and_weight(column: str) -> str:
    """Rename the columns of a metric, which compares any values with any reference."""
    return column.replace("value", "theta").replace("reference", "weight")


def _stack(tables: Sequence[pd.DataFrame], latents: Sequence[ModalityLatent]) -> pd.DataFrame:
    """Concatenate tables, with the name of the representation as first column."""
    return pd.concat(tables, keys=latents, names=["latent", None]).reset_index("latent").reset_index(drop=True)
