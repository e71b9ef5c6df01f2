"""Figure of theta of labels against their weights of weighted nearest neighbours (WNN)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._coloring import coloring
from indiseek_sc.pl._labels import place_names
from indiseek_sc.pl._style import (
    COLUMN,
    NEUTRAL,
    PAGE,
    STYLE,
    display_name,
    finish,
    inches,
    modality_names,
    warn_if_stale,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData
    from numpy.typing import NDArray

Of = Literal["ranks", "means"]

_AXES = {"ranks": "rank by", "means": "mean"}

N_COLUMNS = 3

_AREA = 10.0
"""Area of a mark of a rank, in square points."""


def rank_correlation(
    mdata: MuData,
    *,
    of: Of = "ranks",
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw theta of each label against its WNN weight of RNA, with a panel for each representation.

    Spearman's rho with its jackknife interval is given above each panel and, for the specific
    representation, the leak ratios if an audit was given: a high rho is no evidence of good
    representations if the leak is high. Rank 1 favours RNA most; labels with too few cells have no
    rank. On the diagonal both ranks are equal. Means are drawn for all labels, with intervals over
    cells. The area of a mark increases with the number of cells, its colour is the one that scanpy
    stored for the label, if any, and labels with too few cells are hollow.

    Parameters
    ----------
    mdata
        Data with the result of :func:`indiseek_sc.tl.rank_correlation`.
    of
        ``"ranks"`` draws the ranks on which the correlation is based; ``"means"`` draws means,
        which show how much labels differ.
    show
        Whether to show the figure. ``None`` shows it in interactive mode.
    save
        File to write the figure to.

    Returns
    -------
    Axes, shape ``(n_latents,)``; None if the figure was shown.

    Raises
    ------
    KeyError
        If the tables are missing, or the column of labels that provides their colours.
    ValueError
        If ``of`` is unknown.

    Examples
    --------
    >>> mdata.obs["rna:wnn_weight"] = np.linspace(0, 1, mdata.n_obs)  # see tl.wnn_weights
    >>> _ = isk.tl.modality_importance(mdata, "cell_type")
    >>> _ = isk.tl.rank_correlation(mdata, "cell_type", latents=("specific",), n_bootstrap=10)
    >>> axes = isk.pl.rank_correlation(mdata, show=False)
    >>> len(axes)
    1
    """
    check_mdata(mdata)
    check_name("of", of, get_args(Of))
    key = _keys.RANK_CORRELATION
    if key not in mdata.uns or f"{key}_labels" not in mdata.uns:
        raise KeyError(
            f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.rank_correlation(mdata, label_key=...) first."
        )
    warn_if_stale(mdata, key, "rank_correlation(mdata, label_key=...)")
    table, by_label = mdata.uns[key], mdata.uns[f"{key}_labels"]
    params = mdata.uns.get(f"{key}_params", {})
    names = modality_names(mdata) | params.get("modalities", {})
    rna, adt = (display_name(names[role]) for role in _keys.ROLES)
    latents = list(dict.fromkeys(table["latent"]))
    colors = _find_colors(mdata, params) if of == "means" else {}
    with plt.rc_context(STYLE):
        n_columns = min(len(latents), N_COLUMNS)
        n_rows = -(-len(latents) // n_columns)
        width = COLUMN if n_columns == 1 else PAGE
        size = inches(width, (width / n_columns + 8) * n_rows + (6 if of == "means" else 0))
        figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
        axes, marks = grid.ravel()[: len(latents)], []
        for ax in grid.ravel()[len(latents) :]:
            ax.remove()
        for ax, latent in zip(axes, latents, strict=True):
            labels = by_label[by_label["latent"] == latent]
            marks.append(draw_means(ax, labels, colors) if of == "means" else _draw_ranks(ax, labels))
            spearman = table[(table["latent"] == latent) & (table["statistic"] == "spearman")].iloc[0]
            ax.set_title(_describe(latent, spearman), loc="left")
            ax.set_xlabel(f"{_AXES[of]} WNN weight of {rna}")
        for ax in axes[::n_columns]:
            ax.set_ylabel(f"{_AXES[of]} θ, {rna} over {adt}")
        if of == "means":
            draw_size_legend(figure, by_label, params)
        figure.draw_without_rendering()  # names are placed in points, which needs the final layout
        for ax, of_panel in zip(axes, marks, strict=True):
            place_names(ax, *of_panel)
        return finish(figure, axes, show=show, save=save)


def _find_colors(mdata: MuData, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return coloring(mdata, params.get("label_key"), None).legend or {}


def _draw_ranks(ax: Axes, labels: pd.DataFrame) -> Marks:
    """Draw both ranks of each label and return the marks."""
    ranked = labels[labels["ranked"].astype(bool)]
    points = ranked[["weight", "theta"]].rank(ascending=False).to_numpy()
    ends = 0.5, len(points) + 0.5
    ax.plot(ends, ends, color="0.85", linewidth=0.6, zorder=0)
    ax.scatter(points[:, 0], points[:, 1], color=NEUTRAL, s=_AREA, zorder=2)
    ax.set(xlim=(len(points) + 0.5, 0.5), ylim=(len(points) + 0.8, 0.2))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    radii = np.full(len(points), np.sqrt(_AREA) / 2)
    return Marks(points, list(ranked["label"]), radii, np.empty((0, 2, 2)))


def _describe(latent: str, spearman: pd.Series) -> str:
    name = "Shared and specific" if latent == "both" else latent.capitalize()
    words = f"{name} representations\nSpearman {spearman['estimate']:.2f}"
    if np.isfinite(spearman["jackknife_lower"]):
        words += f" [{spearman['jackknife_lower']:.2f}, {spearman['jackknife_upper']:.2f}]"
    words += f", {spearman['n_labels']} labels"
    leaks = [spearman[f"leak_ratio_{role}"] for role in _keys.ROLES]
    return words + (f"\nleak ratios {leaks[0]:.3f} and {leaks[1]:.3f}" if np.isfinite(leaks).all() else "\n")


_SMALLEST, _LARGEST = 5.0, 50.0
"""Areas of the marks of zero cells and of the largest label, in square points."""


class Marks(NamedTuple):
    """Marks next to which names are placed, see :func:`indiseek_sc.pl._labels.place_names`."""

    points: NDArray[np.float64]  # (n_labels, 2), in data coordinates
    names: Sequence[str]
    radii: NDArray[np.float64]  # (n_labels,), in points
    bars: NDArray[np.float64]  # (n_bars, 2, 2), in data coordinates


def draw_means(ax: Axes, labels: pd.DataFrame, colors: Mapping[str, Any]) -> Marks:
    """Draw mean theta against mean WNN weight, with a mark for each label.

    The area of a mark increases with the number of cells; labels that are not ranked are hollow.

    Parameters
    ----------
    ax
        Axes to draw on.
    labels
        One row per label with the columns ``label``, ``n_cells``, ``ranked``, ``theta`` and
        ``weight``, the latter two also with the suffixes ``_lower`` and ``_upper``.
    colors
        Colours of labels, by name.
    """
    points = labels[["weight", "theta"]].to_numpy(dtype=float)
    bars = []
    for axis, figure in enumerate(("weight", "theta")):
        ends = np.repeat(points[:, None], 2, axis=1)
        ends[:, :, axis] = labels[[f"{figure}_lower", f"{figure}_upper"]].to_numpy(dtype=float)
        bars.append(ends)
    areas = _areas(labels["n_cells"].to_numpy(), labels["n_cells"].max())
    of_labels = [colors.get(name, NEUTRAL) for name in labels["label"]]
    ax.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    for of_figure in bars:
        for ends, color in zip(of_figure, of_labels, strict=True):
            ax.plot(*ends.T, color=color, linewidth=0.8, solid_capstyle="butt", zorder=1)
    faces = [color if ranked else "white" for color, ranked in zip(of_labels, labels["ranked"], strict=True)]
    # Large marks are drawn first, so that they do not hide smaller ones.
    order = np.argsort(-areas, kind="stable")
    ax.scatter(
        points[order, 0],
        points[order, 1],
        s=areas[order],
        c=[faces[i] for i in order],
        edgecolors=[
            of_labels[i] if faces[i] == "white" else "0.2" for i in order
        ],  # an edge keeps pale colours visible
        linewidths=[0.9 if faces[i] == "white" else 0.4 for i in order],
        zorder=2,
    )
    ax.margins(0.1)
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # later elements must not change the limits
    return Marks(points, list(labels["label"]), np.sqrt(areas) / 2, np.concatenate(bars))


def draw_size_legend(figure: Figure, labels: pd.DataFrame, params: Mapping[str, Any]) -> None:
    """Draw a legend of sizes, lines and hollow marks below the panels.

    Parameters
    ----------
    figure
        The figure.
    labels
        Table of labels, see :func:`draw_means`.
    params
        Settings of ``tl.rank_correlation``.
    """
    n_cells = labels["n_cells"]
    sizes = np.array(_round_sizes(n_cells))
    handles = [
        Line2D([], [], marker="o", linestyle="", color="0.5", markersize=np.sqrt(area), label=f"{n:,} cells")
        for n, area in zip(sizes, _areas(sizes, n_cells.max()), strict=True)
    ]
    interval = f"{params['confidence']:.0%} interval over cells" if "confidence" in params else "interval over cells"
    handles.append(Line2D([], [], color="0.5", linewidth=0.8, label=interval))
    if not labels["ranked"].all():
        few = f"fewer than {params['minimum_cells']} cells" if "minimum_cells" in params else "too few cells"
        hollow: dict[str, Any] = {
            "marker": "o",
            "linestyle": "",
            "color": "0.5",
            "markerfacecolor": "white",
            "markeredgewidth": 0.9,
        }
        handles.append(Line2D([], [], markersize=3.5, label=f"{few}, not ranked", **hollow))
    width = figure.get_figwidth()
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles) if width >= PAGE / 25.4 else 2,
        columnspacing=1.2,
    )


def _areas(n_cells: NDArray, most: int) -> NDArray[np.float64]:
    return _SMALLEST + (_LARGEST - _SMALLEST) * n_cells / most


def _round_sizes(n_cells: pd.Series) -> list[int]:
    """Return a small, a medium and a large number of cells, rounded to one digit."""
    ends = np.geomspace(max(n_cells.min(), 1), n_cells.max(), 3)
    unit = 10.0 ** np.floor(np.log10(ends))
    return sorted({int(n) for n in np.round(ends / unit) * unit})
