"""What explains the colours of an embedding: a legend, a colour bar, or names on the points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from indiseek_sc.pl._style import MISSING, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.text import Annotation
    from numpy.typing import NDArray

    from indiseek_sc.pl._coloring import Coloring

_LINE = 0.235
"""Inches from one entry of a legend to the next."""

_HANDLE = 0.4
"""Inches that an entry of a legend takes besides its text."""

_BAR = 1.5
"""Inches of a colour bar with its numbers and words."""

_MISSING_LABEL = "missing"


def guide_width(colors: Coloring, height: float) -> float:
    """Inches that the legend or colour bar needs beside panels of ``height`` inches."""
    if colors.scale is not None:
        return _BAR
    entries = list(_entries(colors))
    n_lines = -(-len(entries) // _n_columns(len(entries), height))
    columns = [entries[start : start + n_lines] for start in range(0, len(entries), n_lines)]
    beside = sum(max(map(_text_width, column)) + _HANDLE for column in columns)
    return max(beside, _text_width(colors.title) * 1.1) + 0.1


def draw_guide(ax: Axes, colors: Coloring, height: float) -> None:
    """Fill ``ax``, which is beside panels of ``height`` inches, with the legend or the colour bar of ``colors``."""
    ax.set_axis_off()
    if colors.scale is not None:
        _draw_bar(ax, colors, colors.scale)
        return
    entries = _entries(colors)
    ax.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", markersize=8, color=color, label=label)
            for label, color in entries.items()
        ],
        loc="center left",
        title=colors.title,
        ncols=_n_columns(len(entries), height),
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=1,
        labelspacing=0.35,
    )


def _entries(colors: Coloring) -> dict[str, Any]:
    """Colour by name of what a legend lists: the categories, then missing values if there are any."""
    return dict(colors.legend or {}) | ({_MISSING_LABEL: MISSING} if colors.missing.any() else {})


def _n_columns(n_entries: int, height: float) -> int:
    return -(-n_entries // max(1, int(height / _LINE) - 1))


def _text_width(text: str) -> float:
    """Inches of ``text`` in a legend."""
    return TextPath((0, 0), text or " ", size=plt.rcParams["legend.fontsize"]).get_extents().width / 72


def _draw_bar(ax: Axes, colors: Coloring, scale: ScalarMappable) -> None:
    inset = ax.inset_axes((0.02, 0.22, 0.12, 0.52))
    bar = page(ax).colorbar(scale, cax=inset, extend="both")
    bar.outline.set_visible(False)
    low, high = colors.ends or ("", "")
    size = plt.rcParams["legend.fontsize"]
    inset.set_title("\n".join(filter(None, [colors.title, high])), loc="left", fontsize=size, pad=8)
    missing = f"grey: {_MISSING_LABEL}" if colors.missing.any() else ""
    inset.set_xlabel("\n".join(filter(None, [low, missing])), loc="left", fontsize=size, labelpad=8)


def label_on_data(ax: Axes, points: NDArray[np.floating], colors: Coloring) -> None:
    """Write each category at the middle of its cells, then move names apart until none lies on another.

    The figure must have been laid out: names are moved on the page.
    """
    if colors.categories is None:
        return
    placed = []
    for code, label in enumerate(colors.categories.categories):
        members = points[(colors.categories.codes == code) & np.isfinite(points).all(axis=1)]
        if not len(members):
            continue
        # The cell nearest to the middle: the middle itself may lie between two clusters.
        middle = members[np.linalg.norm(members - np.median(members, axis=0), axis=1).argmin()]
        line = {"arrowstyle": "-", "color": "black", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
        text = ax.annotate(label, middle, (0, 0), textcoords="offset points", ha="center", va="center", arrowprops=line)
        text.set(fontsize=9, fontweight="bold", path_effects=[effects.withStroke(linewidth=2.5, foreground="white")])
        placed.append(text)
    move_apart(ax, placed)


def move_apart(ax: Axes, texts: list[Annotation], n_rounds: int = 200) -> None:
    """Push overlapping texts from each other, along the way that is shorter, and keep them within the panel."""
    boxes = [text.get_window_extent() for text in texts]
    size = np.array([(box.width + 4, box.height + 2) for box in boxes]).reshape(-1, 2)
    start = np.array([(box.x0 + box.width / 2, box.y0 + box.height / 2) for box in boxes]).reshape(-1, 2)
    low, high = ax.bbox.min + size / 2, ax.bbox.max - size / 2
    center = start.copy()
    for _ in range(n_rounds):
        apart = center[:, None] - center[None]
        overlap = (size[:, None] + size[None]) / 2 - np.abs(apart)
        first, second = np.nonzero(np.triu((overlap > 0).all(axis=-1), k=1))
        for i, j in zip(first, second, strict=True):
            axis = int(np.argmin(overlap[i, j]))
            step = overlap[i, j, axis] / 2 * (1 if apart[i, j, axis] >= 0 else -1)
            center[i, axis] += step
            center[j, axis] -= step
        center = np.clip(center, low, np.maximum(low, high))
        if not len(first):
            break
    for text, shift in zip(texts, (center - start) * 72 / page(ax).dpi, strict=True):
        text.set_position(tuple(np.add(text.get_position(), shift)))
