"""Theta of cell types against their weights among weighted nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from indiseek_sc import _keys
from indiseek_sc.pl._coloring import coloring
from indiseek_sc.pl._label_means import Marks, draw_means, draw_size_legend
from indiseek_sc.pl._place_names import place_names
from indiseek_sc.pl._style import PALETTE, STYLE, display_name, finish, modality_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData

Of = Literal["ranks", "means"]

_AXES = {"ranks": "rank by", "means": "mean"}

N_COLUMNS = 3

_AREA = 30.0
"""Of the mark of a rank, in squared points of paper."""


def rank_correlation(
    mdata: MuData,
    *,
    of: Of = "ranks",
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw mean theta of each label against its mean WNN weight of RNA, or the ranks of both, a panel for each code.

    Above each panel stand Spearman's rho with its jackknife interval and, for the specific code, the leak ratios if an audit was given: a high rho is no
    sign of good codes where the leak is high. Rank 1 is the most RNA; labels of too few cells have none. On the line both ranks are the same. Means are drawn
    of all labels, with their intervals over cells, as large as their number of cells, in the colours that scanpy noted for the labels if it did; labels
    of too few cells are hollow.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.rank_correlation`.
    of
        ``"ranks"`` is what the correlation is made of; ``"means"`` shows by how much labels differ.
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
        If the tables are not there, or the column of labels for their colours.
    ValueError
        If ``of`` is neither.
    """
    if of not in get_args(Of):
        raise ValueError(f"of={of!r} must be one of {list(get_args(Of))}.")
    key = _keys.RANK_CORRELATION
    if key not in mdata.uns or f"{key}_labels" not in mdata.uns:
        raise KeyError(
            f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.rank_correlation(mdata, label_key=...) first."
        )
    table, by_label = mdata.uns[key], mdata.uns[f"{key}_labels"]
    params = mdata.uns.get(f"{key}_params", {})
    names = modality_names(mdata) | params.get("modalities", {})
    rna, adt = (display_name(names[role]) for role in _keys.ROLES)
    codes = list(dict.fromkeys(table["code"]))
    colors = _find_colors(mdata, params) if of == "means" else {}
    with plt.rc_context(STYLE):
        n_columns = min(len(codes), N_COLUMNS)
        n_rows = -(-len(codes) // n_columns)
        size = 5.4 * n_columns, 5.4 * n_rows + (0.8 if of == "means" else 0)
        figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
        axes, marks = grid.ravel()[: len(codes)], []
        for ax in grid.ravel()[len(codes) :]:
            ax.remove()
        for ax, code in zip(axes, codes, strict=True):
            labels = by_label[by_label["code"] == code]
            marks.append(draw_means(ax, labels, colors) if of == "means" else _draw_ranks(ax, labels))
            spearman = table[(table["code"] == code) & (table["statistic"] == "spearman")].iloc[0]
            ax.set_title(_describe(code, spearman), loc="left")
            ax.set_xlabel(f"{_AXES[of]} WNN weight of {rna}")
        for ax in axes[::n_columns]:
            ax.set_ylabel(f"{_AXES[of]} θ, {rna} over {adt}")
        if of == "means":
            draw_size_legend(figure, by_label, params)
        figure.draw_without_rendering()  # names are placed on the page, so it must be laid out
        for ax, of_panel in zip(axes, marks, strict=True):
            place_names(ax, *of_panel)
        return finish(figure, axes, show=show, save=save)


def _find_colors(mdata: MuData, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return coloring(mdata, params.get("label_key"), None).legend or {}


def _draw_ranks(ax: Axes, labels: pd.DataFrame) -> Marks:
    """Draw labels by both of their ranks, where none hides another."""
    ranked = labels[labels["ranked"].astype(bool)]
    points = ranked[["weight", "theta"]].rank(ascending=False).to_numpy()
    ends = 0.5, len(points) + 0.5
    ax.plot(ends, ends, color="0.85", linewidth=1, zorder=0)
    ax.scatter(points[:, 0], points[:, 1], color=PALETTE[0], s=_AREA, zorder=2)
    ax.set(xlim=(len(points) + 0.5, 0.5), ylim=(len(points) + 0.8, 0.2))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    radii = np.full(len(points), np.sqrt(_AREA) / 2)
    return Marks(points, list(ranked["label"]), radii, np.empty((0, 2, 2)))


def _describe(code: str, spearman: pd.Series) -> str:
    name = "Shared and specific" if code == "both" else code.capitalize()
    words = f"{name} codes\nSpearman {spearman['estimate']:.2f}"
    if np.isfinite(spearman["jackknife_lower"]):
        words += f" [{spearman['jackknife_lower']:.2f}, {spearman['jackknife_upper']:.2f}]"
    words += f", {spearman['n_labels']} labels"
    leaks = [spearman[f"leak_ratio_{role}"] for role in _keys.ROLES]
    return words + (f"\nleak ratios {leaks[0]:.3f} and {leaks[1]:.3f}" if np.isfinite(leaks).all() else "\n")
