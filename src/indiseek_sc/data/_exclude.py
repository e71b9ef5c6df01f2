"""Features of an antibody panel that are excluded: controls, hashtags, and empty features."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._recognise import check_known, find_not_proteins
from indiseek_sc._text import listing
from indiseek_sc.data._matrix import as_dense, iterate_parts, sum_of_each_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from mudata import MuData

    from indiseek_sc.data._scan import ValueScan
    from indiseek_sc.data._source import InputSource

EMPTY = "empty"
"""Kind of features that are 0 in all cells."""

CELLS_EXPECTED = 15
"""Expected number of positive cells above which zeros in a whole batch are not due to chance."""


def exclude_named(mdata: MuData, source: InputSource, exclude: Sequence[str]) -> InputSource:
    """Exclude the features that the user names.

    Parameters
    ----------
    mdata
        The data, which keep all features.
    source
        Location of the values of proteins, with all features.
    exclude
        Names of the features to exclude.

    Returns
    -------
    The source without these features.

    Raises
    ------
    TypeError
        If names are not given as a list.
    ValueError
        If a name does not exist, no feature is left, or the source is a representation.
    """
    if isinstance(exclude, str):
        raise TypeError(f"exclude={exclude!r} must be a list of names: exclude=[{exclude!r}]")
    if source.attribute == "obsm":
        if exclude:
            raise ValueError(f"exclude: {source} is a representation, whose dimensions are not proteins. Omit exclude.")
        return source
    check_known("exclude", exclude, source.get_feature_names(mdata).tolist())
    return _leave_out(mdata, source, {"named": list(exclude)})


def exclude_recognised(mdata: MuData, source: InputSource, scan: ValueScan) -> tuple[InputSource, ValueScan, str]:
    """Exclude features that are not proteins, by name, and features that are 0 in all cells.

    Parameters
    ----------
    mdata
        The data, which keep all features.
    source
        Location of the values of proteins, with all features.
    scan
        Result of the scan of the values.

    Returns
    -------
    The source and the scan without these features, and a text with the number and first names of
    each kind, which is empty if nothing is excluded.

    Raises
    ------
    ValueError
        If no feature is left.
    """
    if source.attribute == "obsm":
        return source, scan, ""
    names = source.get_feature_names(mdata)
    kinds = find_not_proteins(names)
    known = {name for group in kinds.values() for name in group}
    if empty := [name for name in names[scan.empty_columns] if name not in known]:
        kinds[EMPTY] = empty
    source = _leave_out(mdata, source, kinds)
    is_kept = np.isin(names, source.get_feature_names(mdata))
    kept = replace(
        scan,
        n_nonzero_per_column=scan.n_nonzero_per_column[is_kept],
        sum_per_column=scan.sum_per_column[is_kept],
    )
    counted = ", ".join(
        f"{len(group)} {kind.removesuffix('s') if len(group) == 1 else kind} ({listing(group)})"
        for kind, group in kinds.items()
    )
    return source, kept, counted


def _leave_out(mdata: MuData, source: InputSource, kinds: Mapping[str, Sequence[str]]) -> InputSource:
    names = source.get_feature_names(mdata)
    is_kept = ~np.isin(names, [str(name) for group in kinds.values() for name in group])
    if not is_kept.any():
        listed = "; ".join(f"{kind}: {listing(group)}" for kind, group in kinds.items())
        raise ValueError(
            f"exclude: no feature of {source} is left ({listed}). Say which to leave out, or exclude=() for none."
        )
    return source if is_kept.all() else replace(source, features=tuple(names[is_kept].tolist()))


def find_gaps(mdata: MuData, source: InputSource, batches: pd.Series) -> InputSource:
    """Return a source with the proteins that batches lack, which are NaN in all of their cells.

    The source is returned unchanged if there is no NaN, if NaN values do not cover whole batches,
    or if all batches have no protein in common.

    Parameters
    ----------
    mdata
        The data.
    source
        Location of the values of proteins.
    batches
        Batch of each cell, categorical, indexed by cell names.
    """
    values = source.get_values(mdata)
    if source.attribute == "obsm" or getattr(values, "dtype", np.dtype(int)).kind != "f":
        return source
    names, batches = source.get_feature_names(mdata), batches.reindex(source.get_cell_names(mdata))
    gaps = {}
    for batch in batches.cat.categories:
        rows, n_lacking = np.flatnonzero(batches == batch), np.zeros(names.size, dtype=np.int64)
        for part in iterate_parts(values, rows):
            n_lacking += np.isnan(as_dense(part)).sum(axis=0)
        if (n_lacking % max(rows.size, 1)).any():
            return source
        if n_lacking.any():
            gaps[str(batch)] = names[n_lacking > 0].tolist()
    lacking = {name for of_batch in gaps.values() for name in of_batch}
    nowhere = lacking.intersection(*gaps.values()) if len(gaps) == len(batches.cat.categories) else set()
    if not gaps or nowhere or len(lacking) == names.size:
        return source
    return replace(source, features=tuple(names.tolist()), gaps=gaps)


def find_not_in_batches(mdata: MuData, source: InputSource, batches: pd.Series) -> dict[str, list[str]]:
    """Return features that are 0 in all cells of a batch, but not by chance, by batch.

    They are most likely missing from its panel, which the data do not state.

    Parameters
    ----------
    mdata
        The data.
    source
        Location of the counts of proteins.
    batches
        Batch of each cell, categorical, indexed by cell names.
    """
    names, batches = source.get_feature_names(mdata), batches.reindex(source.get_cell_names(mdata))
    values, n_cells, n_seen = source.get_values(mdata), {}, {}
    for batch in batches.cat.categories:
        rows = np.flatnonzero(batches == batch)
        n_cells[str(batch)] = rows.size
        n_seen[str(batch)] = sum(sum_of_each_row((part > 0).T) for part in iterate_parts(values, rows))
    found = {}
    for batch, seen in n_seen.items():
        others = sum(n for other, n in n_seen.items() if other != batch)
        expected = others * n_cells[batch] / max(1, len(batches) - n_cells[batch])
        is_lacking = (seen == 0) & (expected > CELLS_EXPECTED) & ~np.isin(names, source.gaps.get(batch, ()))
        if lacking := names[is_lacking].tolist():
            found[batch] = lacking
    return found
