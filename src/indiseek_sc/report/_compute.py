"""Tables that a report shows and the data do not have yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc import _keys, tl
from indiseek_sc._fingerprint import find_changed, is_noted
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import batch_mixing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from mudata import MuData

    from indiseek_sc.metrics import AuditReport

COMPONENTS: dict[_keys.Role, int] = {"rna": 30, "adt": 18}
"""Principal components that WNN weights are computed from, at most: those of Seurat's vignette."""


def compute_missing(
    mdata: MuData, label_key: str | None, model: Any, audit: AuditReport | None, *, compare: bool, seed: int
) -> dict[str, str]:
    """Write to ``mdata`` what is missing, or is of other representations, labels or cells, and takes seconds; if asked what takes minutes.

    What is old and is not made again is taken out.

    Parameters
    ----------
    mdata
        With representations.
    label_key
        Labels, if there are any.
    model
        The model, if it is at hand: for principal components of what it reads, where the data have none.
    audit
        For the leak beside rank correlations.
    compare
        Whether to compare clusters of representations, and ranks of labels with those by weighted nearest neighbours.
    seed
        Seed of intervals and clusters.

    Returns
    -------
    Why a table could not be made, by its key in ``uns``.
    """
    of_dimensions = _find_settings(mdata, _keys.DIMENSIONS, _OF_DIMENSIONS, seed)
    computed: dict[str, Callable[[], Any]] = {
        _keys.RETRIEVAL: lambda: tl.retrieval(mdata),
        _keys.DIMENSIONS: lambda: tl.describe_dimensions(mdata, label_key, **of_dimensions),
    }
    if label_key is not None:
        is_same = _noted_labels(mdata, _keys.IMPORTANCE) == label_key
        of_theta = _find_settings(mdata, _keys.IMPORTANCE, _OF_THETA if is_same else (), seed)
        computed[_keys.IMPORTANCE] = lambda: tl.modality_importance(mdata, label_key, **of_theta)
    if compare:
        computed[_keys.CLUSTERS] = lambda: tl.compare_clusters(mdata, label_key, seed=seed)
    if compare and label_key is not None:
        computed[_keys.RANK_CORRELATION] = lambda: _correlate(mdata, label_key, model, audit, seed)
    failures = {}
    for key in (_keys.IMPORTANCE, _keys.RETRIEVAL, _keys.DIMENSIONS, _keys.CLUSTERS, _keys.RANK_CORRELATION):
        is_of_others = key in _OF_LABELS and _noted_labels(mdata, key) != label_key
        if key in mdata.uns and not is_of_others and is_noted(mdata, key) and not find_changed(mdata, key):
            continue
        if key in mdata.uns and key not in computed:
            changed = ", ".join(map(str, find_changed(mdata, key))) or "what it was made of is not known"
            failures[key] = f"What there was is of other data or labels ({changed}). Ask for compare, or make it again."
        was_there = mdata.uns.pop(key, None) is not None
        if was_there and key == _keys.IMPORTANCE:
            for column in mdata.obs.columns.intersection(_keys.THETAS):
                del mdata.obs[column]
        try:
            computed.get(key, lambda: None)()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told in the page and costs this table alone)
            failures[key] = str(error.args[0] if error.args else error) or type(error).__name__
    return failures


_OF_LABELS = (_keys.IMPORTANCE, _keys.RANK_CORRELATION, _keys.DIMENSIONS)
"""Tables that are of certain labels."""

_OF_THETA = ("cells", "n_neighbors", "smoothing", "n_bootstrap", "confidence", "minimum_cells", "sample_key", "seed")
_OF_DIMENSIONS = ("cells", "covariates", "threshold", "n_features", "seed")


def _find_settings(mdata: MuData, key: str, names: Sequence[str], seed: int) -> dict[str, Any]:
    """As a table was asked for before, if it was."""
    noted = mdata.uns.get(f"{key}_params", {})
    return {"seed": seed} | {name: noted[name] for name in names if name in noted and noted[name] != ""}


def find_label_key(mdata: MuData) -> str | None:
    """The labels that theta was computed for, if it was."""
    return _noted_labels(mdata, _keys.IMPORTANCE)


def _noted_labels(mdata: MuData, key: str) -> str | None:
    # Where there were no labels, a table has an empty name, since None does not survive a file.
    return mdata.uns.get(f"{key}_params", {}).get("label_key") or None if key in mdata.uns else None


def _correlate(mdata: MuData, label_key: str, model: Any, audit: AuditReport | None, seed: int) -> None:
    try:
        are_old = bool(find_changed(mdata, _keys.WNN))
        tl.find_wnn_weights(mdata)
    except KeyError:
        are_old = True
    if are_old:
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


CELLS_OF_MIXING = 10_000


def mix_batches(mdata: MuData, label_key: str | None, batch_key: str | None, seed: int) -> pd.DataFrame | None:
    """How far batches mix within labels in the joint representation, of some of the cells; nothing without labels or batches.

    Parameters
    ----------
    mdata
        With a joint representation.
    label_key, batch_key
        Columns of labels and of batches.
    seed
        Seed of the draw of cells and of permutations.
    """
    if label_key is None or batch_key is None:
        return None
    latent = np.asarray(mdata.obsm[_keys.JOINT])
    labels, batches = (
        find_labels(mdata, key, name) for key, name in ((label_key, "label_key"), (batch_key, "batch_key"))
    )
    known = np.isfinite(latent).all(axis=1) & labels.notna().to_numpy() & batches.notna().to_numpy()
    cells = np.random.default_rng(seed).permutation(np.flatnonzero(known))[:CELLS_OF_MIXING]
    if not len(cells):
        return None
    return batch_mixing(latent[cells], labels.iloc[cells], batches.iloc[cells], seed=seed)
