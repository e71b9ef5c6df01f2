"""Labels in figures that do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.patheffects as effects
import numpy as np

from indiseek_sc.pl._style import MIN_FONT_SIZE, as_text, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from numpy.typing import ArrayLike, NDArray

    from indiseek_sc.pl._coloring import Coloring

_MAX_NAME_LENGTH = 40
"""Largest length of a name, in letters."""

_N_NEAREST, _MIN_CELLS, _MIN_OWN_SHARE = 30, 5, 0.5
"""Number of cells around the centre of a category that are examined, smallest number of cells of
the category, and smallest share of the examined cells that must belong to it."""


def label_on_data(ax: Axes, points: NDArray[np.floating], colors: Coloring, *, all_categories: bool = True) -> None:
    """Write the name of each category at the centre of its cells, without overlaps.

    The figure must have been laid out, because names are moved in pixels.

    Parameters
    ----------
    ax
        The panel.
    points
        Positions of the cells, shape ``(n_cells, 2)``.
    colors
        Colours with the categories.
    all_categories
        Whether to name also scattered categories, to which less than half of the cells around their
        centre belong.
    """
    if colors.categories is None:
        return
    codes, is_drawn = colors.categories.codes, np.isfinite(points).all(axis=1)
    placed = []
    for code, label in enumerate(colors.categories.categories):
        members = points[(codes == code) & is_drawn]
        if not len(members):
            continue
        # The cell nearest to the median, because the median itself may lie between two clusters.
        middle = members[np.linalg.norm(members - np.median(members, axis=0), axis=1).argmin()]
        if not all_categories and not _is_compact(points[is_drawn], codes[is_drawn] == code, middle):
            continue
        line = {"arrowstyle": "-", "color": "black", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
        text = ax.annotate(
            as_text(label, _MAX_NAME_LENGTH),
            middle,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops=line,
        )
        halo = [effects.withStroke(linewidth=1.8, foreground="white")]
        text.set(fontsize=MIN_FONT_SIZE, fontweight="bold", path_effects=halo)
        placed.append(text)
    move_apart(ax, placed)


def _is_compact(points: NDArray[np.floating], are_own: NDArray[np.bool_], middle: NDArray[np.floating]) -> bool:
    """Return whether at least half of the cells nearest to ``middle`` belong to the category."""
    n_own = int(are_own.sum())
    if n_own < _MIN_CELLS:
        return False
    n_nearest = min(_N_NEAREST, n_own)
    distance = np.linalg.norm(points - middle, axis=1)
    # The nearest cells include the cell in the middle itself.
    nearest = np.argpartition(distance, n_nearest - 1)[:n_nearest]
    return bool((are_own[nearest].sum() - 1) / (n_nearest - 1) >= _MIN_OWN_SHARE)


def move_apart(ax: Axes, texts: list[Annotation], n_rounds: int = 200) -> None:
    """Move overlapping texts apart along the shorter direction, and keep them within the panel.

    Parameters
    ----------
    ax
        The panel.
    texts
        Texts to move.
    n_rounds
        Largest number of iterations.
    """
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
"""Candidate distances between a mark and its name, in points."""

_LEAD = 4
"""Distance between mark and name beyond which a line connects them, in points."""

_N_SWEEPS = 8
_ON_A_NAME, _ON_A_MARK, _ON_A_BAR = 1000.0, 60.0, 12.0
"""Costs of overlapping another name, a mark or a bar, in points of distance."""

_THROUGH_A_NAME, _THROUGH_A_MARK = 60.0, 15.0
"""Costs of a connecting line that crosses another name or line, or a mark, in points of
distance."""


def place_names(
    ax: Axes, points: ArrayLike, names: Sequence[str], radii: ArrayLike, bars: ArrayLike = ()
) -> list[Annotation]:
    """Write the name of each point near it, without overlapping other names.

    Overlaps with marks and bars are avoided where possible, and lines connect distant names with
    their points. Each name takes the candidate position of lowest cost, in descending order of the
    number of neighbouring points; this is repeated until no name moves. The result is
    deterministic.

    Parameters
    ----------
    ax
        The panel. Its limits must be final and the figure laid out, because names are placed in
        points of the page.
    points
        Points in data coordinates, shape ``(n_points, 2)``.
    names
        One name per point.
    radii
        Radii of the marks in points, shape ``(n_points,)``.
    bars
        End points of horizontal and vertical lines to avoid, in data coordinates, shape
        ``(n_bars, 2, 2)``.

    Returns
    -------
    Texts of the names, in order.
    """
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    texts = [
        ax.annotate(
            as_text(name, _MAX_NAME_LENGTH),
            tuple(point),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=MIN_FONT_SIZE + 0.5,
            zorder=5,
        )
        for name, point in zip(names, points, strict=True)
    ]
    scale = 72 / page(ax).dpi  # from here on, all lengths are in points
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
    move_apart(ax, texts)  # in case there was not enough room for all names
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
    """Return the centres of the names, shape ``(n_points, 2)``.

    ``halves`` are half the widths and heights of the names. ``bars`` are the lower left and upper
    right ends, shape ``(2, n_bars, 2)``, and ``panel`` are the corners of the panel.
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
    """Return the costs of positions of name ``i`` given the placed names, shape ``(n_places,)``."""
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
    """Return the point of each box that is nearest to ``point``."""
    return np.clip(point, centers - half, centers + half)


def _overlap(low: NDArray, high: NDArray, other_low: NDArray, other_high: NDArray) -> NDArray[np.bool_]:
    """Return whether boxes overlap, shape ``(n_boxes, n_others)``."""
    return np.all((low[:, None] < other_high) & (high[:, None] > other_low), axis=-1)


def _along(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points on lines from ``start`` to each ``end``, shape ``(n_lines, n_steps, 2)``."""
    steps = np.linspace(0.05, 0.95, 15)[:, None]
    return start + steps * (np.atleast_2d(end)[:, None] - start)


def _passes(start: NDArray, ends: NDArray, low: NDArray, high: NDArray) -> NDArray[np.intp]:
    """Return the number of boxes that each line crosses, shape ``(n_lines,)``."""
    on_the_way = _along(start, ends)[:, :, None]
    return np.any(np.all((on_the_way > low) & (on_the_way < high), axis=-1), axis=1).sum(axis=1)


def _overlap_line(start: NDArray, end: NDArray, low: NDArray, high: NDArray) -> NDArray[np.bool_]:
    """Return whether a line crosses each box, shape ``(n_boxes,)``."""
    on_the_way = _along(start, end)[0]
    return np.any(np.all((on_the_way > low[:, None]) & (on_the_way < high[:, None]), axis=-1), axis=1)


def _cross(start: NDArray, ends: NDArray, other_start: NDArray, other_end: NDArray) -> NDArray[np.bool_]:
    """Return whether each line crosses the other line, shape ``(n_lines,)``."""

    def side(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
        return np.sign((b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0])

    apart = side(start, ends, other_start) * side(start, ends, other_end) < 0
    return apart & (side(other_start, other_end, start) * side(other_start, other_end, ends) < 0)
