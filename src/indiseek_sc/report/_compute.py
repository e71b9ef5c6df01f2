"""Tables that a report shows and the data do not have yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc import _keys, tl

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport

COMPONENTS: dict[_keys.Role, int] = {"rna": 30, "adt": 18}
"""Principal components that WNN weights are computed from, at most: those of Seurat's vignette."""


def compute_missing(
    mdata: MuData, label_key: str | None, model: Any, audit: AuditReport | None, *, compare: bool, seed: int
) -> dict[str, str]:
    """Write to ``mdata`` what is missing and takes seconds, and if asked what takes minutes.

    Parameters
    ----------
    mdata
        With codes.
    label_key
        Labels, if there are any.
    model
        The model, if it is at hand: for principal components of what it reads, where the data have none.
    audit
        For the leak beside rank correlations.
    compare
        Whether to compare clusters of codes, and ranks of labels with those by weighted nearest neighbours.
    seed
        Seed of intervals and clusters.

    Returns
    -------
    Why a table could not be made, by its key in ``uns``.
    """
    wanted: dict[str, Callable[[], Any]] = {}
    if label_key is not None and _noted_labels(mdata, _keys.IMPORTANCE) != label_key:
        wanted[_keys.IMPORTANCE] = lambda: tl.modality_importance(mdata, label_key, seed=seed)
    if _keys.RETRIEVAL not in mdata.uns:
        wanted[_keys.RETRIEVAL] = lambda: tl.retrieval(mdata)
    if compare and _keys.CLUSTERS not in mdata.uns:
        wanted[_keys.CLUSTERS] = lambda: tl.compare_clusters(mdata, label_key, seed=seed)
    if compare and label_key is not None and _noted_labels(mdata, _keys.RANK_CORRELATION) != label_key:
        wanted[_keys.RANK_CORRELATION] = lambda: _correlate(mdata, label_key, model, audit, seed)
    failures = {}
    for key, compute in wanted.items():
        try:
            compute()
        except (KeyError, ValueError) as error:
            failures[key] = str(error.args[0] if error.args else error)
    return failures


def find_label_key(mdata: MuData) -> str | None:
    """The labels that theta was computed for, if it was."""
    return _noted_labels(mdata, _keys.IMPORTANCE)


def _noted_labels(mdata: MuData, key: str) -> str | None:
    return mdata.uns.get(f"{key}_params", {}).get("label_key") if key in mdata.uns else None


def _correlate(mdata: MuData, label_key: str, model: Any, audit: AuditReport | None, seed: int) -> None:
    try:
        tl.find_wnn_weights(mdata)
    except KeyError:
        tl.wnn_weights(mdata, **_find_embeddings(mdata, model))
    tl.rank_correlation(mdata, label_key, audit=audit, seed=seed)


def _find_embeddings(mdata: MuData, model: Any) -> dict[str, Any]:
    """The user's own principal components, or else those of what the model reads, which are written to ``obsm``."""
    names = {} if model is None else model.modalities
    if not names or all("X_pca" in mdata[name].obsm for name in names.values()):
        return {}
    keys = {}
    for role, name in names.items():
        features = model.get_features(modality=name)
        # Few features, whatever the number of cells.
        axes = np.linalg.eigh(np.cov(features, rowvar=False)).eigenvectors[:, ::-1]
        keys[f"{role}_obsm_key"] = key = f"X_pca_{name}"
        mdata.obsm[key] = (features - features.mean(axis=0)) @ axes[:, : COMPONENTS[role]]
    return keys


FOR_DEVELOPERS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)
