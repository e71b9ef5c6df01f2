"""Reading a table of attributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

COLUMNS = ("modality", "kind", "method", "dimension", "group", "feature", "attribution", "magnitude")


def check_attributions(table: pd.DataFrame, one_of_each: Sequence[str] = ()) -> None:
    """Check that ``table`` is one of ``model.feature_attribution`` and holds one value only in some of its columns.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the table has no row, or several values in one of the columns ``one_of_each``.
    """
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"table lacks the columns {lacking}; it has {list(table.columns)}. Pass that of model.feature_attribution."
        )
    if table.empty:
        raise ValueError("table has no row. Pass that of model.feature_attribution, of a code that has dimensions.")
    for column in one_of_each:
        if len(several := list(table[column].unique())) > 1:
            raise ValueError(
                f"table holds several of {column}: {several}. Choose one: table[table[{column!r}] == {several[0]!r}]."
            )


def choose_group(table: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """Return the rows of one group of cells; it need not be named if there is but one.

    Raises
    ------
    ValueError
        If there are several and none is named, or none of that name.
    """
    groups = [str(name) for name in table["group"].unique()]
    if group is None and len(groups) > 1:
        raise ValueError(f"group: the table holds {len(groups)} groups of cells; name one of {groups}.")
    if group is not None and group not in groups:
        raise ValueError(f"group={group!r} is not in the table, which holds {groups}.")
    return table[table["group"] == (groups[0] if group is None else group)]
