"""What is told of the course of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

CURVES = ("info_nce", "correlation", "bound", "leak", "error")
"""Ends of the names of the curves to draw: alignment of the shared codes, independence (as critics and the probe have it) and completeness of the others."""


def course_of_training(history: Mapping[str, pd.DataFrame]) -> list[str]:
    """Keys of the curves that tell how training went; all of them would fill pages."""
    return [key for key in history if key.endswith(CURVES)]


def count_epochs(history: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Epochs that each stage ran."""
    counts: dict[str, int] = {}
    for key, values in history.items():
        stage = key.partition("/")[0]
        counts[stage] = max(counts.get(stage, 0), int(values.index.max()) + 1)
    return counts
