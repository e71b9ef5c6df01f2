"""What explains a figure: legends and colour bars, and names that are placed so that none lies on another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from indiseek_sc.pl._style import MISSING, as_text, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.text import Annotation
    from numpy.typing import ArrayLike, NDArray

    from indiseek_sc.pl._style import Coloring

_LINE = 0.235
"""Inches from one entry of a legend to the next."""

_HANDLE = 0.4
"""Inches that an entry of a legend takes besides its text."""

_BAR = 1.5
"""Inches of a colour bar with its numbers and words."""

_WIDEST_ENTRY = 40
"""Letters of an entry of a legend."""

_MISSING_LABEL = "missing"


def guide_width(colors: Coloring, height: float) -> float:
    """Inches that the legend or colour bar needs beside panels of ``height`` inches."""
    if colors.scale is not None:
        return _BAR
    entries = [label for label, _ in _entries(colors)]
    n_lines = -(-len(entries) // _n_columns(len(entries), height))
    columns = [entries[start : start + n_lines] for start in range(0, len(entries), n_lines)]
    beside = sum(max(map(_text_width, column)) + _HANDLE for column in columns)
    return max(beside, _text_width(as_text(colors.title, _WIDEST_ENTRY)) * 1.1) + 0.1


def draw_guide(ax: Axes, colors: Coloring, height: float) -> None:
    """Fill ``ax``, which is beside panels of ``height`` inches, with the legend or the colour bar of ``colors``."""
    ax.set_axis_off()
    if colors.scale is not None:
        _draw_bar(ax, colors, colors.scale)
        return
    entries = _entries(colors)
    ax.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", markersize=8, color=color, label=label) for label, color in entries
        ],
        loc="center left",
        title=as_text(colors.title, _WIDEST_ENTRY),
        ncols=_n_columns(len(entries), height),
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=1,
        labelspacing=0.35,
    )


def _entries(colors: Coloring) -> list[tuple[str, Any]]:
    """Names and colours of what a legend lists: the categories, then missing values if there are any."""
    entries = [(as_text(name, _WIDEST_ENTRY), color) for name, color in (colors.legend or {}).items()]
    return entries + ([(_missing_label(colors), MISSING)] if colors.missing.any() else [])


def _missing_label(colors: Coloring) -> str:
    return "(no value)" if _MISSING_LABEL in (colors.legend or {}) else _MISSING_LABEL


def _n_columns(n_entries: int, height: float) -> int:
    return -(-n_entries // max(1, int(height / _LINE) - 1))


def _text_width(text: str) -> float:
    """Inches of ``text`` in a legend."""
    if not text.strip():
        return 0.0
    return TextPath((0, 0), text, size=plt.rcParams["legend.fontsize"]).get_extents().width / 72


def _draw_bar(ax: Axes, colors: Coloring, scale: ScalarMappable) -> None:
    inset = ax.inset_axes((0.02, 0.22, 0.12, 0.52))
    bar = page(ax).colorbar(scale, cax=inset, extend="both")
    bar.outline.set_visible(False)
    low, high = colors.ends or ("", "")
    size = plt.rcParams["legend.fontsize"]
    inset.set_title(
        "\n".join(filter(None, [as_text(colors.title, _WIDEST_ENTRY), high])), loc="left", fontsize=size, pad=8
    )
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
        text = ax.annotate(
            as_text(label, _WIDEST_ENTRY),
            middle,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops=line,
        )
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


_N_ANGLES = 24
_GAPS = np.array([2, 5, 9, 14, 20, 28, 38, 50, 65, 85, 110])
"""Points of paper between a mark and its name."""

_LEAD = 5
"""Points of paper from which a line leads from a mark to its name."""

_N_SWEEPS = 8
_ON_A_NAME, _ON_A_MARK, _ON_A_BAR = 1000.0, 60.0, 12.0
"""How many points of paper further away a name would rather be than lie on another name, a mark or a bar."""

_THROUGH_A_NAME, _THROUGH_A_MARK = 60.0, 15.0
"""The same, than have its line go through another name or line, or through a mark."""


def place_names(
    ax: Axes, points: ArrayLike, names: Sequence[str], radii: ArrayLike, bars: ArrayLike = ()
) -> list[Annotation]:
    """Write the name of each point near it, clear of other names and as far as may be of marks and bars; lines lead to names further away.

    Each name takes the best of some places around its point, the most crowded first, then again in the sight of all others until none moves. The
    same points always give the same places.

    Parameters
    ----------
    ax
        The panel. Its limits must be final and the figure laid out, for names are placed on the page.
    points
        In data coordinates, shape ``(n_points, 2)``.
    names
        One a point.
    radii
        Of the marks, in points of paper, shape ``(n_points,)``.
    bars
        Level and upright lines to keep clear of, from one end to the other in data coordinates, shape ``(n_bars, 2, 2)``.

    Returns
    -------
    The names, in order.
    """
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    texts = [
        ax.annotate(
            as_text(name, _WIDEST_ENTRY),
            tuple(point),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            zorder=5,
        )
        for name, point in zip(names, points, strict=True)
    ]
    scale = 72 / page(ax).dpi  # all that follows is in points of paper
    anchors = ax.transData.transform(points) * scale
    radii = np.asarray(radii, dtype=float)
    sizes = [text.get_window_extent() for text in texts]
    halves = np.array([(size.width + 2, size.height) for size in sizes]).reshape(-1, 2) * scale / 2
    ends = ax.transData.transform(np.asarray(bars, dtype=float).reshape(-1, 2)).reshape(-1, 2, 2) * scale
    obstacles = np.stack([ends.min(axis=1), ends.max(axis=1)])
    centers = _find_places(anchors, radii, halves, obstacles, np.reshape(ax.bbox.extents, (2, 2)) * scale)
    for text, shift in zip(texts, centers - anchors, strict=True):
        text.set_position(tuple(shift))
        text.set_path_effects([effects.withStroke(linewidth=2, foreground="white")])
    move_apart(ax, texts)  # where there was no room for all
    for text, point, half, radius in zip(texts, points, halves, radii, strict=True):
        near = _nearest(np.zeros(2), np.array(text.get_position()), half)
        if np.linalg.norm(near) - radius > _LEAD:
            line = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.8, "shrinkA": 0, "shrinkB": radius}
            ax.annotate("", tuple(point), tuple(near), textcoords="offset points", arrowprops=line, zorder=4)
    return texts


def _find_places(
    anchors: NDArray[np.float64],
    radii: NDArray[np.float64],
    halves: NDArray[np.float64],
    bars: NDArray[np.float64],
    panel: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Middles of the names, shape ``(n_points, 2)``.

    ``halves`` are half their widths and heights; ``bars`` are the lower left and the upper right ends, shape ``(2, n_bars, 2)``, and ``panel`` its corners.
    """
    angles = np.arange(_N_ANGLES) * 2 * np.pi / _N_ANGLES
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    reach = halves[:, None] + radii[:, None, None] + _GAPS[:, None]  # (n_points, n_gaps, 2)
    n = len(anchors)
    places = (anchors[:, None, None] + around * reach[:, :, None]).reshape(n, len(_GAPS) * _N_ANGLES, 2)
    fixed = np.empty(places.shape[:2])
    for i in range(n):
        low, high = places[i] - halves[i], places[i] + halves[i]
        near = _nearest(anchors[i], places[i], halves[i])
        others = np.arange(n) != i
        on_marks = _overlap(low, high, anchors - radii[:, None], anchors + radii[:, None]).sum(axis=1)
        through_marks = _passes(
            anchors[i], near, anchors[others] - radii[others, None], anchors[others] + radii[others, None]
        )
        outside = ((low < panel[0]) | (high > panel[1])).any(axis=1)
        fixed[i] = np.linalg.norm(near - anchors[i], axis=1) + 1e6 * outside
        fixed[i] += (
            _ON_A_MARK * on_marks + _THROUGH_A_MARK * through_marks + _ON_A_BAR * _overlap(low, high, *bars).sum(axis=1)
        )
    crowd = (np.linalg.norm(anchors[:, None] - anchors[None], axis=2) < 80).sum(axis=1)
    order = np.argsort(-crowd, kind="stable")
    chosen = np.full((n, 2), np.nan)
    for _ in range(_N_SWEEPS):
        before = chosen.copy()
        for i in order:
            cost = fixed[i] + _disturbance(i, places[i], chosen, anchors, halves)
            chosen[i] = places[i][cost.argmin()]
        if np.array_equal(before, chosen):
            break
    return chosen


def _disturbance(
    i: int,
    places: NDArray[np.float64],
    chosen: NDArray[np.float64],
    anchors: NDArray[np.float64],
    halves: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What each of the places of name ``i`` costs for the names that have one already, shape ``(n_places,)``."""
    others = np.flatnonzero(np.isfinite(chosen[:, 0]) & (np.arange(len(chosen)) != i))
    low, high = places - halves[i], places + halves[i]
    their_low, their_high = chosen[others] - halves[others], chosen[others] + halves[others]
    near = _nearest(anchors[i], places, halves[i])
    cost = _ON_A_NAME * _overlap(low, high, their_low, their_high).sum(axis=1)
    cost += _THROUGH_A_NAME * _passes(anchors[i], near, their_low, their_high)
    for j in others:
        their_near = _nearest(anchors[j], chosen[j], halves[j])
        cost += _THROUGH_A_NAME * (
            _overlap_line(anchors[j], their_near, low, high) | _cross(anchors[i], near, anchors[j], their_near)
        )
    return cost


def _nearest(
    point: NDArray[np.float64], centers: NDArray[np.float64], half: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The point of each box that is nearest to ``point``."""
    return np.clip(point, centers - half, centers + half)


def _overlap(low: NDArray, high: NDArray, other_low: NDArray, other_high: NDArray) -> NDArray[np.bool_]:
    """Whether boxes have a point in common, shape ``(n_boxes, n_others)``."""
    return np.all((low[:, None] < other_high) & (high[:, None] > other_low), axis=-1)


def _along(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some points of lines from one ``start`` to each ``end``, shape ``(n_lines, n_steps, 2)``."""
    steps = np.linspace(0.05, 0.95, 15)[:, None]
    return start + steps * (np.atleast_2d(end)[:, None] - start)


def _passes(start: NDArray, ends: NDArray, low: NDArray, high: NDArray) -> NDArray[np.intp]:
    """Through how many boxes each line goes, shape ``(n_lines,)``."""
    on_the_way = _along(start, ends)[:, :, None]
    return np.any(np.all((on_the_way > low) & (on_the_way < high), axis=-1), axis=1).sum(axis=1)


def _overlap_line(start: NDArray, end: NDArray, low: NDArray, high: NDArray) -> NDArray[np.bool_]:
    """Whether one line goes through each box, shape ``(n_boxes,)``."""
    on_the_way = _along(start, end)[0]
    return np.any(np.all((on_the_way > low[:, None]) & (on_the_way < high[:, None]), axis=-1), axis=1)


def _cross(start: NDArray, ends: NDArray, other_start: NDArray, other_end: NDArray) -> NDArray[np.bool_]:
    """Whether each line crosses the other one, shape ``(n_lines,)``."""

    def side(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
        return np.sign((b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0])

    apart = side(start, ends, other_start) * side(start, ends, other_end) < 0
    return apart & (side(other_start, other_end, start) * side(other_start, other_end, ends) < 0)
