"""Computation of tables that a report shows and the data do not contain yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc import _keys, tl
from indiseek_sc._fingerprint import find_changed, is_recorded
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import batch_mixing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from mudata import MuData

    from indiseek_sc.metrics import AuditReport

COMPONENTS: dict[_keys.Role, int] = {"rna": 30, "adt": 18}
"""Largest number of principal components for WNN weights, as in the vignette of Seurat."""


def compute_missing(
    mdata: MuData, label_key: str | None, model: Any, audit: AuditReport | None, *, compare: bool, seed: int
) -> dict[str, str]:
    """Compute the tables that are missing or outdated and write them to ``mdata``.

    A table is outdated if it was computed from other representations, labels or cells. Outdated
    tables that are not computed again are removed.

    Parameters
    ----------
    mdata
        Data with representations.
    label_key
        Column of labels, or None.
    model
        The model, or None. Principal components of its input features are used for WNN weights
        where the data contain no components.
    audit
        Audit whose leak ratios accompany the rank correlations, or None.
    compare
        Whether to run the comparisons that take minutes: clusters of the representations, and theta
        with weights of weighted nearest neighbours (WNN).
    seed
        Random seed of intervals and clusters.

    Returns
    -------
    Reasons why tables could not be computed, by their key in ``uns``.
    """
    dimension_settings = _find_settings(mdata, _keys.DIMENSIONS, _DIMENSION_SETTINGS, seed)
    computed: dict[str, Callable[[], Any]] = {
        _keys.RETRIEVAL: lambda: tl.retrieval(mdata),
        _keys.DIMENSIONS: lambda: tl.describe_dimensions(mdata, label_key, **dimension_settings),
    }
    if label_key is not None:
        is_same_label_key = _recorded_label_key(mdata, _keys.IMPORTANCE) == label_key
        theta_settings = _find_settings(mdata, _keys.IMPORTANCE, _THETA_SETTINGS if is_same_label_key else (), seed)
        computed[_keys.IMPORTANCE] = lambda: tl.modality_importance(mdata, label_key, **theta_settings)
    if compare:
        computed[_keys.CLUSTERS] = lambda: tl.compare_clusters(mdata, label_key, seed=seed)
    if compare and label_key is not None:
        computed[_keys.RANK_CORRELATION] = lambda: _compute_rank_correlation(mdata, label_key, model, audit, seed)
    failures = {}
    for key in (_keys.IMPORTANCE, _keys.RETRIEVAL, _keys.DIMENSIONS, _keys.CLUSTERS, _keys.RANK_CORRELATION):
        has_other_labels = key in _LABEL_TABLES and _recorded_label_key(mdata, key) != label_key
        if key in mdata.uns and not has_other_labels and is_recorded(mdata, key) and not find_changed(mdata, key):
            continue
        if key in mdata.uns and key not in computed:
            changed = ", ".join(map(str, find_changed(mdata, key))) or "its input is not recorded"
            failures[key] = (
                f"The existing table was computed from other data or labels ({changed}). Request the comparison with compare=True, "
                "or compute the table again."
            )
        was_there = mdata.uns.pop(key, None) is not None
        if was_there and key == _keys.IMPORTANCE:
            for column in mdata.obs.columns.intersection(_keys.THETAS):
                del mdata.obs[column]
        try:
            computed.get(key, lambda: None)()
        except Exception as error:  # noqa: BLE001 (any failure is reported in the page and affects only this table)
            failures[key] = str(error.args[0] if error.args else error) or type(error).__name__
    return failures


_LABEL_TABLES = (_keys.IMPORTANCE, _keys.RANK_CORRELATION, _keys.DIMENSIONS)
"""Tables that depend on the labels."""

_THETA_SETTINGS = (
    "cells",
    "n_neighbors",
    "smoothing",
    "n_bootstrap",
    "confidence",
    "minimum_cells",
    "sample_key",
    "seed",
)
_DIMENSION_SETTINGS = ("cells", "covariates", "threshold", "n_features", "seed")


def _find_settings(mdata: MuData, key: str, names: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the settings with which a table was computed before, and the seed."""
    noted = mdata.uns.get(f"{key}_params", {})
    return {"seed": seed} | {name: noted[name] for name in names if name in noted and noted[name] != ""}


def find_label_key(mdata: MuData) -> str | None:
    """Return the column of labels for which theta was computed, or None."""
    return _recorded_label_key(mdata, _keys.IMPORTANCE)


def _recorded_label_key(mdata: MuData, key: str) -> str | None:
    # Tables without labels record an empty string, because None cannot be stored in a file.
    return mdata.uns.get(f"{key}_params", {}).get("label_key") or None if key in mdata.uns else None


def _compute_rank_correlation(mdata: MuData, label_key: str, model: Any, audit: AuditReport | None, seed: int) -> None:
    try:
        are_old = bool(find_changed(mdata, _keys.WNN))
        tl.find_wnn_weights(mdata)
    except KeyError:
        are_old = True
    if are_old:
        tl.wnn_weights(mdata, **_find_embeddings(mdata, model))
    tl.rank_correlation(mdata, label_key, audit=audit, seed=seed)


def _find_embeddings(mdata: MuData, model: Any) -> dict[str, Any]:
    """Return the keys of principal components in ``obsm``.

    If the data contain none, components of the input features of the model are computed and written
    to ``obsm``.
    """
    names = {} if model is None else model.modalities
    if not names or all("X_pca" in mdata[name].obsm for name in names.values()):
        return {}
    keys = {}
    for role, name in names.items():
        features = model.get_features(modality=name)
        # The covariance matrix is small, because the model reads few features.
        axes = np.linalg.eigh(np.cov(features, rowvar=False)).eigenvectors[:, ::-1]
        keys[f"{role}_obsm_key"] = key = f"X_pca_{name}"
        mdata.obsm[key] = (features - features.mean(axis=0)) @ axes[:, : COMPONENTS[role]]
    return keys


MIXING_CELLS = 10_000
"""Largest number of cells, drawn at random, on which the mixing of batches is measured."""


def measure_batch_mixing(mdata: MuData, label_key: str | None, batch_key: str | None, seed: int) -> pd.DataFrame | None:
    """Measure how well batches mix within labels in the joint representation.

    Parameters
    ----------
    mdata
        Data with a joint representation.
    label_key, batch_key
        Columns of labels and of batches, or None.
    seed
        Random seed of the subsample of cells and of the permutations.

    Returns
    -------
    Table of :func:`indiseek_sc.metrics.batch_mixing` for a random subsample of cells, or None
    without labels or batches.
    """
    if label_key is None or batch_key is None:
        return None
    latent = np.asarray(mdata.obsm[_keys.JOINT])
    labels, batches = (
        find_labels(mdata, key, name) for key, name in ((label_key, "label_key"), (batch_key, "batch_key"))
    )
    known = np.isfinite(latent).all(axis=1) & labels.notna().to_numpy() & batches.notna().to_numpy()
    cells = np.random.default_rng(seed).permutation(np.flatnonzero(known))[:MIXING_CELLS]
    if not len(cells):
        return None
    return batch_mixing(latent[cells], labels.iloc[cells], batches.iloc[cells], seed=seed)
