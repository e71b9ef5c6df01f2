"""Rows of an antibody panel that the model does not read: controls, hashtags, and what is 0 in all cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._recognise import check_known, find_not_proteins
from indiseek_sc._text import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from indiseek_sc.data._source import InputSource
    from indiseek_sc.data._values import ValueScan

EMPTY = "empty"


def exclude_features(
    mdata: MuData, source: InputSource, scan: ValueScan, exclude: Sequence[str] | None
) -> tuple[InputSource, ValueScan, str]:
    """Decide which features of the proteins the model reads.

    Parameters
    ----------
    mdata
        The data, which keep all features.
    source
        Where the values of proteins are, all features of them.
    scan
        What a pass over them found.
    exclude
        Names of the features to leave out; those that are recognised if not given.

    Returns
    -------
    The source, and what was found, without these features; and a line that says which they are, empty if there are
    none.

    Raises
    ------
    TypeError
        If names are not given as a list.
    ValueError
        If a name does not exist, nothing is left, or names are given of a representation.
    """
    if isinstance(exclude, str):
        raise TypeError(f"exclude={exclude!r} must be a list of names: exclude=[{exclude!r}]")
    if source.attribute == "obsm":
        if exclude:
            raise ValueError(
                f"exclude: {source} is a representation, whose dimensions are no proteins. Leave exclude out."
            )
        return source, scan, ""
    names = source.get_feature_names(mdata)
    if exclude is None:
        kinds = find_not_proteins(names)
        known = {name for group in kinds.values() for name in group}
        if empty := [name for name in names[scan.empty_columns] if name not in known]:
            kinds[EMPTY] = empty
    else:
        check_known("exclude", exclude, names.tolist())
        kinds = {"named": list(exclude)} if len(exclude) else {}
    excluded = tuple(str(name) for group in kinds.values() for name in group)
    is_kept = ~np.isin(names, excluded)
    if not is_kept.any():
        told = "; ".join(f"{kind}: {listing(group)}" for kind, group in kinds.items())
        raise ValueError(
            f"exclude: no feature of {source} is left ({told}). Say which to leave out, or exclude=() for none."
        )
    kept = replace(
        scan,
        n_nonzero_per_column=scan.n_nonzero_per_column[is_kept],
        sum_per_column=scan.sum_per_column[is_kept],
    )
    counted = ", ".join(
        f"{len(group)} {kind.removesuffix('s') if len(group) == 1 else kind} ({listing(group)})"
        for kind, group in kinds.items()
    )
    hint = "; exclude=() would keep them" if exclude is None else ""
    line = f"{source.role}: left out of the representations: {counted}{hint}." if excluded else ""
    return replace(source, features=tuple(names[is_kept].tolist())) if excluded else source, kept, line
