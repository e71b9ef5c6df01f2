"""The figures of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
from matplotlib import pyplot as plt

from indiseek_sc import pl
from indiseek_sc.report import course_of_training

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

    from indiseek_sc import IndiSeek
    from indiseek_sc.metrics import AuditReport

CAPTIONS = {
    "umap.png": "The codes as UMAPs",
    "importance.png": "Which modality resolves which cells better",
    "audit.png": "What fresh models find in the codes of cells that were held out",
    "history.png": "The course of training",
}
"""What each figure shows, in the order to look at them."""


def draw_figures(
    model: IndiSeek, mdata: MuData, audit: AuditReport, colors: Sequence[str], folder: Path
) -> dict[str, str]:
    """Draw all figures into a folder.

    Parameters
    ----------
    model
        The trained model.
    mdata
        With codes, their UMAPs and theta.
    audit
        What ``model.audit()`` found.
    colors
        Columns of obs to colour the UMAPs by, a row each.
    folder
        Where to write.

    Returns
    -------
    What each shows, by file name.
    """
    matplotlib.use("Agg")  # a command draws files, also where there is a screen
    pl.umap(mdata, colors, show=False, save=folder / "umap.png")
    pl.importance_ranking(mdata, show=False, save=folder / "importance.png")
    pl.audit(audit, show=False, save=folder / "audit.png")
    pl.history(model, keys=course_of_training(model.history), show=False, save=folder / "history.png")
    plt.close("all")
    return CAPTIONS
