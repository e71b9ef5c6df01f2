"""Checks of the values of a modality, and what kind they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from indiseek_sc.data._matrix import as_row_major
from indiseek_sc.data._scan import Offenders, scan_values
from indiseek_sc.data._text import choices, listing
from indiseek_sc.nn import InputKind

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc.data._scan import ValueScan
    from indiseek_sc.data._source import InputSource

RequestedKind = Literal["auto", "counts", "normalized", "representation"]
"""What the user says that the values are; ``"auto"`` looks at them."""

N_SAMPLED = 1_000
"""Cells that are looked at where the whole was checked before."""


def examine_values(
    mdata: MuData, source: InputSource, requested: RequestedKind, *, is_sample_enough: bool = False
) -> tuple[InputKind, ValueScan]:
    """Look at all values of a modality once, refuse what cannot be used, and tell what they are.

    Parameters
    ----------
    mdata
        The data.
    source
        Where the values are.
    requested
        What the user says that they are.
    is_sample_enough
        Look at some of the cells only.

    Returns
    -------
    The kind, never ``"auto"``, and what the pass found.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If there are no values; if some are not finite; if they are given as counts but negative or fractional; if a
        cell has no RNA counts, so that it has no library size.
    """
    allowed = ("auto", *get_args(InputKind))
    if requested not in allowed:
        raise ValueError(f"{source.role}_input={requested!r} is not known. {choices(str(requested), allowed)}")
    values = source.get_values(mdata)
    if 0 in values.shape:
        raise ValueError(f"{_name(source)} is empty, its shape is {tuple(values.shape)}.")
    rows = None
    if is_sample_enough and values.shape[0] > N_SAMPLED:
        rows = np.linspace(0, values.shape[0] - 1, N_SAMPLED, dtype=int)
        values = as_row_major(values)[rows]
    try:
        scan = scan_values(values)
    except TypeError as error:
        raise TypeError(f"{_name(source)}: {error}") from None
    kind = _resolve_kind(source, requested, scan)
    _check_values(mdata, source, kind, scan, rows)
    return kind, scan


def _name(source: InputSource) -> str:
    return f"{source.role}_{'obsm_key' if source.attribute == 'obsm' else 'layer'}: {source}"


def _resolve_kind(source: InputSource, requested: RequestedKind, scan: ValueScan) -> InputKind:
    if requested != "auto":
        return requested
    if source.attribute == "obsm":
        return "representation"
    return "counts" if scan.are_counts else "normalized"


def _check_values(
    mdata: MuData, source: InputSource, kind: InputKind, scan: ValueScan, rows: np.ndarray | None
) -> None:
    cells, features = source.get_cell_names(mdata), source.get_feature_names(mdata)
    cells = cells if rows is None else cells[rows]
    where = _name(source)

    def show(found: Offenders) -> str:
        return "; ".join(f"{value:g} in cell {cells[i]!r}, {str(features[j])!r}" for i, j, value in found.first)

    if scan.nonfinite.count:
        raise ValueError(
            f"{where} has {scan.nonfinite.count:,} values that are not finite: {show(scan.nonfinite)}. "
            "Remove these cells or features, or fill the values in."
        )
    if kind != "counts":
        return
    for found, word in ((scan.negative, "negative"), (scan.fractional, "fractional")):
        if found.count:
            raise ValueError(
                f"{where} is taken as counts ({source.role}_input='counts') but has {found.count:,} {word} values: "
                f"{show(found)}. Name the layer with the raw counts, or set up with {source.role}_input='normalized'."
            )
    if source.role == "rna" and scan.empty_rows.size:
        raise ValueError(
            f"{where}: {scan.empty_rows.size:,} cells have no counts, so they have no library size: "
            f"{listing(cells[scan.empty_rows])}. "
            f"Remove them: mdata = mdata[numpy.ravel({source}.sum(axis=1)) > 0].copy()"
        )
