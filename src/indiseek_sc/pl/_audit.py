"""The figures of an audit beside their aims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from indiseek_sc.pl._style import PALETTE, ROLE_COLORS, display_name, finish, one_panel, page

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes


class _Aim(NamedTuple):
    """How a figure is called, and on which side of which value it should lie."""

    title: str
    side: Literal["≤", "≥"]
    value: float

    def is_missed(self, values: pd.Series) -> pd.Series:
        """Which values lie on the other side; what is not defined misses nothing."""
        return values > self.value if self.side == "≤" else values < self.value


AIMS: dict[str, _Aim] = {
    "agreement_flat": _Aim("shared code: agreement", "≥", 0.90),
    "sufficiency": _Aim("shared code: sufficiency", "≥", 0.97),
    "gain": _Aim("specific code: gain", "≥", 0.95),
    "complete": _Aim("both codes: complete", "≥", 0.98),
    "leak_ratio": _Aim("specific code: leak ratio", "≤", 0.02),
}
"""What is drawn, from top to bottom."""


def audit(
    report: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw how well the codes are separated and what they keep, a bar for each modality, beside what to aim at.

    Agreement and sufficiency ask whether a shared code holds what both modalities tell, and only that; gain and complete
    whether the codes hold all of their modality; the leak ratio whether a specific code tells of the other modality's
    shared code. See :func:`indiseek_sc.metrics.audit`.

    Parameters
    ----------
    report
        What ``model.audit()`` returned, or its ``table``: one row a modality, the columns ``agreement_flat``,
        ``sufficiency``, ``gain``, ``complete`` and ``leak_ratio``. No bar is drawn for NaN.
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
        If ``report`` is neither.
    KeyError
        If one of the columns is not there.
    ValueError
        If the table has no row.
    """
    table = _find_table(report)
    height = len(AIMS) * max(0.75, 0.3 * len(table) + 0.15) + 1.2
    with one_panel(ax, (9.5, height), show) as (ax, show):
        _draw_bars(ax, table)
        return finish(page(ax), ax, show=show, save=save)


def _find_table(report: Any) -> pd.DataFrame:
    table = getattr(report, "table", report)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"report must be what model.audit() returns, or its table; got {type(report).__name__}.")
    lacking = [figure for figure in AIMS if figure not in table]
    if lacking:
        raise KeyError(
            f"The table of report lacks {lacking}; it has {list(table.columns)}. Pass that of model.audit()."
        )
    if table.empty:
        raise ValueError("The table of report has no row, one a modality. Pass that of model.audit().")
    return table[list(AIMS)]


def _draw_bars(ax: Axes, table: pd.DataFrame) -> None:
    rows = np.arange(len(AIMS))
    thickness = 0.72 / len(table)
    colors = [*ROLE_COLORS.values(), *PALETTE[2:]]
    for place, (modality, values) in enumerate(table.iterrows()):
        at = rows + (place - (len(table) - 1) / 2) * thickness
        widths = values.to_numpy(dtype=float)
        ax.barh(at, np.nan_to_num(widths), thickness * 0.9, color=colors[place], label=display_name(str(modality)))
        for y, width in zip(at, widths, strict=True):
            text = f"{width:.3f}" if np.isfinite(width) else "not defined"
            # In a column of their own: beside its bar a number would often lie under the mark of the aim.
            ax.annotate(
                text,
                (1, y),
                (8, 0),
                ax.get_yaxis_transform(),
                "offset points",
                va="center_baseline",
                color=colors[place],
            )
    for row, aim in zip(rows, AIMS.values(), strict=True):
        ax.plot([aim.value, aim.value], [row - 0.44, row + 0.44], color="black", linewidth=2.5, zorder=3)
    values = table.to_numpy(dtype=float)
    ax.set_xlim(min(0, np.nanmin(values, initial=0) * 1.1), np.nanmax(values, initial=1) * 1.02)
    ax.set_yticks(rows, [f"{aim.title}\naim {aim.side} {aim.value:.2f}" for aim in AIMS.values()])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.axvline(0, color="0.4", linewidth=1)
    mark = Line2D([], [], color="black", marker="|", markersize=13, markeredgewidth=2.5, linestyle="", label="aim")
    bars, _ = ax.get_legend_handles_labels()
    ax.legend(handles=[*bars, mark], loc="lower left", bbox_to_anchor=(0, 1), ncols=len(bars) + 1, borderaxespad=0.2)
