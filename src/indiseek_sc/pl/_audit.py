"""Figures of results on held-out cells: audit and retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from indiseek_sc import _keys
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._style import (
    COLUMN,
    ROLE_COLORS,
    display_name,
    finish,
    inches,
    modality_colors,
    one_panel,
    page,
    warn_if_stale,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData


class Aim(NamedTuple):
    """Title of an audit measure, and the bound that it should respect.

    Attributes
    ----------
    title
        Title of the measure.
    side
        Whether the measure should be at most or at least the value.
    value
        The bound.

    Examples
    --------
    >>> isk.pl.Aim("specific: gain", "≥", 0.95).is_missed(pd.Series([0.9, 1.0])).tolist()
    [True, False]
    """

    title: str
    side: Literal["≤", "≥"]
    value: float

    def is_missed(self, values: pd.Series) -> pd.Series:
        """Return which values violate the bound.

        Parameters
        ----------
        values
            Values of the measure; undefined ones violate no bound.

        Returns
        -------
        Mask of the same shape.

        Examples
        --------
        >>> isk.pl.audit_aims()["leak_ratio"].is_missed(pd.Series([0.01, 0.03])).tolist()
        [False, True]
        """
        return values > self.value if self.side == "≤" else values < self.value


AUDIT_AIMS: dict[str, Aim] = {
    "agreement_flat": Aim("shared: agreement", "≥", 0.90),
    "sufficiency": Aim("shared: sufficiency", "≥", 0.97),
    "gain": Aim("specific: gain", "≥", 0.95),
    "complete": Aim("both: completeness", "≥", 0.98),
    "leak_ratio": Aim("specific: leak ratio", "≤", 0.02),
}
"""Audit measures that are drawn, from top to bottom, and their aims for large data."""

FEW_CELLS = 3_000
"""Number of training cells below which the aims of the shared representations are lower."""


def audit_aims(n_train: int | None = None) -> dict[str, Aim]:
    """Return the aims of an audit by measure.

    Parameters
    ----------
    n_train
        Number of cells on which the probes were fitted. With fewer than 3,000, an agreement of .60
        and a sufficiency of .95 suffice. If not given, the aims are those for more cells.

    Returns
    -------
    Aims with the attributes ``title``, ``side`` (``"≤"`` or ``"≥"``) and ``value``.

    Examples
    --------
    >>> isk.pl.audit_aims()["sufficiency"].value, isk.pl.audit_aims(600)["sufficiency"].value
    (0.97, 0.95)
    """
    if n_train is None or n_train >= FEW_CELLS:
        return AUDIT_AIMS
    lower = {"agreement_flat": 0.60, "sufficiency": 0.95}
    return AUDIT_AIMS | {name: AUDIT_AIMS[name]._replace(value=value) for name, value in lower.items()}


def audit(
    report: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    r"""Draw the main measures of an audit and their aims, with a bar for each modality.

    Agreement and sufficiency measure whether a shared representation contains what both modalities
    explain, and nothing else. Gain and completeness measure whether the representations contain all
    information of their modality. The leak ratio measures whether a specific representation
    explains the shared representation of the other modality; it has its own axis, because its aim
    is much smaller. See :func:`indiseek_sc.metrics.audit`.

    Parameters
    ----------
    report
        Result of ``model.audit()``, or its ``table``: one row per modality and the columns
        ``agreement_flat``, ``sufficiency``, ``gain``, ``complete`` and ``leak_ratio``. No bar is
        drawn for NaN.
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
        If ``report`` is neither an audit report nor a table.
    KeyError
        If a column is missing.
    ValueError
        If the table is empty.

    Examples
    --------
    >>> figures = {"agreement_flat": 0.92, "sufficiency": 0.98, "gain": 0.96, "complete": 0.99}
    >>> table = pd.DataFrame([figures | {"leak_ratio": 0.01}], index=["rna"])
    >>> ax = isk.pl.audit(table, show=False)
    >>> ax.get_yticklabels()[0].get_text()
    'shared: agreement\naim ≥ 0.90'
    """
    table, aims = _find_table(report), audit_aims(getattr(report, "n_train", None))
    height = len(AUDIT_AIMS) * max(8, 3 * len(table) + 2) + 18
    with one_panel(ax, inches(COLUMN, height), show) as (ax, show):
        _draw_bars(ax, table, aims)
        return finish(page(ax), ax, show=show, save=save)


def _find_table(report: Any) -> pd.DataFrame:
    table = getattr(report, "table", report)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"report must be what model.audit() returns, or its table; got {type(report).__name__}.")
    lacking = [figure for figure in AUDIT_AIMS if figure not in table]
    if lacking:
        raise KeyError(
            f"The table of report lacks the columns {lacking}; it has {list(table.columns)}. Pass the result of model.audit()."
        )
    if table.empty:
        raise ValueError(
            "The table of report has no rows, but needs one for each modality. Pass the result of model.audit()."
        )
    return table[list(AUDIT_AIMS)]


_ZOOMED = "leak_ratio"
"""Measure with its own axis, because its aim is about a fiftieth of the others; drawn last."""

_GAP = 1.2
"""Height of the last row and of the axis above it, as a multiple of the height of a row."""

_MIN_SCALE = 1.6
"""Smallest upper limit of the axis of the leak ratio, as a multiple of the aim."""


def _draw_bars(ax: Axes, table: pd.DataFrame, all_aims: dict[str, Aim]) -> None:
    """Draw bars from 0 to 1, and below them the leak ratio on an axis scaled to its aim."""
    aims = {name: aim for name, aim in all_aims.items() if name != _ZOOMED}
    _draw_group(ax, table, aims)
    n_rows = len(aims)
    ax.set_ylim(n_rows + _GAP, -0.5)
    values = table[list(aims)].to_numpy(dtype=float)
    ax.set_xlim(min(0, np.nanmin(values, initial=0) * 1.1), np.nanmax(values, initial=1) * 1.02)
    ax.spines["bottom"].set_position(("data", n_rows - 0.45))
    ax.spines["left"].set_bounds(n_rows - 0.45, -0.5)

    # Height relative to the panel, which consists of the rows above, their axis and the last row.
    height = 1 / (n_rows + 0.5 + _GAP)
    zoomed = ax.inset_axes((0, 0, 1, height))
    _draw_group(zoomed, table, {_ZOOMED: all_aims[_ZOOMED]})
    zoomed.set_ylim(0.5, -0.5)
    leaks = table[_ZOOMED].to_numpy(dtype=float)
    most = max(_MIN_SCALE * all_aims[_ZOOMED].value, 1.1 * np.nanmax(leaks, initial=0))
    zoomed.set_xlim(min(0, 1.2 * np.nanmin(leaks, initial=0)), most)
    zoomed.xaxis.set_major_locator(MaxNLocator(5))

    bars = [Patch(color=color, label=display_name(str(name))) for name, color in modality_colors(table.index).items()]
    mark = Line2D([], [], color="black", marker="|", markersize=7, markeredgewidth=1.4, linestyle="", label="aim")
    ax.legend(handles=[*bars, mark], loc="lower left", bbox_to_anchor=(0, 1), ncols=len(bars) + 1, borderaxespad=0.2)


def _draw_group(ax: Axes, table: pd.DataFrame, aims: Mapping[str, Aim]) -> None:
    """Draw a row for each measure: bars, their values on the right, and the mark of the aim."""
    rows = np.arange(len(aims))
    thickness = 0.72 / len(table)
    for place, (modality, color) in enumerate(modality_colors(table.index).items()):
        at = rows + (place - (len(table) - 1) / 2) * thickness
        widths = table[list(aims)].iloc[place].to_numpy(dtype=float)
        ax.barh(at, np.nan_to_num(widths), thickness * 0.9, color=color, label=display_name(modality))
        for y, width in zip(at, widths, strict=True):
            text = f"{width:.3f}" if np.isfinite(width) else "not defined"
            # Values are aligned on the right, because next to a bar they would often overlap the
            # mark of the aim.
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
    """Draw how often a cell is matched across modalities, with a curve for each direction.

    A cell is matched if its own representation in the other modality is among the k nearest. The
    dashed line is the share expected by chance. FOSCTTM and the median rank are given in the
    legend.

    Parameters
    ----------
    mdata
        Data with the result of :func:`indiseek_sc.tl.retrieval`, or the table that it returned.
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
    KeyError
        If the table is missing or has no recall.

    Examples
    --------
    >>> table = isk.tl.retrieval(mdata)
    >>> ax = isk.pl.retrieval(mdata, show=False)
    >>> ax.get_ylabel()
    'cells with match among the k nearest'
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
                label=f"{display_name(source)} to {display_name(target)}\n"
                f"(FOSCTTM {row['foscttm']:.3f}, median rank {row['median_rank']:,.0f})",
            )
        ax.plot(ks, np.minimum(ks / n_cells, 1), "--", color="0.4", label="chance")
        ax.set(
            xscale="log",
            ylim=(0, 1),
            xlabel=f"k nearest of {n_cells:,} cells",
            ylabel="cells with match among the k nearest",
        )
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        # The legend is above the panel, because curves may cross the whole panel.
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1)
        return finish(page(ax), ax, show=show, save=save)


def _find_retrieval(mdata: MuData | pd.DataFrame) -> pd.DataFrame:
    if not isinstance(mdata, pd.DataFrame) and _keys.RETRIEVAL not in mdata.uns:
        raise KeyError(f"mdata.uns[{_keys.RETRIEVAL!r}] is missing. Call indiseek_sc.tl.retrieval(mdata) first.")
    table = mdata if isinstance(mdata, pd.DataFrame) else mdata.uns[_keys.RETRIEVAL]
    if not any(column.startswith(_RECALL) for column in table) or "direction" not in table:
        raise KeyError(f"The table lacks a column '{_RECALL}<k>' or 'direction'; it has {list(table.columns)}.")
    return table
