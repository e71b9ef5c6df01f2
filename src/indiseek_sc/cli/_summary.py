"""The facts of a run, for programs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from indiseek_sc.cli._figures import CAPTIONS
from indiseek_sc.report import count_epochs, find_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from indiseek_sc import IndiSeek
    from indiseek_sc.metrics import AuditReport


PAGE = "report.html"
"""The page for a browser, beside the figures."""


def collect_facts(
    model: IndiSeek,
    table: pd.DataFrame,
    audit: AuditReport,
    *,
    source: str,
    label_key: str,
    is_clustered: bool,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Put together what was done and found.

    Parameters
    ----------
    model
        The trained model.
    table
        Theta by label.
    audit
        What ``model.audit()`` found.
    source
        What the cells are.
    label_key
        Whose theta it is.
    is_clustered
        Whether those labels are clusters of the codes themselves.
    seconds
        How long each step took.
    """
    return {
        "source": source,
        "n_cells": {part: int(getattr(model.split, part).size) for part in ("train", "validation", "test")},
        "modalities": dict(model.modalities),
        "seed": model.seed,
        "settings": {**vars(model.settings), "lambda_": model.lambda_},
        "n_dimensions": {
            "shared": model.module.rotations["rna"].n_kept,
            "specific": {name: model.module.codecs[role].n_used for role, name in model.modalities.items()},
        },
        "epochs": count_epochs(model.history),
        "audit": audit.to_dict(),
        "label_key": label_key,
        "labels_are_clusters": is_clustered,
        "theta": table.to_dict(orient="records"),
        "seconds": dict(seconds),
        "versions": find_versions(),
        "files": [*CAPTIONS, PAGE, "summary.json", "summary.md"],
    }


def write_json(facts: Mapping[str, Any], path: Path) -> None:
    """Write strict JSON: what it has no number for becomes null."""
    path.write_text(json.dumps(_plain(facts), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
