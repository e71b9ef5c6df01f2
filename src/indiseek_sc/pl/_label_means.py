"""Two means of each label against each other, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from indiseek_sc.pl._style import PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_SMALLEST, _LARGEST = 18.0, 160.0
"""Area of a mark, in squared points of paper: of no cell, and of the label with most cells."""


class Marks(NamedTuple):
    """What names are to be placed beside, as :func:`indiseek_sc.pl._place_names.place_names` takes it."""

    points: NDArray[np.float64]  # (n_labels, 2), in data coordinates
    names: Sequence[str]
    radii: NDArray[np.float64]  # (n_labels,), points of paper
    bars: NDArray[np.float64]  # (n_bars, 2, 2), in data coordinates


def draw_means(ax: Axes, labels: pd.DataFrame, colors: Mapping[str, Any]) -> Marks:
    """Draw theta against WNN weight, a mark a label, as large as its number of cells and hollow where it is not ranked.

    Parameters
    ----------
    ax
        Where to draw.
    labels
        A row a label: ``label``, ``n_cells``, ``ranked``, and ``theta`` and ``weight`` each with ``_lower`` and ``_upper``.
    colors
        Of labels, by name.
    """
    points = labels[["weight", "theta"]].to_numpy(dtype=float)
    bars = []
    for axis, figure in enumerate(("weight", "theta")):
        ends = np.repeat(points[:, None], 2, axis=1)
        ends[:, :, axis] = labels[[f"{figure}_lower", f"{figure}_upper"]].to_numpy(dtype=float)
        bars.append(ends)
    areas = _areas(labels["n_cells"].to_numpy(), labels["n_cells"].max())
    of_labels = [colors.get(name, PALETTE[0]) for name in labels["label"]]
    ax.axhline(0, color="0.85", linewidth=1, zorder=0)
    for of_figure in bars:
        for ends, color in zip(of_figure, of_labels, strict=True):
            ax.plot(*ends.T, color=color, linewidth=1.4, solid_capstyle="butt", zorder=1)
    faces = [color if ranked else "white" for color, ranked in zip(of_labels, labels["ranked"], strict=True)]
    # The largest first, so that none hides a smaller one.
    order = np.argsort(-areas, kind="stable")
    ax.scatter(
        points[order, 0],
        points[order, 1],
        s=areas[order],
        c=[faces[i] for i in order],
        edgecolors=[of_labels[i] if faces[i] == "white" else "0.2" for i in order],  # pale colours have an edge
        linewidths=[1.6 if faces[i] == "white" else 0.6 for i in order],
        zorder=2,
    )
    ax.margins(0.1)
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # what is drawn from here on must not move the marks
    return Marks(points, list(labels["label"]), np.sqrt(areas) / 2, np.concatenate(bars))


def draw_size_legend(figure: Figure, labels: pd.DataFrame, params: Mapping[str, Any]) -> None:
    """Say below the panels what sizes, lines and hollow marks mean."""
    n_cells = labels["n_cells"]
    sizes = np.array(_round_sizes(n_cells))
    handles = [
        Line2D([], [], marker="o", linestyle="", color="0.5", markersize=np.sqrt(area), label=f"{n:,} cells")
        for n, area in zip(sizes, _areas(sizes, n_cells.max()), strict=True)
    ]
    interval = f"{params['confidence']:.0%} interval over cells" if "confidence" in params else "interval over cells"
    handles.append(Line2D([], [], color="0.5", linewidth=1.4, label=interval))
    if not labels["ranked"].all():
        few = f"fewer than {params['minimum_cells']} cells" if "minimum_cells" in params else "too few cells"
        hollow: dict[str, Any] = {
            "marker": "o",
            "linestyle": "",
            "color": "0.5",
            "markerfacecolor": "white",
            "markeredgewidth": 1.6,
        }
        handles.append(Line2D([], [], markersize=6, label=f"{few}, not ranked", **hollow))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.5)


def _areas(n_cells: NDArray, most: int) -> NDArray[np.float64]:
    return _SMALLEST + (_LARGEST - _SMALLEST) * n_cells / most


def _round_sizes(n_cells: pd.Series) -> list[int]:
    """A small, a middling and a large number of cells, of one figure."""
    ends = np.geomspace(max(n_cells.min(), 1), n_cells.max(), 3)
    unit = 10.0 ** np.floor(np.log10(ends))
    return sorted({int(n) for n in np.round(ends / unit) * unit})
