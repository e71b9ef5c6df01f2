"""Independence against completeness along lambda."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.patheffects as effects
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from indiseek_sc.pl._guide import move_apart
from indiseek_sc.pl._style import PALETTE, ROLE_COLORS, display_name, finish, one_panel, page

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_COLUMNS = ("lambda", "modality", "leak_ratio", "gain")


def frontier(
    path: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw what specific codes leak against what they gain, a line through the lambdas for each modality.

    The best place is the upper left. Numbers are lambdas; the bar through a point is one standard error of its leak. The
    shaded part is within the tolerance, and rings mark the chosen lambda.

    Parameters
    ----------
    path
        What ``model.lambda_path()`` returned, or ``model.chosen_path``. Points without a gain (where next to nothing could be
        added to the shared code) are left out.
    ax
        Where to draw; by default a figure of its own.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive, unless ``ax`` is given.
    save
        File to write.

    Returns
    -------
    The axes; nothing if the figure was shown.

    Raises
    ------
    TypeError
        If ``path`` is no such path.
    ValueError
        If no lambda has both a leak ratio and a gain.
    """
    table = _find_points(path)
    with one_panel(ax, (7.5, 5.5), show) as (ax, show):
        labels = _draw_lines(ax, table, path)
        _dress(ax, table, path)
        page(ax).draw_without_rendering()  # numbers are moved on the page, so it must be laid out
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
            "path has no lambda with both a leak ratio and a gain: there is too little to leak or to add to the shared codes."
        )
    return points


def _draw_lines(ax: Axes, table: pd.DataFrame, path: Any) -> list[Annotation]:
    colors = dict(zip(path.table["modality"].unique(), [*ROLE_COLORS.values(), *PALETTE[2:]], strict=False))
    labels = []
    for modality, points in table.groupby("modality", sort=False):
        color, points = colors[modality], points.sort_values("lambda")
        x, y = points["leak_ratio"], points["gain"]
        ax.errorbar(
            x,
            y,
            xerr=points["leak_ratio_se"] if "leak_ratio_se" in points else None,
            fmt="o-",
            color=color,
            ecolor=(color, 0.35),
            markersize=6,
            label=display_name(str(modality)),
        )
        chosen = np.isclose(points["lambda"], path.chosen)
        ax.plot(x[chosen], y[chosen], "o", markersize=14, fillstyle="none", color=color, markeredgewidth=2)
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
        for value, across, up in zip(points["lambda"], x, y, strict=True):
            text = ax.annotate(f"{value:g}", (across, up), (16, 11), textcoords="offset points", arrowprops=line)
            text.set(ha="center", va="center")
            text.set(color=color, fontsize=10, path_effects=[effects.withStroke(linewidth=2.5, foreground="white")])
            labels.append(text)
    return labels


def _dress(ax: Axes, table: pd.DataFrame, path: Any) -> None:
    ax.axvspan(0, path.tolerance, color="0.93", zorder=0, label=f"leak ratio within {100 * path.tolerance:g} %")
    ax.plot(
        [], [], "o", markersize=12, fillstyle="none", color="0.3", markeredgewidth=2, label=f"chosen: {path.chosen:g}"
    )
    ax.margins(0.12)
    right = max(ax.get_xlim()[1], 1.5 * path.tolerance)
    ax.set_xlim(min(0, table["leak_ratio"].min()) - 0.04 * right, right)  # room for a ring around 0
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("leak ratio of the specific code (0 % is best)")
    ax.set_ylabel("gain of the specific code (100 % is best)")
    handles, words = ax.get_legend_handles_labels()
    order = sorted(range(len(words)), key=lambda i: not hasattr(handles[i], "has_xerr"))  # modalities first
    ax.legend(
        [handles[i] for i in order],
        [words[i] for i in order],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        borderaxespad=0.2,
        columnspacing=1.2,
    )
