"""Figure of modality importance: information about labels, and theta."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._style import (
    COLUMN,
    PAGE,
    ROLE_COLORS,
    as_text,
    display_name,
    finish,
    inches,
    modality_names,
    one_panel,
    page,
    warn_if_stale,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData

Score = Literal["information", "theta"]

_COLUMNS = {
    "theta": ("label", "n_cells", "theta", "lower", "upper", "reliable"),
    "information": (
        *("label", "n_cells", "claim", "information_difference", "information_rna", "information_rna_lower"),
        *("information_rna_upper", "information_adt", "information_adt_lower", "information_adt_upper"),
    ),
}
_LATENTS = ("specific", "shared", "both", "raw")
_MAX_LABEL_LENGTH = 40
_MAX_CAPTION_LENGTH, _LETTER = 90, 1.22
"""Length of a line of the caption in a figure of two columns, in letters, and width of a letter in
millimetres."""
_MAX_NARROW_LENGTH = 20
"""Largest length of labels and names of modalities in a figure of one column, in letters."""
_UNDECIDED = "0.45"
"""Grey of estimates and labels for which no difference was established."""
_MIN_SIDE = 0.5
"""Smallest width of the axis on one side of 0, relative to the wider side."""
_LINEAR = 0.2
"""The axis of information is linear up to this number of bits and logarithmic beyond."""
_ROW_HEIGHT, _TWO_LINE_ROW_HEIGHT, _MARGIN = 4.4, 7.0, 26.0
"""Heights in millimetres of a row, of a row with a label of two lines, and of the margins above and
below the rows."""


def importance_ranking(
    mdata: MuData | pd.DataFrame,
    *,
    score: Score | None = None,
    latent: str = "specific",
    modalities: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw modality importance for each label, with the label that favours RNA most on top.

    With ``"information"``, dots show the information about each label that the RNA-specific and the
    protein-specific representation add to the shared ones, in bits per cell of the label, with
    intervals over cells and refits. The name of a label has the colour of the modality that
    resolves it better, and is grey if no difference was established. With ``"theta"``, dots show
    theta with its interval: right of 0 RNA resolves the label better, left of 0 the proteins do.
    Intervals that include 0 are grey, and hollow dots mark labels with too few cells. See
    :func:`indiseek_sc.tl.modality_importance`.

    Parameters
    ----------
    mdata
        Data with the result of :func:`indiseek_sc.tl.modality_importance`, or the table that it
        returned.
    score
        ``"information"`` or ``"theta"``; by default information if the table contains it, which
        requires refits.
    latent
        Kind of representation, as passed to :func:`indiseek_sc.tl.modality_importance`.
    modalities
        Displayed names of the modalities ``"rna"`` and ``"adt"``; by default the user's names.
    ax
        Axes to draw on; by default a new figure, sized for the labels.
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
        If the table is missing or lacks a column.
    ValueError
        If the table is empty, or an argument has an unknown value.

    Examples
    --------
    >>> _ = isk.tl.modality_importance(mdata, "cell_type")
    >>> ax = isk.pl.importance_ranking(mdata, score="theta", show=False)
    >>> len(ax.get_yticklabels()) == mdata.obs["cell_type"].nunique()
    True
    """
    check_name("latent", latent, _LATENTS)
    if score is not None:
        check_name("score", score, get_args(Score))
    if modalities is not None and not isinstance(modalities, Mapping):
        raise ValueError(f"modalities must map 'rna' and 'adt' to names to print, but is {modalities!r}.")
    if not isinstance(mdata, pd.DataFrame):
        check_mdata(mdata)
    table, score = _find_table(mdata, latent, score)
    key = _keys.with_latent_suffix(_keys.IMPORTANCE, latent)
    warn_if_stale(mdata, key, "modality_importance(mdata, label_key=...)")
    noted = {} if isinstance(mdata, pd.DataFrame) else mdata.uns.get(f"{key}_params", {})
    names = {role: role for role in _keys.ROLES} if isinstance(mdata, pd.DataFrame) else modality_names(mdata)
    names |= noted.get("modalities", {}) | dict(modalities or {})
    row_height = _TWO_LINE_ROW_HEIGHT if any("\n" in label for label in _wrapped(table["label"])) else _ROW_HEIGHT
    longest = max(len(str(name)) for name in [*table["label"], *map(display_name, names.values())])
    width = COLUMN if longest <= _MAX_NARROW_LENGTH else PAGE
    with one_panel(ax, inches(width, row_height * len(table) + _MARGIN), show) as (ax, show):
        if score == "information":
            _draw_information(ax, table)
            _annotate_information(ax, table, names, noted)
        else:
            _draw_theta(ax, table)
            _annotate_theta(ax, table, names, noted)
        return finish(page(ax), ax, show=show, save=save)


def _find_table(mdata: MuData | pd.DataFrame, latent: str, score: Score | None) -> tuple[pd.DataFrame, Score]:
    """Return the checked and sorted table, and the score to draw."""
    key = _keys.with_latent_suffix(_keys.IMPORTANCE, latent)
    if not isinstance(mdata, pd.DataFrame) and key not in mdata.uns:
        of = "" if latent == "specific" else f", latent={latent!r}"
        raise KeyError(
            f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.modality_importance(mdata, label_key=...{of}) first."
        )
    table = mdata if isinstance(mdata, pd.DataFrame) else mdata.uns[key]
    if score is None:
        score = "information" if "information_difference" in table else "theta"
    lacking = [column for column in _COLUMNS[score] if column not in table]
    if lacking:
        how = " Information needs refits: model.write_refits()." if score == "information" else ""
        raise KeyError(
            f"The table lacks the columns {lacking}; it has {list(table.columns)}. "
            f"Pass the table of indiseek_sc.tl.modality_importance.{how}"
        )
    if table.empty:
        raise ValueError(
            "The table has no rows, but needs one for each label. Pass the table of indiseek_sc.tl.modality_importance."
        )
    by = "information_difference" if score == "information" else "theta"
    return table.sort_values(by, ascending=False, kind="stable", ignore_index=True), score


def _draw_theta(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one row per label: dot, interval, name on the left and number of cells on the right."""
    _draw_frame(ax, table)
    for row, label in table.iterrows():
        color = _UNDECIDED if _includes_0(label) else ROLE_COLORS["rna" if label["theta"] > 0 else "adt"]
        face = color if label["reliable"] else "white"
        _draw_estimate(ax, row, label["theta"], label["lower"], label["upper"], color, face)
    ax.set(xlim=_limits(table))
    ax.xaxis.set_major_locator(MaxNLocator(6))


def _draw_information(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one row per label, with a dot and an interval for each modality, RNA above."""
    ax.set_xscale("symlog", linthresh=_LINEAR, linscale=0.7)
    _draw_frame(ax, table)
    for row, label in table.iterrows():
        for role, shift in zip(_keys.ROLES, (-0.17, 0.17), strict=True):
            value, lower, upper = (label[f"information_{role}{end}"] for end in ("", "_lower", "_upper"))
            _draw_estimate(ax, row + shift, value, lower, upper, ROLE_COLORS[role], ROLE_COLORS[role])
    colors = {str(role): color for role, color in ROLE_COLORS.items()}
    for text, claim in zip(ax.get_yticklabels(), table["claim"], strict=True):
        text.set_color(colors.get(claim, _UNDECIDED))
        text.set_fontweight("bold" if claim in colors else "normal")
    ends = table[[f"information_{role}_{end}" for role in _keys.ROLES for end in ("lower", "upper")]].to_numpy(float)
    known = ends[np.isfinite(ends)]
    low, high = (min(known.min(), 0), max(known.max(), 0)) if len(known) else (0, 0)
    low, high = min(1.15 * low, -_LINEAR / 2), max(1.15 * high, 1.0)
    ticks = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    ticks = np.concatenate([-ticks[[1, 3, 5, 7]][::-1], [0], ticks])
    ax.xaxis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlim=(low, high))


def _draw_estimate(ax: Axes, row: float, value: float, lower: float, upper: float, color: str, face: str) -> None:
    ax.plot([lower, upper], [row, row], color=color, linewidth=1.3, solid_capstyle="butt", zorder=2)
    ax.plot(value, row, "o", color=color, markerfacecolor=face, markersize=4, markeredgewidth=1, zorder=3)


def _draw_frame(ax: Axes, table: pd.DataFrame) -> None:
    """Draw row labels, numbers of cells, and the line at 0."""
    rows = np.arange(len(table))
    ax.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    ax.hlines(rows, 0, 1, transform=ax.get_yaxis_transform(), color="0.92", linewidth=0.6, zorder=0)
    for row, n_cells in enumerate(table["n_cells"]):
        ax.annotate(
            f"{n_cells:,}",
            (1, row),
            xycoords=ax.get_yaxis_transform(),
            xytext=(_count_offset(table), 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            annotation_clip=False,
        )
    ax.set_yticks(rows, _wrapped(table["label"]))
    ax.set(ylim=(len(table) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _count_offset(table: pd.DataFrame) -> float:
    """Return the offset of the right-aligned numbers of cells from the panel, in points."""
    return 8 + 4.5 * max(len("cells"), len(f"{table['n_cells'].max():,}"))


def _wrapped(labels: pd.Series) -> list[str]:
    """Wrap labels to at most two lines."""
    lines = (textwrap.wrap(str(label), _MAX_LABEL_LENGTH, max_lines=2, placeholder=" ...") or [""] for label in labels)
    return ["\n".join(map(as_text, of_label)) for of_label in lines]


def _includes_0(label: pd.Series) -> bool:
    return bool(label["lower"] <= 0 <= label["upper"])


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Return limits of theta that include 0 and leave room for the headings on both sides."""
    values = table[["theta", "lower", "upper"]].to_numpy(dtype=float)
    low, high = max(-np.nanmin(values), 0), max(np.nanmax(values), 0)
    widest = max(low, high) or 1.0
    return -1.08 * max(low, _MIN_SIDE * widest), 1.08 * max(high, _MIN_SIDE * widest)


_ABOVE: Any = {"textcoords": "offset points", "va": "bottom"}


def _annotate_theta(ax: Axes, table: pd.DataFrame, names: Mapping[str, str], noted: Mapping[str, object]) -> None:
    """Write the headings of both sides of 0 and the caption."""
    rna, adt = (display_name(str(names[role])) for role in _keys.ROLES)
    above: Any = {**_ABOVE, "xycoords": ax.get_xaxis_transform(), "fontweight": "bold"}
    left, right = (textwrap.fill(name, 18) for name in (adt, rna))
    # In a narrow panel the heading on the right would overlap that of the numbers of cells.
    space = "\n" if _is_narrow(ax) else " "
    ax.annotate(f"{left}\n← resolves{space}better", (0, 1), (-5, 3), ha="right", color=ROLE_COLORS["adt"], **above)
    ax.annotate(f"{right}\nresolves{space}better →", (0, 1), (5, 3), ha="left", color=ROLE_COLORS["rna"], **above)
    _annotate_count(ax, table)
    caption = f"θ: log ratio of neighbourhood purities, {rna} over {adt}"
    latent = noted.get("latent", "specific")
    if latent != "specific":
        which = (
            "the shared and specific representations together" if latent == "both" else f"the {latent} representations"
        )
        caption += f"\nin {which}"
    caption += f"\n(mean over cells, {_interval(noted)})"
    if not table["reliable"].all():
        few = (
            f"fewer than {noted['minimum_cells']} cells"
            if "minimum_cells" in noted
            else "too few cells for a reliable estimate"
        )
        caption += f"\nhollow dot: {few}"
    if any(_includes_0(label) for _, label in table.iterrows()):
        caption += "\ngrey: the interval includes 0"
    _write_caption(ax, caption, table)


def _annotate_information(ax: Axes, table: pd.DataFrame, names: Mapping[str, str], noted: Mapping[str, object]) -> None:
    """Write the legend of the modalities and the caption."""
    rna, adt = (textwrap.shorten(display_name(str(names[role])), 40, placeholder=" ...") for role in _keys.ROLES)
    above: Any = {**_ABOVE, "xycoords": "axes fraction", "ha": "left", "fontweight": "bold"}
    ax.annotate(f"● {rna}-specific", (0, 1), (0, 12), color=ROLE_COLORS["rna"], **above)
    ax.annotate(f"● {adt}-specific", (0, 1), (0, 3), color=ROLE_COLORS["adt"], **above)
    _annotate_count(ax, table)
    caption = (
        f"information about the label beyond the shared representations, bits per cell of the label\n({_interval(noted)}; "
        f"linear up to {_LINEAR:g}, logarithmic beyond)"
    )
    claimed = table["claim"].isin(list(_keys.ROLES))
    if claimed.any():
        caption += "\ncoloured label: resolved better by this modality (false discovery rate 5 %)"
    if not claimed.all():
        caption += "\ngrey label: no difference established"
    _write_caption(ax, caption, table)


def _is_narrow(ax: Axes) -> bool:
    """Return whether a panel has little room for headings, alone or as one of several."""
    return ax.get_position().width * page(ax).get_figwidth() < 1.25 * inches(COLUMN, 0)[0]


def _write_caption(ax: Axes, caption: str, table: pd.DataFrame) -> None:
    """Write the caption below the panel; in a narrow panel it extends below the row labels."""
    room = COLUMN - _count_offset(table) / 72 * 25.4
    width = int(room / _LETTER) if _is_narrow(ax) else _MAX_CAPTION_LENGTH
    text = "\n".join(textwrap.fill(line, width) for line in caption.split("\n"))
    if _is_narrow(ax):
        ax.set_xlabel(text, loc="right", multialignment="center", fontsize=plt.rcParams["legend.fontsize"])
    else:
        ax.set_xlabel(text)


def _annotate_count(ax: Axes, table: pd.DataFrame) -> None:
    ax.annotate("cells", (1, 1), (_count_offset(table), 3), xycoords="axes fraction", ha="right", **_ABOVE)


def _interval(noted: Mapping[str, object]) -> str:
    """Describe the sources of variation that the intervals include."""
    confidence = f"{noted['confidence']:.0%} " if "confidence" in noted else ""
    if noted.get("n_refits"):
        units = "samples" if noted.get("sample_key") else "cells"
        return f"{confidence}interval over {units} and {noted['n_refits']} refits"
    return f"{confidence}bootstrap interval over cells only"
