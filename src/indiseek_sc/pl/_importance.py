"""The ranking of labels by modality importance."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._style import (
    ROLE_COLORS,
    as_text,
    display_name,
    finish,
    modality_names,
    one_panel,
    page,
    warn_if_stale,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData

_COLUMNS = ("label", "n_cells", "theta", "lower", "upper", "reliable")
_CODES = ("specific", "shared", "both", "raw")
_WIDEST_LABEL = 40
_WIDEST_CAPTION = 60
_UNDECIDED = "0.45"
_SMALLEST_SIDE = 0.5


def importance_ranking(
    mdata: MuData | pd.DataFrame,
    *,
    code: str = "specific",
    modalities: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw theta of every label with its bootstrap interval, the highest on top.

    Right of 0 RNA keeps the label together better than the proteins do, left of it the proteins; where the interval
    includes 0 it is drawn in grey. A hollow dot is a label of too few cells to rely on. See
    :func:`indiseek_sc.tl.modality_importance`.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.modality_importance`, or the table that it returned.
    code
        Of which code, as it was given there.
    modalities
        Names to print for the roles ``"rna"`` and ``"adt"``; by default the user's own names of the modalities.
    ax
        Where to draw; by default a figure of its own, as high as the labels need.
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
        If the table is not there or lacks a column.
    ValueError
        If it has no row.
    """
    check_name("code", code, _CODES)
    if modalities is not None and not isinstance(modalities, Mapping):
        raise ValueError(f"modalities must map 'rna' and 'adt' to names to print, but is {modalities!r}.")
    if not isinstance(mdata, pd.DataFrame):
        check_mdata(mdata)
    table = _find_table(mdata, code)
    key = _keys.of_code(_keys.IMPORTANCE, code)
    warn_if_stale(mdata, key, "modality_importance(mdata, label_key=...)")
    noted = {} if isinstance(mdata, pd.DataFrame) else mdata.uns.get(f"{key}_params", {})
    names = {role: role for role in _keys.ROLES} if isinstance(mdata, pd.DataFrame) else modality_names(mdata)
    names |= noted.get("modalities", {}) | dict(modalities or {})
    pitch = 0.44 if any("\n" in label for label in _wrapped(table["label"])) else 0.32
    with one_panel(ax, (10, pitch * len(table) + 2.2), show) as (ax, show):
        _draw_rows(ax, table)
        _annotate(ax, table, names, noted)
        return finish(page(ax), ax, show=show, save=save)


def _find_table(mdata: MuData | pd.DataFrame, code: str) -> pd.DataFrame:
    """The table in order of rank, checked."""
    key = _keys.of_code(_keys.IMPORTANCE, code)
    if not isinstance(mdata, pd.DataFrame) and key not in mdata.uns:
        of = "" if code == "specific" else f", code={code!r}"
        raise KeyError(
            f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.modality_importance(mdata, label_key=...{of}) first."
        )
    table = mdata if isinstance(mdata, pd.DataFrame) else mdata.uns[key]
    lacking = [column for column in _COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"The table lacks the columns {lacking}; it has {list(table.columns)}. "
            "Pass the table of indiseek_sc.tl.modality_importance."
        )
    if table.empty:
        raise ValueError("The table has no row, one a label. Pass the table of indiseek_sc.tl.modality_importance.")
    return table.sort_values("theta", ascending=False, kind="stable", ignore_index=True)


def _draw_rows(ax: Axes, table: pd.DataFrame) -> None:
    """One row a label: dot, interval, name on the left, number of cells on the right."""
    rows = np.arange(len(table))
    ax.axvline(0, color="0.4", linewidth=1.2, zorder=1)
    ax.hlines(rows, 0, 1, transform=ax.get_yaxis_transform(), color="0.92", linewidth=1, zorder=0)
    for row, label in table.iterrows():
        color = _UNDECIDED if _includes_0(label) else ROLE_COLORS["rna" if label["theta"] > 0 else "adt"]
        ax.plot(
            [label["lower"], label["upper"]], [row, row], color=color, linewidth=2.2, solid_capstyle="butt", zorder=2
        )
        face = color if label["reliable"] else "white"
        ax.plot(
            label["theta"], row, "o", color=color, markerfacecolor=face, markersize=8, markeredgewidth=1.8, zorder=3
        )
        ax.annotate(
            f"{label['n_cells']:,}",
            (1, row),
            xycoords=ax.get_yaxis_transform(),
            xytext=(_count_offset(table), 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            annotation_clip=False,
        )
    ax.set_yticks(rows, _wrapped(table["label"]))
    ax.set(ylim=(len(table) - 0.4, -0.6), xlim=_limits(table))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _count_offset(table: pd.DataFrame) -> float:
    """Points from the panel to where the numbers of cells end, enough for the longest."""
    return 14 + 7.5 * max(len("cells"), len(f"{table['n_cells'].max():,}"))


def _wrapped(labels: pd.Series) -> list[str]:
    """Names on two lines at most."""
    lines = (textwrap.wrap(str(label), _WIDEST_LABEL, max_lines=2, placeholder=" ...") or [""] for label in labels)
    return ["\n".join(map(as_text, of_label)) for of_label in lines]


def _includes_0(label: pd.Series) -> bool:
    return bool(label["lower"] <= 0 <= label["upper"])


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Limits of theta with 0 in between and, for what is written above it, no side much narrower than the other."""
    values = table[["theta", "lower", "upper"]].to_numpy(dtype=float)
    low, high = max(-np.nanmin(values), 0), max(np.nanmax(values), 0)
    widest = max(low, high) or 1.0
    return -1.08 * max(low, _SMALLEST_SIDE * widest), 1.08 * max(high, _SMALLEST_SIDE * widest)


def _annotate(ax: Axes, table: pd.DataFrame, names: Mapping[str, str], noted: Mapping[str, object]) -> None:
    """Say what each side of 0 means, what the axis is, and what a hollow dot is if there is one."""
    rna, adt = (display_name(str(names[role])) for role in _keys.ROLES)
    above: Any = {
        "xycoords": ax.get_xaxis_transform(),
        "textcoords": "offset points",
        "va": "bottom",
        "fontweight": "bold",
    }
    left, right = (textwrap.fill(name, 18) for name in (adt, rna))
    ax.annotate(f"{left}\n← resolves it better", (0, 1), (-8, 4), ha="right", color=ROLE_COLORS["adt"], **above)
    ax.annotate(f"{right}\nresolves it better →", (0, 1), (8, 4), ha="left", color=ROLE_COLORS["rna"], **above)
    ax.annotate(
        "cells",
        (1, 1),
        xycoords="axes fraction",
        xytext=(_count_offset(table), 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
    )
    interval = f"{noted['confidence']:.0%} " if "confidence" in noted else ""
    caption = textwrap.fill(f"θ: log ratio of neighbourhood purities, {rna} over {adt}", _WIDEST_CAPTION)
    code = noted.get("code", "specific")
    if code != "specific":
        caption += "\nin shared and specific codes together" if code == "both" else f"\nin the {code} codes"
    caption += f"\n(mean over cells, {interval}bootstrap interval)"
    if not table["reliable"].all():
        few = f"fewer than {noted['minimum_cells']} cells" if "minimum_cells" in noted else "too few cells to rely on"
        caption += f"\nhollow dot: {few}"
    if any(_includes_0(label) for _, label in table.iterrows()):
        caption += "\ngrey: the interval includes 0"
    ax.set_xlabel(caption)
