"""Where the columns that a user names are found in a MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData

_N_SHOWN = 20


def find_obs(mdata: MuData, key: str, argument: str) -> pd.Series:
    """The observation column ``key``, one value a cell of ``mdata``.

    It is sought in ``mdata.obs``, then in the obs of each modality, where ``"rna:cell_type"`` is the column
    ``cell_type`` of the modality ``rna``. A column that several modalities have must say the same in all of them
    wherever they hold the same cells; what one modality misses is taken from the next.

    Parameters
    ----------
    mdata
        Where to look; it is not changed.
    key
        Name of the column, with or without the modality in front of it.
    argument
        Name of the argument that ``key`` was given as, for error messages.

    Returns
    -------
    Values indexed by ``mdata.obs_names``; missing where no modality that has the column holds the cell.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If modalities disagree about it.
    """
    if key in mdata.obs:
        return mdata.obs[key].copy()
    found = {}
    for name in mdata.mod:
        for column in (key, key.removeprefix(f"{name}:")):
            if column in mdata[name].obs:
                found[name] = mdata[name].obs[column].reindex(mdata.obs_names)
    if not found:
        raise KeyError(_not_found(mdata, key, argument))
    return _merge(found, key, argument)


def _merge(columns: dict[str, pd.Series], key: str, argument: str) -> pd.Series:
    """One column of several that agree."""
    (first, merged), *others = columns.items()
    for name, column in others:
        # Categories of two modalities may differ in what they leave out; values are what counts.
        left, right = merged.astype(object), column.astype(object)
        differ = left.notna() & right.notna() & (left != right)
        if differ.any():
            cells = _some(differ.index[differ], 5)
            raise ValueError(
                f"{argument}={key!r}: modalities {first!r} and {name!r} disagree about {cells}."
                f" Name one of them: {f'{first}:{key}'!r} or {f'{name}:{key}'!r}."
            )
        if merged.isna().any():
            merged = left.where(left.notna(), right)
    return merged.rename(key)


def _not_found(mdata: MuData, key: str, argument: str) -> str:
    there = {"mdata.obs": mdata.obs.columns} | {f"mdata[{name!r}].obs": mdata[name].obs.columns for name in mdata.mod}
    places = "; ".join(f"{place}: {_some(columns, _N_SHOWN) or 'nothing'}" for place, columns in there.items())
    return f"{argument}={key!r} is not a column of any obs. There is: {places}."


def _some(names: Iterable[str], n_shown: int) -> str:
    """The first of ``names``, and how many there are if that is not all."""
    listed = [str(name) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > n_shown else ""
    return ", ".join(listed[:n_shown]) + more
