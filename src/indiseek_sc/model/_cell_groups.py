"""The groups of cells that something is averaged over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc._lookup import find_obs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

ALL = "all"
"""What the one group is called where nobody told groups apart."""


def find_groups(mdata: MuData, groups: str | Sequence[Any] | np.ndarray | pd.Series | None) -> pd.Categorical:
    """Return the label of each cell of ``mdata``: a column of ``obs``, values as given, or one group of all.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there is not one value for each cell.
    """
    if groups is None:
        return pd.Categorical([ALL] * mdata.n_obs)
    labels = find_obs(mdata, groups, "groups") if isinstance(groups, str) else groups
    values = pd.Categorical(labels)
    if len(values) != mdata.n_obs:
        raise ValueError(
            f"groups: one label is needed for each cell of mdata ({mdata.n_obs:,}), but there are {len(values):,}."
        )
    if isinstance(labels, pd.Series) and not labels.index.equals(mdata.obs_names) and isinstance(labels.index[0], str):
        name = next(a for a, b in zip(labels.index, mdata.obs_names, strict=True) if a != b)
        raise ValueError(
            f"groups: its index is not that of the cells, first at {name!r}. Give groups.reindex(mdata.obs_names)."
        )
    return values.rename_categories([str(name) for name in values.categories])


def draw_cells(
    labels: pd.Categorical, rows: np.ndarray, max_cells: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return row numbers, ascending, of at most ``max_cells`` cells of each group that occurs among ``rows``.

    Raises
    ------
    ValueError
        If none of the cells has a label.
    """
    codes = labels.codes[rows]
    cells = {}
    for code, name in enumerate(labels.categories):
        of_group = rows[codes == code]
        if of_group.size:
            cells[name] = np.sort(rng.permutation(of_group)[:max_cells])
    if not cells:
        raise ValueError(
            "groups: none of the cells looked at has a label. "
            if rows.size
            else "indices: there is no cell to look at. "
        )
    return cells
