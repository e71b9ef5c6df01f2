"""Validation of the values of a modality, and detection of their kind."""

from __future__ import annotations

import warnings
from contextlib import suppress
from itertools import islice
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from indiseek_sc._checks import shown
from indiseek_sc._recognise import find_not_proteins
from indiseek_sc._text import N_SHOWN, choices, listing
from indiseek_sc.data._matrix import as_dense, as_readable, as_row_major, iterate_blocks
from indiseek_sc.data._scan import LARGEST, LARGEST_LOGARITHM, TOLERANCE, InvalidValues, ValueScan, scan_values
from indiseek_sc.nn import InputKind

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc.data._source import InputSource


RequestedKind = Literal["auto", "counts", "normalized", "representation"]
"""Kind of values given by the user; ``"auto"`` for detection."""

N_SAMPLED = 1_000
"""Number of cells examined in data that were validated before."""

N_FOR_HINT = 200
"""Number of cells examined for a hint."""


def examine_values(
    mdata: MuData,
    source: InputSource,
    requested: RequestedKind,
    *,
    is_sample_enough: bool = False,
    batches: pd.Series | None = None,
) -> tuple[InputKind, ValueScan]:
    """Validate all values of a modality, and detect their kind.

    Parameters
    ----------
    mdata
        The data.
    source
        Location of the values.
    requested
        Kind given by the user.
    is_sample_enough
        Whether to examine a sample of cells only.
    batches
        Batch of each cell, for error messages.

    Returns
    -------
    The kind, never ``"auto"``, and the scan.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If there are no values; if values are not finite or are masked; if integers are negative; if
        values given as counts are negative, or are fractional like logarithms; or if a cell has no
        RNA counts, and thus no library size.
    """
    allowed = ("auto", *get_args(InputKind))
    if requested not in allowed:
        raise ValueError(f"{source.role}_input={requested!r} is not known. {choices(str(requested), allowed)}")
    stored = source.get_stored(mdata)
    _check_type(mdata, source, stored)
    if 0 in stored.shape:
        raise ValueError(f"{_name(source)} is empty, its shape is {tuple(stored.shape)}.")
    rows = None
    try:
        values = source.get_values(mdata)
        if is_sample_enough and values.shape[0] > N_SAMPLED:
            rows = np.linspace(0, values.shape[0] - 1, N_SAMPLED, dtype=int)
            values = (as_readable(values) if issparse(values) else as_row_major(values))[rows]
        scan = scan_values(values)
    except TypeError as error:
        raise TypeError(f"{_name(source)}: {error}") from None
    kind = _resolve_kind(source, requested, scan)
    if scan.nonfinite.count:
        remedy = _suggest_remedy(mdata, source, batches)
        raise ValueError(
            f"{_name(source)} has {scan.nonfinite.count:,} values that are not finite: "
            f"{_show(mdata, source, scan.nonfinite, rows)}. {remedy}"
        )
    _check_values(mdata, source, kind, scan, rows, requested)
    return kind, scan


def _check_type(mdata: MuData, source: InputSource, values: Any) -> None:
    """Check that an array contains real numbers; an error lists the first values that are not."""
    matrix = values.to_numpy() if isinstance(values, pd.DataFrame) else values
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind in "fiub":
        return
    wrong = ((i, j) for i, row in enumerate(matrix) for j, value in enumerate(row) if not isinstance(value, Real))
    first = list(islice(wrong, N_SHOWN))
    remedy = f"Convert them: {source} = {source}.astype('float32')"
    if first:
        cells, features = source.get_cell_names(mdata), source.get_stored_names(mdata)
        listed = "; ".join(f"{shown(matrix[i, j])} in cell {cells[i]!r}, {str(features[j])!r}" for i, j in first)
        remedy = f"The first such values: {listed}. Replace or remove them, and convert the rest by .astype('float32')."
    raise TypeError(f"{_name(source)}: values of dtype {matrix.dtype} are not real numbers. {remedy}")


def _name(source: InputSource) -> str:
    return f"{source.role}_{'obsm_key' if source.attribute == 'obsm' else 'layer'}: {source}"


def _resolve_kind(source: InputSource, requested: RequestedKind, scan: ValueScan) -> InputKind:
    if requested != "auto":
        return requested
    if source.attribute == "obsm":
        return "representation"
    if scan.are_counts:
        return "counts"
    are_logged = scan.largest <= LARGEST_LOGARITHM or scan.have_one_total
    return "counts" if scan.are_corrected_counts and not are_logged else "normalized"


def describe_kind(source: InputSource, requested: RequestedKind, kind: InputKind, scan: ValueScan) -> str:
    """Return the reason for the kind of the values of a modality; warn if the kind is doubtful.

    Parameters
    ----------
    source
        Location of the values.
    requested
        Kind given by the user.
    kind
        Kind of the values.
    scan
        Scan of the values.
    """
    argument, other = f"{source.role}_input", "normalized" if kind == "counts" else "counts"
    if kind == "counts" and scan.fractional.count:
        n_nonzero = int(scan.n_nonzero_per_row.sum())
        found = (
            f"{scan.fractional.count / n_nonzero:.0%} of the nonzero values are fractional, none is negative, "
            f"and the largest is "
            f"{scan.largest:g}"
        )
        if requested == "auto":
            warnings.warn(
                f"{_name(source)} seems to contain fractional counts, such as those of SoupX, CellBender and alevin: "
                f"{found}. They are "
                f"taken as counts. If they are already normalised, set up with {argument}={other!r}.",
                stacklevel=2,
            )
        return f"corrected counts: {found}"
    if requested != "auto":
        return f"set by {argument}={requested!r}"
    if kind == "counts":
        return "whole numbers, none negative"
    if kind == "representation":
        return "an entry of obsm"
    return _describe_normalization(source, scan)


def _describe_normalization(source: InputSource, scan: ValueScan) -> str:
    n_rows, n_columns = scan.sum_per_row.size, scan.sum_per_column.size
    size = max(scan.largest, TOLERANCE)
    if scan.negative.count:
        if (abs(scan.sum_per_row / n_columns) < TOLERANCE * size).all():
            return "centred log-ratios within cells: all cells have mean 0"
        if (abs(scan.sum_per_column / n_rows) < TOLERANCE * size).all():
            return f"centred over cells, such as by log-ratios per feature or scaling: all {source.feature_word} have mean 0"
        return f"{scan.negative.count:,} values are negative, such as after dsb, log-ratios or scaling"
    if scan.largest > LARGEST_LOGARITHM and scan.have_one_total:
        warnings.warn(
            f"{_name(source)}: all cells have the same total, {scan.sum_per_row.max():g}, but the largest value, "
            f"{scan.largest:g}, is too "
            "large for a logarithm. A few large values will dominate: take logarithms (scanpy.pp.log1p), or name the "
            "layer with the raw counts.",
            stacklevel=2,
        )
        return "all cells have the same total"
    logs = "logarithms, such as log1p or Seurat's centred log-ratios"
    return f"fractional, none negative, and at most {scan.largest:.3g}: {logs}"


def find_counts(mdata: MuData, source: InputSource) -> dict[str, str]:
    """Return other locations of counts in a modality, and instructions to use each of them."""
    adata, argument = mdata.mod[source.modality], f"{source.role}_layer"
    places = {
        f"layers[{name!r}]": (values, f"give {argument}={name!r}")
        for name, values in adata.layers.items()
        if name not in (None, source.key)  # anndata 0.13 lists X there, under None
    }
    if source.attribute != "X":
        places["X"] = (adata.X, f"leave out {argument}")
    if adata.raw is not None:
        places["raw"] = (adata.raw.X, f"copy them to a layer, and give its name as {argument}")
    found = {}
    for place, (values, use) in places.items():
        with suppress(TypeError):  # unsupported type
            if values is not None and scan_values(as_row_major(values)[:N_FOR_HINT]).are_counts:
                found[f"mdata[{source.modality!r}].{place}"] = use
    return found


def _suggest_remedy(mdata: MuData, source: InputSource, batches: pd.Series | None) -> str:
    """Suggest a remedy for non-finite values: exclude the proteins if only some are affected."""
    general = "Remove these cells or features, or fill the values in; masked values of arrays count as nan."
    if source.role != "adt" or source.attribute == "obsm":
        return general
    names, cells = source.get_feature_names(mdata), source.get_cell_names(mdata)
    in_feature, in_cell = np.zeros(names.size, dtype=bool), np.zeros(cells.size, dtype=bool)
    for row, column, block in iterate_blocks(as_readable(source.get_values(mdata))):
        bad = ~np.isfinite(as_dense(block))
        in_feature[column : column + bad.shape[1]] |= bad.any(axis=0)
        in_cell[row : row + bad.shape[0]] |= bad.any(axis=1)
    if in_feature.all():
        return general
    of_batches = ""
    if batches is not None:
        lacking = batches.reindex(cells)[in_cell].unique()
        of_batches = f", and in {in_cell.sum():,} cells of the batches {listing(sorted(map(str, lacking)))}"
    named = [*names[in_feature], *(name for group in find_not_proteins(names).values() for name in group)]
    return (
        f"They are in {in_feature.sum():,} of {names.size:,} {source.feature_word}{of_batches}. "
        f"Leave these out: exclude={[*dict.fromkeys(map(str, named))]}; or remove the cells, or fill the values in."
    )


def _show(mdata: MuData, source: InputSource, found: InvalidValues, rows: np.ndarray | None) -> str:
    cells, features = source.get_cell_names(mdata), source.get_feature_names(mdata)
    cells = cells if rows is None else cells[rows]
    return "; ".join(f"{value:g} in cell {cells[i]!r}, {str(features[j])!r}" for i, j, value in found.first)


def _check_values(
    mdata: MuData,
    source: InputSource,
    kind: InputKind,
    scan: ValueScan,
    rows: np.ndarray | None,
    requested: RequestedKind,
) -> None:
    cells = source.get_cell_names(mdata)
    cells = cells if rows is None else cells[rows]
    where = _name(source)

    def show(found: InvalidValues) -> str:
        return _show(mdata, source, found, rows)

    if scan.too_large.count:
        raise ValueError(
            f"{where} has {scan.too_large.count:,} values that are too large for single precision (above {LARGEST:g}): "
            f"{show(scan.too_large)}. Remove these cells or features, correct the values, or give them in another unit."
        )
    if kind == "normalized" and requested == "auto" and scan.negative.count and not scan.fractional.count:
        raise ValueError(
            f"{where} has whole numbers, as counts are, but {scan.negative.count:,} are negative: "
            f"{show(scan.negative)}. Correct them, name "
            f"the layer with the raw counts, or set up with {source.role}_input='normalized' if they are not counts."
        )
    if kind != "counts":
        return
    for found, word in ((scan.negative, "negative"), (scan.fractional, "fractional")):
        if found.count and not (word == "fractional" and scan.are_corrected_counts):
            at_most = (
                f", and none above {scan.largest:.3g}, so they seem to be logarithms" if word == "fractional" else ""
            )
            raise ValueError(
                f"{where} is taken as counts ({source.role}_input='counts') but has {found.count:,} {word} values: "
                f"{show(found)}{at_most}. Name the layer with the raw counts, or set up with "
                f"{source.role}_input='normalized'."
            )
    if source.role == "rna" and scan.empty_rows.size:
        raise ValueError(
            f"{where}: {scan.empty_rows.size:,} cells have no counts, so they have no library size: "
            f"{listing(cells[scan.empty_rows])}. "
            f"Remove them: mdata = mdata[numpy.ravel({source}.sum(axis=1)) > 0].copy()"
        )
