"""What probes find on held-out cells: the audit beside its aims, retrieval of partners, and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_several, check_whole
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._style import (
    COLUMN,
    NEUTRAL,
    PAGE,
    ROLE_COLORS,
    STYLE,
    as_text,
    display_name,
    finish,
    inches,
    modality_colors,
    one_panel,
    page,
    shade,
    warn_if_stale,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData


class _Aim(NamedTuple):
    """How a figure is called, and on which side of which value it should lie."""

    title: str
    side: Literal["≤", "≥"]
    value: float

    def is_missed(self, values: pd.Series) -> pd.Series:
        """Which values lie on the other side; what is not defined misses nothing."""
        return values > self.value if self.side == "≤" else values < self.value


AUDIT_AIMS: dict[str, _Aim] = {
    "agreement_flat": _Aim("shared: agreement", "≥", 0.90),
    "sufficiency": _Aim("shared: sufficiency", "≥", 0.97),
    "gain": _Aim("specific: gain", "≥", 0.95),
    "complete": _Aim("both: complete", "≥", 0.98),
    "leak_ratio": _Aim("specific: leak ratio", "≤", 0.02),
}
"""What is drawn, from top to bottom."""


def audit(
    report: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw how well the representations are separated and what they keep, a bar for each modality, beside what to aim at.

    Agreement and sufficiency ask whether a shared representation holds what both modalities explain, and only that; gain and complete
    whether the representations hold all of their modality; the leak ratio whether a specific representation explains the other modality's
    shared one. It has a scale of its own, on which the aim can be seen. See :func:`indiseek_sc.metrics.audit`.

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
    height = len(AUDIT_AIMS) * max(8, 3 * len(table) + 2) + 18
    with one_panel(ax, inches(COLUMN, height), show) as (ax, show):
        _draw_bars(ax, table)
        return finish(page(ax), ax, show=show, save=save)


def _find_table(report: Any) -> pd.DataFrame:
    table = getattr(report, "table", report)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"report must be what model.audit() returns, or its table; got {type(report).__name__}.")
    lacking = [figure for figure in AUDIT_AIMS if figure not in table]
    if lacking:
        raise KeyError(
            f"The table of report lacks {lacking}; it has {list(table.columns)}. Pass that of model.audit()."
        )
    if table.empty:
        raise ValueError("The table of report has no row, one a modality. Pass that of model.audit().")
    return table[list(AUDIT_AIMS)]


_ZOOMED = "leak_ratio"
"""The figure that has a scale of its own: its aim is a fiftieth of that of the others. It is the last one."""

_GAP = 1.2
"""Height of the last row and of the axis above it, in rows."""

_SMALLEST_SCALE = 1.6
"""How far the scale of the leak ratio goes at least, as a multiple of the aim."""


def _draw_bars(ax: Axes, table: pd.DataFrame) -> None:
    """Bars from 0 to 1, and below them the leak ratio on an axis that is zoomed to its aim."""
    aims = {name: aim for name, aim in AUDIT_AIMS.items() if name != _ZOOMED}
    _draw_group(ax, table, aims)
    n_rows = len(aims)
    ax.set_ylim(n_rows + _GAP, -0.5)
    values = table[list(aims)].to_numpy(dtype=float)
    ax.set_xlim(min(0, np.nanmin(values, initial=0) * 1.1), np.nanmax(values, initial=1) * 1.02)
    ax.spines["bottom"].set_position(("data", n_rows - 0.45))
    ax.spines["left"].set_bounds(n_rows - 0.45, -0.5)

    # Of the height of the panel, which is that of the rows above, of their axis and of the last row.
    height = 1 / (n_rows + 0.5 + _GAP)
    zoomed = ax.inset_axes((0, 0, 1, height))
    _draw_group(zoomed, table, {_ZOOMED: AUDIT_AIMS[_ZOOMED]})
    zoomed.set_ylim(0.5, -0.5)
    leaks = table[_ZOOMED].to_numpy(dtype=float)
    most = max(_SMALLEST_SCALE * AUDIT_AIMS[_ZOOMED].value, 1.1 * np.nanmax(leaks, initial=0))
    zoomed.set_xlim(min(0, 1.2 * np.nanmin(leaks, initial=0)), most)
    zoomed.xaxis.set_major_locator(MaxNLocator(5))

    bars = [Patch(color=color, label=display_name(str(name))) for name, color in modality_colors(table.index).items()]
    mark = Line2D([], [], color="black", marker="|", markersize=7, markeredgewidth=1.4, linestyle="", label="aim")
    ax.legend(handles=[*bars, mark], loc="lower left", bbox_to_anchor=(0, 1), ncols=len(bars) + 1, borderaxespad=0.2)


def _draw_group(ax: Axes, table: pd.DataFrame, aims: Mapping[str, _Aim]) -> None:
    """A row for each figure: bars from 0, their numbers on the right, and the mark of the aim."""
    rows = np.arange(len(aims))
    thickness = 0.72 / len(table)
    for place, (modality, color) in enumerate(modality_colors(table.index).items()):
        at = rows + (place - (len(table) - 1) / 2) * thickness
        widths = table[list(aims)].iloc[place].to_numpy(dtype=float)
        ax.barh(at, np.nan_to_num(widths), thickness * 0.9, color=color, label=display_name(modality))
        for y, width in zip(at, widths, strict=True):
            text = f"{width:.3f}" if np.isfinite(width) else "not defined"
            # In a column of their own: beside its bar a number would often lie under the mark of the aim.
            beside: Any = {"textcoords": "offset points", "va": "center_baseline", "color": color}
            ax.annotate(text, (1, y), (4, 0), ax.get_yaxis_transform(), annotation_clip=False, **beside)
    for row, aim in zip(rows, aims.values(), strict=True):
        ax.plot([aim.value, aim.value], [row - 0.44, row + 0.44], color="black", linewidth=1.4, zorder=3)
    ax.set_yticks(rows, [f"{aim.title}\naim {aim.side} {aim.value:.2f}" for aim in aims.values()])
    ax.tick_params(axis="y", length=0)
    ax.vlines(0, -0.5, len(aims) - 0.5, color="0.4", linewidth=0.6)


_RECALL = "recall@"


def retrieval(
    mdata: MuData | pd.DataFrame,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw the share of cells whose partner is among the k nearest representations of the other modality, a curve for each direction.

    The dashed line is chance. FOSCTTM and the median rank stand in the legend.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.retrieval`, or the table that it returned.
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
    KeyError
        If the table is not there, or has no recall.
    """
    if not isinstance(mdata, pd.DataFrame):
        check_mdata(mdata)
    table = _find_retrieval(mdata)
    warn_if_stale(mdata, _keys.RETRIEVAL, "retrieval(mdata)")
    ks = np.array([int(column.removeprefix(_RECALL)) for column in table if column.startswith(_RECALL)])
    n_cells = int(table["n_cells"].iloc[0])
    with one_panel(ax, inches(COLUMN, 66), show) as (ax, show):
        for role, (_, row) in zip(_keys.ROLES, table.iterrows(), strict=True):
            source, _, target = row["direction"].partition(" to ")
            ax.plot(
                ks,
                [row[f"{_RECALL}{k}"] for k in ks],
                "o-",
                color=ROLE_COLORS[role],
                label=f"{display_name(target)} sought by {display_name(source)}\n"
                f"(FOSCTTM {row['foscttm']:.3f}, median rank {row['median_rank']:,.0f})",
            )
        ax.plot(ks, np.minimum(ks / n_cells, 1), "--", color="0.4", label="chance")
        ax.set(
            xscale="log",
            ylim=(0, 1),
            xlabel=f"k nearest of {n_cells:,} cells",
            ylabel="cells whose partner is among them",
        )
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        # Above the panel, for the curves take all of it.
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1)
        return finish(page(ax), ax, show=show, save=save)


def _find_retrieval(mdata: MuData | pd.DataFrame) -> pd.DataFrame:
    if not isinstance(mdata, pd.DataFrame) and _keys.RETRIEVAL not in mdata.uns:
        raise KeyError(f"mdata.uns[{_keys.RETRIEVAL!r}] is missing. Call indiseek_sc.tl.retrieval(mdata) first.")
    table = mdata if isinstance(mdata, pd.DataFrame) else mdata.uns[_keys.RETRIEVAL]
    if not any(column.startswith(_RECALL) for column in table) or "direction" not in table:
        raise KeyError(f"The table lacks a column '{_RECALL}<k>' or 'direction'; it has {list(table.columns)}.")
    return table


N_SHOWN = 12
"""Panels, if features are not named, at most."""

MARGIN = 0.03

_WIDEST_TITLE = 24

_PALEST, _DARKEST = 0.65, 0.45
"""How white the colour of a single cell is, which must be seen, and how black that of most cells."""


def prediction(
    report: Any,
    features: str | Sequence[str] | None = None,
    *,
    role: _keys.Role | None = None,
    ncols: int = 4,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw predicted against measured values, a panel for each feature, darker where there are more cells, in the colour of the modality.

    The line is where both are equal. The correlation, and the share of the cells within their interval, stand above each panel.

    Parameters
    ----------
    report
        What ``model.audit_prediction(...)`` returned.
    features
        Which features; by default up to 12 from the best predicted to the worst in even steps of the correlation, so that bad ones are seen too.
    role
        ``"rna"`` or ``"adt"``: what was predicted, whose colour is taken; grey if not given.
    ncols
        Panels in a row.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive.
    save
        File to write.

    Returns
    -------
    The axes, shape ``(n_rows, ncols)``, ``None`` where there is no panel; nothing if the figure was shown.

    Raises
    ------
    TypeError
        If ``report`` is none.
    KeyError
        If a feature is not in the report.
    ValueError
        If no feature is named or can be drawn, ``ncols`` is below 1, or there is no such role.
    """
    for name in ("table", "measured", "mean", "level"):
        if not hasattr(report, name):
            raise TypeError(
                f"report must be what model.audit_prediction(source, target) returned, but is {type(report).__name__}."
            )
    check_whole("ncols", ncols, 1)
    if role is not None:
        check_name("role", role, _keys.ROLES)
    names = _choose(report, features)
    ncols = min(ncols, len(names))
    n_rows = -(-len(names) // ncols)
    with plt.rc_context(STYLE):
        width = COLUMN if ncols == 1 else PAGE
        size = inches(width, n_rows * (width / ncols + 3) + 12)
        figure, axes = plt.subplots(n_rows, ncols, figsize=size, squeeze=False, layout="constrained")
        colors = _few_to_many(role)
        drawn = [_draw_panel(ax, report, name, colors) for ax, name in zip(axes.flat, names, strict=False)]
        most = max(2, *(int(bins.get_array().max()) for bins in drawn))
        for bins in drawn:
            bins.set_norm(LogNorm(1, most))  # one scale, so that one bar serves all
        for place in range(len(names), axes.size):
            axes.flat[place].remove()
            axes.flat[place] = None
        panels = [ax for ax in axes.flat if ax is not None]
        for ax in panels[::ncols]:
            ax.set_ylabel("predicted")
        for ax in panels[-ncols:]:  # the lowest of each column
            ax.set_xlabel("measured")
        bar = figure.colorbar(
            drawn[0], ax=panels, location="bottom", format="%d", shrink=min(1.0, 1.2 / ncols), aspect=25
        )
        bar.set_label("cells in a bin")
        bar.outline.set_visible(False)
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
        return finish(figure, axes, show=show, save=save)


def _choose(report: Any, features: str | Sequence[str] | None) -> list[str]:
    if features is None:
        ranked = report.table["pearson"].dropna().sort_values(ascending=False, kind="stable")
        if len(ranked) == 0:
            raise ValueError("report: no feature varies, so there is nothing to draw.")
        # Even steps of rank would show noise alone where most of 2,000 genes are.
        steps = np.linspace(ranked.iloc[0], ranked.iloc[-1], N_SHOWN)
        nearest = np.abs(ranked.to_numpy() - steps[:, None]).argmin(axis=1)
        return list(ranked.index[np.unique(nearest)])
    names = check_several("features", features)
    if not names:
        raise ValueError("features=[] names no feature. Leave it out for some of all.")
    missing = [name for name in names if name not in report.table.index]
    if missing:
        raise KeyError(f"features: {missing} are not in the report; it has {list(report.table.index[:20])}, ...")
    return names


def _few_to_many(role: _keys.Role | None) -> Colormap:
    """From pale to dark, in the colour of the modality that is predicted if it is known."""
    color = NEUTRAL if role is None else ROLE_COLORS[role]
    dark: Any = tuple(channel * (1 - _DARKEST) for channel in to_rgb(color))
    return LinearSegmentedColormap.from_list("few_to_many", [shade(color, _PALEST), color, dark])


def _draw_panel(ax: Axes, report: Any, name: str, colors: Colormap) -> Any:
    """Bins of one feature on equal axes; returns what a colour bar is made of."""
    measured, predicted = report.measured[name].to_numpy(), report.mean[name].to_numpy()
    low, high = (float(f([f(measured), f(predicted)])) for f in (np.min, np.max))
    low, high = (low, high) if high > low else (low - 1, high + 1)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)  # whole bins at the ends
    drawn = ax.hexbin(
        measured,
        predicted,
        gridsize=35,
        extent=(low, high, low, high),
        mincnt=1,
        cmap=colors,
        linewidths=0,
    )
    ax.plot([low, high], [low, high], color="0.35", linewidth=0.6)
    row = report.table.loc[name]
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set_title(
        f"{as_text(name, _WIDEST_TITLE)}\nr {row['pearson']:.2f}, {row['coverage']:.0%} in {report.level:.0%} intervals",
        fontsize=plt.rcParams["axes.labelsize"],
    )
    return drawn
