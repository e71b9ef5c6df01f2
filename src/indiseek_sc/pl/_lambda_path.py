"""Figure of the trade-off curve along lambda."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.patheffects as effects
import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from indiseek_sc.pl._labels import move_apart
from indiseek_sc.pl._style import (
    COLUMN,
    MIN_FONT_SIZE,
    NEUTRAL,
    display_name,
    finish,
    inches,
    modality_colors,
    one_panel,
    page,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_RING = 8.5
"""Size of the ring around the chosen lambda, in points."""

_MIN_GAIN_RANGE = 0.05
"""Smallest range of the axis of the gain, so that negligible differences do not look large."""

_COLUMNS = ("lambda", "modality", "leak_ratio", "gain")


def lambda_path(
    path: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw the trade-off curve along lambda: gain against leak ratio, a line for each modality.

    Results improve towards the upper left. The axis of the leak ratio is linear within the
    tolerance and logarithmic beyond. Numbers are values of lambda, and horizontal bars show one
    standard error of the leak ratio. The shaded area is within the tolerance, and rings mark the
    chosen lambda.

    Parameters
    ----------
    path
        Result of ``model.lambda_path()``, or ``model.chosen_path``. Points with an undefined gain
        (where almost nothing can be added to the shared representation) are not drawn.
    ax
        Axes to draw on; by default a new figure.
    show
        Whether to show the figure. ``None`` shows it in interactive mode, unless ``ax`` is given.
    save
        File to write the figure to.

    Returns
    -------
    The axes; None if the figure was shown.

    Raises
    ------
    TypeError
        If ``path`` is not a trade-off curve along lambda.
    ValueError
        If no lambda has both a leak ratio and a gain.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> table = pd.DataFrame({"lambda": [10.0, 100.0], "leak_ratio": [0.0, 0.01]})
    >>> table = table.assign(gain=[0.7, 0.9])
    >>> path = SimpleNamespace(table=table.assign(modality="rna"), chosen=100.0, tolerance=0.02)
    >>> ax = isk.pl.lambda_path(path, show=False)
    >>> ax.get_ylabel()
    'gain (100 % is best)'
    """
    table = _find_points(path)
    with one_panel(ax, inches(COLUMN, 68), show) as (ax, show):
        labels = _draw_lines(ax, table, path)
        _format_axes(ax, table, path)
        # Numbers are moved in pixels, which needs the final layout.
        page(ax).draw_without_rendering()
        move_apart(ax, labels)
        return finish(page(ax), ax, show=show, save=save)


def _find_points(path: Any) -> pd.DataFrame:
    table = getattr(path, "table", None)
    if not isinstance(table, pd.DataFrame) or not set(_COLUMNS) <= set(table):
        raise TypeError(
            f"path must be what model.lambda_path() returns, or model.chosen_path after train(lambda_='auto'); got "
            f"{type(path).__name__}."
        )
    points = table.dropna(subset=["leak_ratio", "gain"])
    if points.empty:
        raise ValueError(
            "path has no lambda with both a leak ratio and a gain, because too little can leak or be added to the "
            "shared representations."
        )
    return points


def _draw_lines(ax: Axes, table: pd.DataFrame, path: Any) -> list[Annotation]:
    colors = modality_colors(path.table["modality"])
    labels = []
    for modality, points in table.groupby("modality", sort=False):
        color, points = colors[str(modality)], points.sort_values("lambda")
        x, y = points["leak_ratio"], points["gain"]
        ax.errorbar(
            x,
            y,
            xerr=points["leak_ratio_se"] if "leak_ratio_se" in points else None,
            fmt="o-",
            color=color,
            ecolor=(color, 0.35),
            markersize=3.5,
            linewidth=1.1,
            label=display_name(str(modality)),
        )
        chosen = np.isclose(points["lambda"], path.chosen)
        ax.plot(x[chosen], y[chosen], "o", markersize=_RING, fillstyle="none", color=color, markeredgewidth=1.2)
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        for value, across, up in zip(points["lambda"], x, y, strict=True):
            text = ax.annotate(f"{value:g}", (across, up), (10, 7), textcoords="offset points", arrowprops=line)
            text.set(ha="center", va="center")
            text.set(
                color=color,
                fontsize=MIN_FONT_SIZE,
                path_effects=[effects.withStroke(linewidth=1.5, foreground="white")],
            )
            labels.append(text)
    return labels


def _format_axes(ax: Axes, table: pd.DataFrame, path: Any) -> None:
    ax.axvspan(0, path.tolerance, color="0.93", zorder=0, label=f"leak ratio within {100 * path.tolerance:g} %")
    ax.plot(
        [],
        [],
        "o",
        markersize=6.5,
        fillstyle="none",
        color=NEUTRAL,
        markeredgewidth=1.2,
        label=f"chosen: {path.chosen:g}",
    )
    ax.margins(0.12)
    right = max(ax.get_xlim()[1], 1.5 * path.tolerance)
    # Leaves room for a ring at 0.
    ax.set_xlim(min(0, table["leak_ratio"].min()) - 0.04 * right, right)
    # A linear part makes small leaks visible next to leaks that are far beyond the tolerance.
    ax.set_xscale("symlog", linthresh=path.tolerance, linscale=1)
    ax.xaxis.set_major_locator(FixedLocator([0, *(path.tolerance * step for step in (0.25, 0.5, 1, 2.5, 5, 10, 25))]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    low, high = ax.get_ylim()
    high = max(high, min(1.0, (low + high + _MIN_GAIN_RANGE) / 2))  # a gain is at most 1
    ax.set_ylim(min(low, high - _MIN_GAIN_RANGE), high)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))
    ax.set_xlabel("leak ratio of the specific representation (0 % is best)")
    ax.set_ylabel("gain (100 % is best)")
    handles, words = ax.get_legend_handles_labels()
    # Modalities first.
    order = sorted(range(len(words)), key=lambda i: not hasattr(handles[i], "has_xerr"))
    ax.legend(
        [handles[i] for i in order],
        [words[i] for i in order],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        borderaxespad=0.2,
        columnspacing=1.2,
    )
