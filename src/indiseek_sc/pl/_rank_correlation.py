"""Theta of cell types against their weights among weighted nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from indiseek_sc import _keys
from indiseek_sc.pl._guide import move_apart
from indiseek_sc.pl._style import PALETTE, STYLE, display_name, finish, modality_names

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from mudata import MuData


def rank_correlation(
    mdata: MuData,
    *,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw the rank of each label by mean theta against that by its mean WNN weight of RNA, a panel for each code.

    Above each panel stand Spearman's rho with its jackknife interval and, for the specific code, the leak ratios if an audit was given: a high rho is no
    sign of good codes where the leak is high. Rank 1 is the most RNA; labels of too few cells have none. On the line both ranks are the same.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.rank_correlation`.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive.
    save
        File to write.

    Returns
    -------
    The axes, shape ``(n_codes,)``; nothing if the figure was shown.

    Raises
    ------
    KeyError
        If the tables are not there.
    """
    key = _keys.RANK_CORRELATION
    if key not in mdata.uns or f"{key}_labels" not in mdata.uns:
        raise KeyError(
            f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.rank_correlation(mdata, label_key=...) first."
        )
    table, by_label = mdata.uns[key], mdata.uns[f"{key}_labels"]
    names = modality_names(mdata) | mdata.uns.get(f"{key}_params", {}).get("modalities", {})
    codes = list(dict.fromkeys(table["code"]))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(codes), figsize=(5.4 * len(codes), 5.2), squeeze=False, layout="constrained")
        axes, texts = grid[0], []
        for ax, code in zip(axes, codes, strict=True):
            texts.append(_draw_points(ax, by_label[(by_label["code"] == code) & by_label["ranked"].astype(bool)]))
            spearman = table[(table["code"] == code) & (table["statistic"] == "spearman")].iloc[0]
            ax.set_title(_describe(code, spearman), loc="left")
            ax.set_xlabel(f"rank by WNN weight of {display_name(names['rna'])}")
        axes[0].set_ylabel(f"rank by θ, {display_name(names['rna'])} over {display_name(names['adt'])}")
        figure.draw_without_rendering()  # names are moved on the page, so it must be laid out
        for ax, of_panel in zip(axes, texts, strict=True):
            move_apart(ax, of_panel)
        return finish(figure, axes, show=show, save=save)


def _draw_points(ax: Axes, points: pd.DataFrame) -> list[Annotation]:
    """Draw labels by both of their ranks, where none hides another."""
    x, y = (points[name].rank(ascending=False) for name in ("weight", "theta"))
    ends = 0.5, len(points) + 0.5
    ax.plot(ends, ends, color="0.85", linewidth=1, zorder=0)
    ax.scatter(x, y, color=PALETTE[0], s=30, zorder=2)
    ax.set(xlim=(len(points) + 0.5, 0.5), ylim=(len(points) + 0.8, 0.2))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    texts = []
    for label, *place in zip(points["label"], x, y, strict=True):
        text = ax.annotate(label, place, (0, 9), textcoords="offset points", ha="center", va="center")
        text.set(fontsize=9, path_effects=[effects.withStroke(linewidth=2.5, foreground="white")])
        texts.append(text)
    return texts


def _describe(code: str, spearman: pd.Series) -> str:
    words = f"{code.capitalize()} codes\nSpearman {spearman['estimate']:.2f}"
    if np.isfinite(spearman["jackknife_lower"]):
        words += f" [{spearman['jackknife_lower']:.2f}, {spearman['jackknife_upper']:.2f}]"
    words += f", {spearman['n_labels']} labels"
    leaks = [spearman[f"leak_ratio_{role}"] for role in _keys.ROLES]
    return words + (f"\nleak ratios {leaks[0]:.3f} and {leaks[1]:.3f}" if np.isfinite(leaks).all() else "\n")
