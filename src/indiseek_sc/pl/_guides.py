"""What explains a figure: legends and colour bars, and names that are placed so that none lies on another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from indiseek_sc.pl._style import MISSING, SMALLEST, as_text, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.text import Annotation
    from numpy.typing import ArrayLike, NDArray

    from indiseek_sc.pl._style import Coloring

_LINE, _HANDLE, _COLUMN_GAP = 1.5, 2.4, 0.6
"""From one entry of a legend to the next, what an entry takes besides its text, and between columns, as multiples of the type size."""

_BAR_WIDTH, _BAR_HEIGHT = 0.8, 0.42
"""Inches of a colour bar with its numbers and words: of one that stands, and of one that lies."""

_WIDEST_ENTRY = 40
"""Letters of an entry of a legend."""

_MISSING_LABEL = "missing"


@dataclass(frozen=True)
class Guide:
    """How the legend or colour bar of a colour is laid out.

    Attributes
    ----------
    colors
        What it explains.
    n_columns
        Of a legend.
    width, height
        Inches that it takes.
    lies
        Whether it is below the panels, and not beside them.
    """

    colors: Coloring
    n_columns: int
    width: float
    height: float
    lies: bool = False


def stand(colors: Coloring, height: float) -> Guide:
    """Lay out a guide beside panels of ``height`` inches: as few columns as that allows."""
    if colors.scale is not None:
        return Guide(colors, 1, _BAR_WIDTH, height)
    n_lines = max(1, int(height / _inches(_LINE)) - 1)  # one is the title's
    return _as_legend(colors, -(-len(_entries(colors)) // n_lines))


def lie(colors: Coloring, width: float) -> Guide:
    """Lay out a guide below panels of ``width`` inches: as many columns as fit."""
    if colors.scale is not None:
        return Guide(colors, 1, width, _BAR_HEIGHT, lies=True)
    n_entries = len(_entries(colors))
    fitting = [n for n in range(1, n_entries + 1) if _as_legend(colors, n).width <= width]
    return replace(_as_legend(colors, max(fitting, default=1)), lies=True)


def _as_legend(colors: Coloring, n_columns: int) -> Guide:
    entries = [label for label, _ in _entries(colors)]
    n_lines = -(-len(entries) // n_columns)
    columns = [entries[start : start + n_lines] for start in range(0, len(entries), n_lines)]
    beside = sum(max(map(_text_width, column)) + _inches(_HANDLE) for column in columns)
    width = max(beside, _text_width(as_text(colors.title, _WIDEST_ENTRY)) * 1.1) + 0.05
    return Guide(colors, len(columns), width, _inches(_LINE) * (n_lines + 1.5))


def _inches(n_letters: float) -> float:
    """Inches of a multiple of the type size of legends."""
    return n_letters * float(plt.rcParams["legend.fontsize"]) / 72


def draw_guide(ax: Axes, guide: Guide) -> None:
    """Fill ``ax`` with a legend or a colour bar."""
    ax.set_axis_off()
    colors = guide.colors
    if colors.scale is not None:
        _draw_bar(ax, colors, colors.scale, lies=guide.lies)
        return
    ax.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", markersize=4.5, color=color, label=label)
            for label, color in _entries(colors)
        ],
        loc="upper left" if guide.lies else "center left",
        title=as_text(colors.title, _WIDEST_ENTRY),
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
    """Names and colours of what a legend lists: the categories, then missing values if there are any."""
    entries = [(as_text(name, _WIDEST_ENTRY), color) for name, color in (colors.legend or {}).items()]
    return entries + ([(_missing_label(colors), MISSING)] if colors.missing.any() else [])


def _missing_label(colors: Coloring) -> str:
    return "(no value)" if _MISSING_LABEL in (colors.legend or {}) else _MISSING_LABEL


def _text_width(text: str) -> float:
    """Inches of ``text`` in a legend."""
    return _width_of(text, float(plt.rcParams["legend.fontsize"])) if text.strip() else 0.0


@lru_cache(maxsize=1024)
def _width_of(text: str, size: float) -> float:
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72


def _draw_bar(ax: Axes, colors: Coloring, scale: ScalarMappable, *, lies: bool) -> None:
    inset = ax.inset_axes((0.3, 0.5, 0.4, 0.2) if lies else (0.02, 0.22, 0.12, 0.52))
    bar = page(ax).colorbar(scale, cax=inset, extend="both", orientation="horizontal" if lies else "vertical")
    bar.outline.set_visible(False)
    low, high = colors.ends or ("", "")
    size = plt.rcParams["legend.fontsize"]
    title = as_text(colors.title, _WIDEST_ENTRY)
    missing = f"grey: {_MISSING_LABEL}" if colors.missing.any() else ""
    if lies:
        inset.set_title(title if not missing else f"{title} ({missing})", fontsize=size, pad=2)
        for words, x, side, shift in ((low, 0, "right", -8), (high, 1, "left", 8)):
            beside: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": side, "va": "center"}
            inset.annotate(words, (x, 0.5), (shift, 0), fontsize=size, annotation_clip=False, **beside)
        return
    inset.set_title("\n".join(filter(None, [title, high])), loc="left", fontsize=size, pad=5)
    inset.set_xlabel("\n".join(filter(None, [low, missing])), loc="left", fontsize=size, labelpad=5)


_N_NEAREST, _FEWEST, _TOGETHER = 30, 5, 0.5
"""Cells that are looked at around the middle of a category, cells that it must have, and share of them that must be its own."""


def label_on_data(ax: Axes, points: NDArray[np.floating], colors: Coloring, *, all_categories: bool = True) -> None:
    """Write each category at the middle of its cells, then move names apart until none lies on another.

    The figure must have been laid out: names are moved on the page.

    Parameters
    ----------
    ax
        The panel.
    points
        Of the cells, shape ``(n_cells, 2)``.
    colors
        With the categories.
    all_categories
        Name those too whose cells do not lie together: around whose middle less than half of the nearest cells are their own.
    """
    if colors.categories is None:
        return
    codes, is_drawn = colors.categories.codes, np.isfinite(points).all(axis=1)
    placed = []
    for code, label in enumerate(colors.categories.categories):
        members = points[(codes == code) & is_drawn]
        if not len(members):
            continue
        # The cell nearest to the middle: the middle itself may lie between two clusters.
        middle = members[np.linalg.norm(members - np.median(members, axis=0), axis=1).argmin()]
        if not all_categories and not _lie_together(points[is_drawn], codes[is_drawn] == code, middle):
            continue
        line = {"arrowstyle": "-", "color": "black", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
        text = ax.annotate(
            as_text(label, _WIDEST_ENTRY),
            middle,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops=line,
        )
        halo = [effects.withStroke(linewidth=1.8, foreground="white")]
        text.set(fontsize=SMALLEST, fontweight="bold", path_effects=halo)
        placed.append(text)
    move_apart(ax, placed)


def _lie_together(points: NDArray[np.floating], are_own: NDArray[np.bool_], middle: NDArray[np.floating]) -> bool:
    """Whether at least half of the cells that are nearest to the cell in the ``middle`` are own ones."""
    n_own = int(are_own.sum())
    if n_own < _FEWEST:
        return False
    n_nearest = min(_N_NEAREST, n_own)
    distance = np.linalg.norm(points - middle, axis=1)
    nearest = np.argpartition(distance, n_nearest - 1)[:n_nearest]  # the cell in the middle among them
    return bool((are_own[nearest].sum() - 1) / (n_nearest - 1) >= _TOGETHER)


def move_apart(ax: Axes, texts: list[Annotation], n_rounds: int = 200) -> None:
    """Push overlapping texts from each other, along the way that is shorter, and keep them within the panel."""
    boxes = [text.get_window_extent() for text in texts]
    gap = page(ax).dpi / 72
    size = np.array([(box.width + 2 * gap, box.height + gap) for box in boxes]).reshape(-1, 2)
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
_GAPS = np.array([1.5, 3, 5, 8, 12, 17, 23, 31, 41, 54, 70])
"""Points of paper between a mark and its name."""

_LEAD = 4
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
            fontsize=SMALLEST + 0.5,
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
        text.set_path_effects([effects.withStroke(linewidth=1.5, foreground="white")])
    move_apart(ax, texts)  # where there was no room for all
    for text, point, half, radius in zip(texts, points, halves, radii, strict=True):
        near = _nearest(np.zeros(2), np.array(text.get_position()), half)
        if np.linalg.norm(near) - radius > _LEAD:
            line = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.5, "shrinkA": 0, "shrinkB": radius}
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
    crowd = (np.linalg.norm(anchors[:, None] - anchors[None], axis=2) < 50).sum(axis=1)
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
