"""Heat map of the features that drive the dimensions of a representation."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_name, check_several, check_whole
from indiseek_sc.pl._style import COLUMN, MISSING, PAGE, as_text, display_name, finish, inches, one_panel, page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

Measure = Literal["attribution", "magnitude"]

_COLUMNS = ("modality", "kind", "method", "dimension", "group", "n_cells", "feature", "attribution", "magnitude")
_ONE_OF_EACH = ("modality", "kind", "method")
_ALL = "all"

_SIGNED, _UNSIGNED = "PRGn_r", "cividis_r"
"""Purple above 0 and green below, which colour-blind readers tell apart too, and neither of which stands for a modality."""

_WIDEST_NAME = 24

_MOST_IN_A_COLUMN = 16
"""Columns of a heat map that fit into one column of a journal."""

_WIDEST_CAPTION = 46

_SATURATED = 0.02
"""The largest values, this share of all that are drawn, have the last colour, so that the others are not all pale."""

_CAPTIONS = {
    ("decoder_jacobian", "attribution"): "change of the decoded, normalised value per s.d. of the dimension",
    (
        "decoder_jacobian",
        "magnitude",
    ): "change of the decoded, normalised value per s.d. of the dimension, r.m.s. over cells",
    ("integrated_gradients", "attribution"): "contribution to the place in the representation, mean over cells",
    ("integrated_gradients", "magnitude"): "contribution to the place in the representation, r.m.s. over cells",
}


def attribution(
    table: pd.DataFrame,
    *,
    n_top: int = 4,
    dimensions: Sequence[int] | None = None,
    groups: Sequence[str] | str | None = None,
    measure: Measure | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw the features that drive each dimension of a representation, or one dimension in each group of cells, as a heat map.

    Of each column the features with the largest values, whatever their sign, have a row; a feature stands with the column where it has
    its largest one. White is 0, and the largest 2 % of the values have the last colour. Numbers behind groups are of cells.

    Parameters
    ----------
    table
        What ``model.feature_attribution`` returned: one modality, kind and method.
    n_top
        So many features of each column.
    dimensions
        Dimensions to draw; all if not given.
    groups
        Groups of cells to draw; all if not given. Either one group or one dimension must be left: the other makes the columns.
    measure
        ``"attribution"``, signed, or ``"magnitude"``. If not given, the first one, except for integrated gradients over all cells, which
        nearly cancel.
    ax
        Where to draw; by default a figure of its own, as large as rows and columns need.
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
        If the table lacks a column.
    ValueError
        If the table has no row, more than one modality, kind or method, or no such dimension or group; if several dimensions and several
        groups are left; or if ``n_top`` is below 1.
    """
    _check(table, n_top, measure)
    table = _choose(table, dimensions, groups)
    across = "group" if table["dimension"].nunique() == 1 and table["group"].nunique() > 1 else "dimension"
    if measure is None:
        cancels = table["method"].iloc[0] == "integrated_gradients" and list(table["group"].unique()) == [_ALL]
        measure = "magnitude" if cancels else "attribution"
    matrix = _arrange(table.pivot(index="feature", columns=across, values=measure), n_top)
    longest = max(len(_short(name)) for name in matrix.columns) if across == "group" else 0
    width = COLUMN if matrix.shape[1] <= _MOST_IN_A_COLUMN else PAGE
    height = 3.4 * len(matrix) + 1.2 * longest + 24
    with one_panel(ax, inches(width, height), show) as (ax, show):
        _draw_cells(ax, matrix, measure, str(table["method"].iloc[0]))
        _annotate(ax, table, matrix, across)
        return finish(page(ax), ax, show=show, save=save)


def _check(table: pd.DataFrame, n_top: int, measure: str | None) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be that of model.feature_attribution, but is {type(table).__name__}.")
    lacking = [column for column in _COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"table lacks the columns {lacking}; it has {list(table.columns)}. Pass that of model.feature_attribution."
        )
    if table.empty:
        raise ValueError(
            "table has no row. Pass that of model.feature_attribution, of a representation that has dimensions."
        )
    for column in _ONE_OF_EACH:
        if len(several := list(table[column].unique())) > 1:
            raise ValueError(
                f"table holds several of {column}: {several}. Draw one at a time: table[table[{column!r}] == {several[0]!r}]."
            )
    check_whole("n_top", n_top, 1)
    if measure is not None:
        check_name("measure", measure, get_args(Measure))


def _choose(table: pd.DataFrame, dimensions: Sequence[int] | None, groups: Sequence[str] | str | None) -> pd.DataFrame:
    for argument, column, given in (("dimensions", "dimension", dimensions), ("groups", "group", groups)):
        if given is None:
            continue
        wanted = check_several(argument, given)
        known = table[column].unique().tolist()
        if unknown := [value for value in wanted if value not in known]:
            raise ValueError(f"{argument}: the table has no {column} {unknown[0]!r}, only {known}.")
        table = table[table[column].isin(list(wanted))]
        if table.empty:
            raise ValueError(f"{argument} names none; the table has {known}.")
    n_dimensions, n_groups = table["dimension"].nunique(), table["group"].nunique()
    if n_dimensions > 1 and n_groups > 1:
        raise ValueError(
            f"table holds {n_dimensions} dimensions in {n_groups} groups. Draw one group (groups={str(table['group'].iloc[0])!r}) "
            f"or one dimension (dimensions=[{table['dimension'].iloc[0]}])."
        )
    return table


def _arrange(matrix: pd.DataFrame, n_top: int) -> pd.DataFrame:
    """The largest features of each column, in a staircase: those of the first column on top, high before low."""
    size = matrix.abs().to_numpy()
    largest = np.argsort(-size, axis=0, kind="stable")[:n_top]
    rows = np.unique(largest[np.take_along_axis(size, largest, axis=0) > 0])
    if not rows.size:  # all are 0: show some, so that this is seen
        rows = np.arange(min(n_top, len(matrix)))
    column = size[rows].argmax(axis=1)
    value = matrix.to_numpy()[rows, column]
    return matrix.iloc[rows[np.lexsort([-value, column])]]


def _draw_cells(ax: Axes, matrix: pd.DataFrame, measure: str, method: str) -> None:
    values = np.ma.masked_invalid(matrix.to_numpy(dtype=float))
    size = np.abs(values.compressed())
    limit = float(np.quantile(size, 1 - _SATURATED)) or float(size.max()) or 1.0
    is_signed = measure == "attribution"
    image = ax.pcolormesh(
        values,
        cmap=_SIGNED if is_signed else _UNSIGNED,
        vmin=-limit if is_signed else 0,
        vmax=limit,
        edgecolors="white",
        linewidth=0.5,
    )
    ax.set_facecolor(MISSING)
    beyond = "neither" if size.max() <= limit else "both" if is_signed else "max"
    bar = page(ax).colorbar(image, ax=ax, extend=beyond, location="bottom", shrink=0.8, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(textwrap.fill(_CAPTIONS[method, measure], _WIDEST_CAPTION))


def _annotate(ax: Axes, table: pd.DataFrame, matrix: pd.DataFrame, across: str) -> None:
    """Name rows and columns, and say what is drawn above them."""
    ax.set_ylim(len(matrix), 0)
    ax.set_yticks(np.arange(len(matrix)) + 0.5, [_short(name) for name in matrix.index])
    names = [_short(name) for name in matrix.columns]
    kind, modality = str(table["kind"].iloc[0]), display_name(str(table["modality"].iloc[0]))
    title = {"specific": f"{modality}-specific representation", "shared": f"shared representation of {modality}"}.get(
        kind, f"{kind} representation, {modality}"
    )
    if across == "dimension":
        ax.set_xlabel("dimension")
        # A tall figure is read from both sides.
        ax.tick_params(labeltop=True)
        group = str(table["group"].iloc[0])
        title += "" if group == _ALL else f", {_short(group)}"
    else:
        n_cells = table.drop_duplicates("group").set_index("group")["n_cells"]
        names = [f"{name} ({n_cells[group]:,})" for name, group in zip(names, matrix.columns, strict=True)]
        ax.set_xlabel("group (cells)")
        title += f", dimension {table['dimension'].iloc[0]}"
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90 if max(map(len, names)) > 3 else 0)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(title[0].upper() + title[1:], loc="left")


def _short(name: object) -> str:
    return as_text(name, _WIDEST_NAME)
