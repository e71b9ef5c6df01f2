"""Legends and colour bars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from indiseek_sc.pl._style import MISSING, as_text, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from indiseek_sc.pl._coloring import Coloring

_LINE, _HANDLE, _COLUMN_GAP = 1.5, 2.4, 0.6
"""Line height, width of a handle and gap between columns of a legend, as multiples of the font
size."""

_BAR_WIDTH, _BAR_HEIGHT = 0.8, 0.42
"""Width of a vertical and height of a horizontal colour bar with its labels, in inches."""

_MAX_ENTRY_LENGTH = 40
"""Largest length of a legend entry, in letters."""

_MISSING_LABEL = "missing"


@dataclass(frozen=True)
class Guide:
    """Layout of a legend or colour bar.

    Attributes
    ----------
    colors
        Colours that the guide explains.
    n_columns
        Number of columns of a legend.
    width, height
        Size in inches.
    is_horizontal
        Whether the guide is below the panels rather than beside them.
    """

    colors: Coloring
    n_columns: int
    width: float
    height: float
    is_horizontal: bool = False


def plan_vertical_guide(colors: Coloring, height: float) -> Guide:
    """Lay out a guide beside panels, with as few columns as the height allows.

    Parameters
    ----------
    colors
        Colours that the guide explains.
    height
        Height of the panels in inches.
    """
    if colors.scale is not None:
        return Guide(colors, 1, _BAR_WIDTH, height)
    n_lines = max(1, int(height / _inches(_LINE)) - 1)  # one line is the title
    return _as_legend(colors, -(-len(_entries(colors)) // n_lines))


def plan_horizontal_guide(colors: Coloring, width: float) -> Guide:
    """Lay out a guide below panels, with as many columns as fit.

    Parameters
    ----------
    colors
        Colours that the guide explains.
    width
        Width of the panels in inches.
    """
    if colors.scale is not None:
        return Guide(colors, 1, width, _BAR_HEIGHT, is_horizontal=True)
    n_entries = len(_entries(colors))
    fitting = [n for n in range(1, n_entries + 1) if _as_legend(colors, n).width <= width]
    return replace(_as_legend(colors, max(fitting, default=1)), is_horizontal=True)


def _as_legend(colors: Coloring, n_columns: int) -> Guide:
    entries = [label for label, _ in _entries(colors)]
    n_lines = -(-len(entries) // n_columns)
    columns = [entries[start : start + n_lines] for start in range(0, len(entries), n_lines)]
    beside = sum(max(map(_text_width, column)) + _inches(_HANDLE) for column in columns)
    width = max(beside, _text_width(as_text(colors.title, _MAX_ENTRY_LENGTH)) * 1.1) + 0.05
    return Guide(colors, len(columns), width, _inches(_LINE) * (n_lines + 1.5))


def _inches(n_letters: float) -> float:
    """Convert a multiple of the font size of legends to inches."""
    return n_letters * float(plt.rcParams["legend.fontsize"]) / 72


def draw_guide(ax: Axes, guide: Guide) -> None:
    """Draw a legend or a colour bar on ``ax``."""
    ax.set_axis_off()
    colors = guide.colors
    if colors.scale is not None:
        _draw_bar(ax, colors, colors.scale, is_horizontal=guide.is_horizontal)
        return
    ax.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", markersize=4.5, color=color, label=label)
            for label, color in _entries(colors)
        ],
        loc="upper left" if guide.is_horizontal else "center left",
        title=as_text(colors.title, _MAX_ENTRY_LENGTH),
        ncols=guide.n_columns,
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=_COLUMN_GAP,
        labelspacing=0.3,
    )


def _entries(colors: Coloring) -> list[tuple[str, Any]]:
    """Return names and colours of the legend entries: categories, then missing values if any."""
    entries = [(as_text(name, _MAX_ENTRY_LENGTH), color) for name, color in (colors.legend or {}).items()]
    return entries + ([(_missing_label(colors), MISSING)] if colors.missing.any() else [])


def _missing_label(colors: Coloring) -> str:
    return "(no value)" if _MISSING_LABEL in (colors.legend or {}) else _MISSING_LABEL


def _text_width(text: str) -> float:
    """Return the width of ``text`` in a legend, in inches."""
    return _width_of(text, float(plt.rcParams["legend.fontsize"])) if text.strip() else 0.0


@lru_cache(maxsize=1024)
def _width_of(text: str, size: float) -> float:
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72


def _draw_bar(ax: Axes, colors: Coloring, scale: ScalarMappable, *, is_horizontal: bool) -> None:
    inset = ax.inset_axes((0.3, 0.5, 0.4, 0.2) if is_horizontal else (0.02, 0.22, 0.12, 0.52))
    bar = page(ax).colorbar(scale, cax=inset, extend="both", orientation="horizontal" if is_horizontal else "vertical")
    bar.outline.set_visible(False)
    low, high = colors.ends or ("", "")
    size = plt.rcParams["legend.fontsize"]
    title = as_text(colors.title, _MAX_ENTRY_LENGTH)
    missing = f"grey: {_MISSING_LABEL}" if colors.missing.any() else ""
    if is_horizontal:
        inset.set_title(title if not missing else f"{title} ({missing})", fontsize=size, pad=2)
        for words, x, side, shift in ((low, 0, "right", -8), (high, 1, "left", 8)):
            beside: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": side, "va": "center"}
            inset.annotate(words, (x, 0.5), (shift, 0), fontsize=size, annotation_clip=False, **beside)
        return
    inset.set_title("\n".join(filter(None, [title, high])), loc="left", fontsize=size, pad=5)
    inset.set_xlabel("\n".join(filter(None, [low, missing])), loc="left", fontsize=size, labelpad=5)
