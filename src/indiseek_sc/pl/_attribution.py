"""Heat map of the features associated with the dimensions of a representation."""

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
_CONSTANT_COLUMNS = ("modality", "kind", "method")
_ALL = "all"

_SIGNED, _UNSIGNED = "PRGn_r", "cividis_r"
"""Purple above 0 and green below: distinguishable for colour-blind readers, and different from the
colours of the modalities."""

_MAX_NAME_LENGTH = 24

_MAX_NARROW_COLUMNS = 16
"""Largest number of columns of a heat map that fits one column of a journal."""

_MAX_CAPTION_LENGTH = 46

_SATURATED = 0.02
"""Share of the largest values that saturate the colour scale, so that the others remain visible."""

_CAPTIONS = {
    ("decoder_jacobian", "attribution"): "change of the decoded, normalised value per s.d. of the dimension",
    (
        "decoder_jacobian",
        "magnitude",
    ): "change of the decoded, normalised value per s.d. of the dimension, r.m.s. over cells",
    ("integrated_gradients", "attribution"): "contribution to the position in the representation, mean over cells",
    ("integrated_gradients", "magnitude"): "contribution to the position in the representation, r.m.s. over cells",
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
    """Draw a heat map of the features with the largest attributions.

    Columns are the dimensions of a representation, or groups of cells for a single dimension. Rows
    are the features with the largest absolute values in each column; a feature is sorted by the
    column in which its value is largest. White is 0, and the largest 2 % of the values saturate the
    colour scale. Numbers after groups are numbers of cells.

    Parameters
    ----------
    table
        Result of ``model.feature_attribution`` for one modality, kind and method.
    n_top
        Number of features of each column.
    dimensions
        Dimensions to draw; all if not given.
    groups
        Groups of cells to draw; all if not given. Select a single group or a single dimension.
    measure
        ``"attribution"`` (signed) or ``"magnitude"``. By default the attribution, except for
        integrated gradients over all cells, which nearly cancel.
    ax
        Axes to draw on; by default a new figure, sized for the rows and columns.
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
        If the table lacks a column.
    ValueError
        If the table is empty, has more than one modality, kind or method, or lacks a dimension or
        group; if several dimensions and several groups are selected; or if ``n_top`` is below 1.

    Examples
    --------
    >>> table = model.feature_attribution(modality="rna", kind="specific", max_cells=20)
    >>> ax = isk.pl.attribution(table, n_top=2, show=False)
    >>> ax.get_xlabel()
    'dimension'
    """
    _check(table, n_top, measure)
    table = _choose(table, dimensions, groups)
    across = "group" if table["dimension"].nunique() == 1 and table["group"].nunique() > 1 else "dimension"
    if measure is None:
        cancels = table["method"].iloc[0] == "integrated_gradients" and list(table["group"].unique()) == [_ALL]
        measure = "magnitude" if cancels else "attribution"
    matrix = _arrange(table.pivot(index="feature", columns=across, values=measure), n_top)
    longest = max(len(_short(name)) for name in matrix.columns) if across == "group" else 0
    width = COLUMN if matrix.shape[1] <= _MAX_NARROW_COLUMNS else PAGE
    height = 3.4 * len(matrix) + 1.2 * longest + 24
    with one_panel(ax, inches(width, height), show) as (ax, show):
        _draw_cells(ax, matrix, measure, str(table["method"].iloc[0]))
        _annotate(ax, table, matrix, across)
        return finish(page(ax), ax, show=show, save=save)


def _check(table: pd.DataFrame, n_top: int, measure: str | None) -> None:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be the result of model.feature_attribution, but is {type(table).__name__}.")
    lacking = [column for column in _COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"table lacks the columns {lacking}; it has {list(table.columns)}. "
            "Pass the result of model.feature_attribution."
        )
    if table.empty:
        raise ValueError(
            "table has no rows. Pass the result of model.feature_attribution for a representation with dimensions."
        )
    for column in _CONSTANT_COLUMNS:
        if len(several := list(table[column].unique())) > 1:
            raise ValueError(
                f"table contains several values of {column}: {several}. Draw one at a time: "
                f"table[table[{column!r}] == {several[0]!r}]."
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
            raise ValueError(f"{argument} is empty; the table has {known}.")
    n_dimensions, n_groups = table["dimension"].nunique(), table["group"].nunique()
    if n_dimensions > 1 and n_groups > 1:
        raise ValueError(
            f"table contains {n_dimensions} dimensions in {n_groups} groups. Draw one group (groups={str(table['group'].iloc[0])!r}) "
            f"or one dimension (dimensions=[{table['dimension'].iloc[0]}])."
        )
    return table


def _arrange(matrix: pd.DataFrame, n_top: int) -> pd.DataFrame:
    """Select the largest features of each column.

    Rows are sorted by the column of their largest value, and within a column from positive to
    negative.
    """
    size = matrix.abs().to_numpy()
    largest = np.argsort(-size, axis=0, kind="stable")[:n_top]
    rows = np.unique(largest[np.take_along_axis(size, largest, axis=0) > 0])
    if not rows.size:  # all values are 0: show some features anyway
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
    bar.set_label(textwrap.fill(_CAPTIONS[method, measure], _MAX_CAPTION_LENGTH))


def _annotate(ax: Axes, table: pd.DataFrame, matrix: pd.DataFrame, across: str) -> None:
    """Label rows and columns, and write the title."""
    ax.set_ylim(len(matrix), 0)
    ax.set_yticks(np.arange(len(matrix)) + 0.5, [_short(name) for name in matrix.index])
    names = [_short(name) for name in matrix.columns]
    kind, modality = str(table["kind"].iloc[0]), display_name(str(table["modality"].iloc[0]))
    title = {"specific": f"{modality}-specific representation", "shared": f"shared representation of {modality}"}.get(
        kind, f"{kind} representation, {modality}"
    )
    if across == "dimension":
        ax.set_xlabel("dimension")
        # Tall figures have column labels at both ends.
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
    return as_text(name, _MAX_NAME_LENGTH)
