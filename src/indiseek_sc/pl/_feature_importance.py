"""Figure of the importance of input features for a representation."""

from __future__ import annotations

import textwrap
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from indiseek_sc._checks import check_whole
from indiseek_sc.pl._style import (
    COLUMN,
    PALETTE,
    as_text,
    display_name,
    finish,
    inches,
    modality_colors,
    one_panel,
    page,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

_COLUMNS = ("feature", "importance", "standard_error", "method", "kind", "modality")
_CONSTANT_COLUMNS = ("method", "kind", "modality")
_TWO_SIDED_95 = 1.96
"""Half-width of a two-sided 95 % interval, in standard errors."""
_MAX_NAME_LENGTH = 24
_MAX_CAPTION_LENGTH = 52

_LEGEND_WIDTH = 46
_HANDLE_WIDTH = 8
"""Width of a legend above the panel, and of the mark of an entry, in letters."""

_GROUP_COLORS = {"shared": PALETTE[7], "private": PALETTE[0], "both": PALETTE[5], "none": "0.75"}
"""Colours of the groups of the synthetic suite, different from those of the modalities. Other
groups take further colours of the palette in turn."""

_CAPTIONS = {
    "jacobian": (
        "mean squared slope of the {kind} representation of {modality},",
        "per standard deviation of the feature:",
        "what the encoder uses{both}",
    ),
    "permutation": (
        "change of the {kind} representation of {modality}, over twice its variance,",
        "when the feature is permuted among cells:",
        "what the encoder uses{both}",
    ),
    "probe": (
        "held-out R² from the {kind} representation of {modality} to the feature:",
        "what the representation contains",
    ),
}


def feature_importance(
    table: pd.DataFrame,
    *,
    groups: Mapping[str, str] | None = None,
    n_top: int = 40,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw the importance of input features with intervals, by group and in descending order.

    Parameters
    ----------
    table
        Result of ``model.feature_importance`` for one method, representation and modality.
    groups
        Group of each feature, by its name; all features have the same colour if not given. For the
        synthetic suite use
        ``mdata.uns["synthetic"]["coordinates"].set_index("coordinate")["group"]``.
    n_top
        Number of features to draw, those with the largest importance.
    ax
        Axes to draw on; by default a new figure, sized for the features.
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
        If the table lacks a column, or ``groups`` lacks a feature.
    ValueError
        If the table is empty or has more than one method, representation or modality, or ``n_top``
        is below 1.

    Examples
    --------
    >>> table = pd.DataFrame({"feature": ["CD3", "CD19"], "importance": [0.8, 0.3]})
    >>> table = table.assign(standard_error=0.02, method="probe", kind="shared", modality="adt")
    >>> ax = isk.pl.feature_importance(table, show=False)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['CD3', 'CD19']
    """
    _check(table, n_top)
    drawn = table.nlargest(n_top, "importance", keep="first")
    group = _find_groups(drawn["feature"], groups)
    places = {name: place for place, name in enumerate(dict.fromkeys([*_GROUP_COLORS, *group]))}
    order = np.lexsort([-drawn["importance"], np.array([places[name] for name in group])])
    drawn, group = drawn.iloc[order].reset_index(drop=True), [group[i] for i in order]
    height = 3.6 * (len(drawn) + _n_legend_rows(group)) + 22
    with one_panel(ax, inches(COLUMN, height), show) as (ax, show):
        _draw_rows(ax, drawn, group, modality_colors(table["modality"])[str(table["modality"].iloc[0])])
        _annotate(ax, table, len(drawn))
        return finish(page(ax), ax, show=show, save=save)


def _check(table: pd.DataFrame, n_top: int) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be the result of model.feature_importance, but is {type(table).__name__}.")
    lacking = [column for column in _COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"table lacks the columns {lacking}; it has {list(table.columns)}. "
            "Pass the result of model.feature_importance."
        )
    if table["importance"].notna().sum() == 0:
        raise ValueError("table has no finite importance. Pass the result of model.feature_importance.")
    for column in _CONSTANT_COLUMNS:
        if table[column].nunique() > 1:
            raise ValueError(
                f"table contains several values of {column}: {list(table[column].unique())}. Draw one at a time."
            )
    check_whole("n_top", n_top, 1)


def _find_groups(features: pd.Series, groups: Mapping[str, str] | None) -> list[str]:
    if groups is None:
        return [""] * len(features)
    known = dict(groups)
    lacking = [name for name in features if name not in known]
    if lacking:
        raise KeyError(f"groups lacks {len(lacking)} features of the table, such as {lacking[0]!r}.")
    return [str(known[name]) for name in features]


def _draw_rows(ax: Axes, drawn: pd.DataFrame, group: list[str], color: str) -> None:
    """Draw the bar, interval and name of each feature, and a legend of groups."""
    rows = np.arange(len(drawn))
    further = cycle(color for color in PALETTE if color not in _GROUP_COLORS.values())
    colors = {"": color} | {name: _GROUP_COLORS.get(name) or next(further) for name in dict.fromkeys(group) if name}
    value = drawn["importance"].to_numpy(dtype=float)
    ax.barh(rows, value, 0.74, color=[colors[name] for name in group])
    ax.errorbar(
        value,
        rows,
        xerr=_TWO_SIDED_95 * drawn["standard_error"].to_numpy(dtype=float),
        fmt="none",
        ecolor="black",
        elinewidth=0.8,
    )
    ax.axvline(0, color="0.4", linewidth=0.6)
    ax.set_yticks(rows, [_short(name) for name in drawn["feature"]])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    if named := _named(group):
        marks = [
            Line2D([], [], marker="s", linestyle="", markersize=5, color=colors[name], label=_short(name))
            for name in named
        ]
        n_columns = -(-len(named) // _n_legend_rows(group))
        ax.legend(handles=marks, loc="lower left", bbox_to_anchor=(0, 1), ncols=n_columns, borderaxespad=0.2)


def _named(group: list[str]) -> list[str]:
    """Return the names of the groups, in the order of the rows."""
    return [name for name in dict.fromkeys(group) if name]


def _n_legend_rows(group: list[str]) -> int:
    """Return the number of rows that the legend needs above the panel."""
    named = _named(group)
    longest = max((len(_short(name)) for name in named), default=0)
    return -(-len(named) // max(1, _LEGEND_WIDTH // (longest + _HANDLE_WIDTH)))


def _short(name: object) -> str:
    return as_text(name, _MAX_NAME_LENGTH)


def _annotate(ax: Axes, table: pd.DataFrame, n_drawn: int) -> None:
    method, kind, modality = (str(table[column].iloc[0]) for column in _CONSTANT_COLUMNS)
    both = " (also through the shared representation)" if kind == "specific" else ""
    question = " ".join(_CAPTIONS[method]).format(kind=kind, modality=display_name(modality), both=both)
    caption = [question]
    caption.append(
        "lines: 95% interval over cells"
        + (f"; the {n_drawn:,} largest of {len(table):,}" if n_drawn < len(table) else "")
    )
    # The caption extends below the row labels, because the panel alone would be too narrow.
    ax.set_xlabel("\n".join(textwrap.fill(line, _MAX_CAPTION_LENGTH) for line in caption), loc="right")
    if method == "probe":  # so that a small R2 looks small
        ax.set_xlim(right=max(1.0, ax.get_xlim()[1]))
