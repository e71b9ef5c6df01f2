"""What was done, as a report tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from indiseek_sc import _keys
from indiseek_sc._lookup import find_obs
from indiseek_sc.report._course import count_epochs
from indiseek_sc.report._versions import find_versions

if TYPE_CHECKING:
    from indiseek_sc.report._material import Material

PARTS = ("train", "validation", "test")


def collect_facts(material: Material) -> dict[str, Any]:
    """Facts of data, codes, settings and versions; None for what is not known.

    Parameters
    ----------
    material
        What the report is made from.
    """
    mdata, facts, noted = material.mdata, material.facts, material.noted
    names = material.modalities
    settings = dict(noted.get("settings", {})) if facts is None else dict(facts.settings)
    return {
        "source": material.source,
        "n_cells": mdata.n_obs,
        "names": names,
        "n_features": {role: mdata[name].n_vars for role, name in names.items()},
        "split": _count_split(material),
        "preprocessing": None if facts is None else dict(facts.preprocessing),
        "batch_key": None if facts is None else facts.batch_key,
        "batches": None if facts is None else list(facts.batches),
        "widths": {
            "shared": mdata.obsm[_keys.shared(names["rna"])].shape[1],
            "specific": {role: mdata.obsm[_keys.specific(name)].shape[1] for role, name in names.items()},
            "joint": mdata.obsm[_keys.JOINT].shape[1],
        },
        "labels": _describe_labels(material),
        "method": "IndiSeek" if facts is None else facts.method,
        "preset": None if facts is None else facts.preset,
        "lambda": settings.get("lambda"),
        "lambda_reason": None if facts is None or facts.lambda_path is None else facts.lambda_path.reason,
        "seed": settings.get("seed"),
        "settings": {name: settings[name] for name in sorted(settings)},
        "predictions": {} if facts is None else dict(facts.predictions),
        "epochs": None if facts is None else _name_stages(count_epochs(facts.history)),
        "versions": find_versions(),
        "version": str(noted.get("version", "")) or None,
        "made_by_scanpy": {key: key in mdata.uns for key in ("neighbors", "leiden", "umap")},
        "params": {key: mdata.uns.get(f"{key}_params") for key in (_keys.IMPORTANCE, _keys.CLUSTERS)},
        "weights": _find_weights(mdata.uns.get(_keys.RANK_CORRELATION)),
    }


def _name_stages(epochs: dict[str, int]) -> dict[str, int]:
    """Epochs by the name of the stage that figures have too."""
    return {
        _keys.REGRESSION_TITLES.get(stage, f"{stage.capitalize()} codes"): number for stage, number in epochs.items()
    }


def _count_split(material: Material) -> dict[str, int] | None:
    if _keys.SPLIT not in material.mdata.obs:
        return None
    counts = material.mdata.obs[_keys.SPLIT].astype(str).value_counts()
    return {part: int(counts.get(part, 0)) for part in PARTS}


def _describe_labels(material: Material) -> dict[str, Any] | None:
    if material.label_key is None:
        return None
    labels = find_obs(material.mdata, material.label_key, "label_key")
    return {"key": material.label_key, "n": int(labels.nunique()), "n_missing": int(labels.isna().sum())}


def _find_weights(table: pd.DataFrame | None) -> str | None:
    return None if table is None or "weights" not in table else str(table["weights"].iloc[0])
