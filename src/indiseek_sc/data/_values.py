"""The values of a modality: one pass over them, checks, and what kind they are."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from indiseek_sc._checks import shown
from indiseek_sc._recognise import find_not_proteins
from indiseek_sc._text import N_SHOWN, choices, listing
from indiseek_sc.data._matrix import as_dense, as_readable, as_row_major, iterate_blocks, sum_of_each_row
from indiseek_sc.nn import InputKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    from indiseek_sc.data._source import InputSource


LARGEST_LOGARITHM = 25.0
"""No logarithm of a count, to any usual base, is larger."""

LARGEST = 1e18
"""Squares of larger values are infinite in single precision."""

SAME = 1e-3
"""Relative difference up to which totals are the same, and means are 0."""


@dataclass
class Offenders:
    """Values that something is wrong with.

    Parameters
    ----------
    count
        How many there are.
    first
        Row, column and value of the first few.
    """

    count: int = 0
    first: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass
class ValueScan:
    """What a pass over a matrix of shape ``(n_cells, n_features)`` found.

    Parameters
    ----------
    n_nonzero_per_row
        Number of values that are not 0 in each cell, shape ``(n_cells,)``.
    n_nonzero_per_column
        The same for each feature, shape ``(n_features,)``.
    nonfinite
        NaN and infinite values.
    too_large
        Finite values that single precision has no squares of.
    negative
        Values below 0.
    fractional
        Values that are not whole.
    sum_per_row
        Sum of each cell, shape ``(n_cells,)``.
    sum_per_column
        The same for each feature, shape ``(n_features,)``.
    largest
        The largest value.
    """

    n_nonzero_per_row: np.ndarray
    n_nonzero_per_column: np.ndarray
    sum_per_row: np.ndarray
    sum_per_column: np.ndarray
    largest: float = -np.inf
    nonfinite: Offenders = field(default_factory=Offenders)
    too_large: Offenders = field(default_factory=Offenders)
    negative: Offenders = field(default_factory=Offenders)
    fractional: Offenders = field(default_factory=Offenders)

    @property
    def are_counts(self) -> bool:
        """Whether all values are non-negative whole numbers."""
        return self.nonfinite.count == self.negative.count == self.fractional.count == 0

    @property
    def are_corrected_counts(self) -> bool:
        """Whether values may be counts that a correction made fractional, and that logarithms cannot be.

        Fractional values, none negative, of which some are larger than logarithms can be, or most are whole.
        """
        n_nonzero = int(self.n_nonzero_per_row.sum())
        return (
            self.nonfinite.count == self.negative.count == 0
            and self.fractional.count > 0
            and (self.largest > LARGEST_LOGARITHM or self.fractional.count < n_nonzero / 2)
        )

    @property
    def have_one_total(self) -> bool:
        """Whether all cells that are not empty have the same sum, as after normalisation without logarithms."""
        totals = self.sum_per_row[self.n_nonzero_per_row > 0]
        return totals.size > 1 and bool(np.ptp(totals) <= SAME * abs(totals).max())

    @property
    def empty_rows(self) -> np.ndarray:
        """Numbers of the rows in which all values are 0."""
        return np.flatnonzero(self.n_nonzero_per_row == 0)

    @property
    def empty_columns(self) -> np.ndarray:
        """Numbers of the columns in which all values are 0."""
        return np.flatnonzero(self.n_nonzero_per_column == 0)


def scan_values(matrix: Any) -> ValueScan:
    """Look at every value once, holding only a part of the matrix at a time.

    Parameters
    ----------
    matrix
        Shape ``(n_cells, n_features)``; any form that AnnData can hold.

    Raises
    ------
    TypeError
        If the values are not real numbers, or the matrix cannot be read in parts.
    """
    matrix = as_readable(matrix)
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"values of dtype {matrix.dtype} are not real numbers. Convert them with .astype('float32').")
    n_rows, n_columns = matrix.shape
    scan = ValueScan(
        np.zeros(n_rows, dtype=np.int64), np.zeros(n_columns, dtype=np.int64), np.zeros(n_rows), np.zeros(n_columns)
    )
    for row, column, block in iterate_blocks(matrix):
        per_row, per_column = _count_nonzero(block)
        scan.n_nonzero_per_row[row : row + block.shape[0]] += per_row
        scan.n_nonzero_per_column[column : column + block.shape[1]] += per_column
        scan.sum_per_row[row : row + block.shape[0]] += sum_of_each_row(block)
        scan.sum_per_column[column : column + block.shape[1]] += sum_of_each_row(block.T)
        scan.largest = max(scan.largest, float(block.max()))
        if matrix.dtype.kind == "f":
            _collect(scan.nonfinite, block, row, column, lambda values: ~np.isfinite(values))
            _collect(
                scan.too_large, block, row, column, lambda values: np.isfinite(values) & (np.abs(values) > LARGEST)
            )
            _collect(scan.fractional, block, row, column, lambda values: values != np.rint(values))
        if matrix.dtype.kind in "fi":
            _collect(scan.negative, block, row, column, lambda values: values < 0)
    return scan


def _count_nonzero(block: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of values other than 0 in each row and each column; explicit zeros count as 0."""
    if not issparse(block):
        nonzero = block != 0
        return nonzero.sum(axis=1), nonzero.sum(axis=0)
    nonzero = block.data != 0
    major = np.diff(np.concatenate([[0], np.cumsum(nonzero)])[block.indptr])
    n_minor = block.shape[0] if block.format == "csc" else block.shape[1]
    minor = np.bincount(block.indices if nonzero.all() else block.indices[nonzero], minlength=n_minor)
    return (minor, major) if block.format == "csc" else (major, minor)


def _collect(found: Offenders, block: Any, row: int, column: int, is_wrong: Callable[[np.ndarray], np.ndarray]) -> None:
    """Add the values of a block, which starts at ``row`` and ``column``, for which ``is_wrong`` holds."""
    wrong = is_wrong(block.data if issparse(block) else block)
    count = int(np.count_nonzero(wrong))
    if count and len(found.first) < N_SHOWN:
        if issparse(block):
            places = np.flatnonzero(wrong)[: N_SHOWN - len(found.first)]
            major, minor = np.searchsorted(block.indptr, places, side="right") - 1, block.indices[places]
            rows, columns = (minor, major) if block.format == "csc" else (major, minor)
            values = block.data[places]
        else:
            rows, columns = (index[: N_SHOWN - len(found.first)] for index in np.nonzero(wrong))
            values = block[rows, columns]
        found.first += [
            (row + int(i), column + int(j), float(v)) for i, j, v in zip(rows, columns, values, strict=True)
        ]
    found.count += count


RequestedKind = Literal["auto", "counts", "normalized", "representation"]
"""What the user says that the values are; ``"auto"`` looks at them."""

N_SAMPLED = 1_000
"""Cells that are looked at where the whole was checked before."""

N_LOOKED_AT = 200
"""Cells that are looked at for a hint."""


def examine_values(
    mdata: MuData,
    source: InputSource,
    requested: RequestedKind,
    *,
    is_sample_enough: bool = False,
    batches: pd.Series | None = None,
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
    batches
        Batch of each cell, for the words of an error.

    Returns
    -------
    The kind, never ``"auto"``, and what the pass found.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If there are no values; if some are not finite or masked; if whole numbers are negative; if values are given as
        counts but are negative, or fractional as logarithms are; if a cell has no RNA counts, so that it has no library
        size.
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
        remedy = _tell_how_to_complete(mdata, source, batches)
        raise ValueError(
            f"{_name(source)} has {scan.nonfinite.count:,} values that are not finite: "
            f"{_show(mdata, source, scan.nonfinite, rows)}. {remedy}"
        )
    _check_values(mdata, source, kind, scan, rows, requested)
    return kind, scan


def _check_type(mdata: MuData, source: InputSource, values: Any) -> None:
    """Refuse an array of objects, or of anything else that is no real number, and name the first that are none."""
    matrix = values.to_numpy() if isinstance(values, pd.DataFrame) else values
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind in "fiub":
        return
    wrong = ((i, j) for i, row in enumerate(matrix) for j, value in enumerate(row) if not isinstance(value, Real))
    first = list(islice(wrong, N_SHOWN))
    remedy = f"Convert them: {source} = {source}.astype('float32')"
    if first:
        cells, features = source.get_cell_names(mdata), source.get_stored_names(mdata)
        listed = "; ".join(f"{shown(matrix[i, j])} in cell {cells[i]!r}, {str(features[j])!r}" for i, j in first)
        remedy = (
            f"The first that are none: {listed}. Replace or remove them, and convert the rest by .astype('float32')."
        )
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


def tell_why(source: InputSource, requested: RequestedKind, kind: InputKind, scan: ValueScan) -> str:
    """Say in words why the values of a modality are taken for what they are taken for; what is doubtful is warned of.

    Parameters
    ----------
    source
        Where the values are.
    requested
        What the user said that they are.
    kind
        What they are taken for.
    scan
        What was found.
    """
    argument, other = f"{source.role}_input", "normalized" if kind == "counts" else "counts"
    if kind == "counts" and scan.fractional.count:
        n_nonzero = int(scan.n_nonzero_per_row.sum())
        found = (
            f"{scan.fractional.count / n_nonzero:.0%} of the values that are not 0 are fractional, none is negative, "
            f"and the largest is "
            f"{scan.largest:g}"
        )
        if requested == "auto":
            warnings.warn(
                f"{_name(source)} seems to hold counts that are not whole, as SoupX, CellBender and alevin make them: "
                f"{found}. They are "
                f"taken as counts. If they are normalised already, set up with {argument}={other!r}.",
                stacklevel=2,
            )
        return f"corrected counts: {found}"
    if requested != "auto":
        return f"as {argument}={requested!r} says"
    if kind == "counts":
        return "whole numbers, none negative"
    if kind == "representation":
        return "an entry of obsm"
    return _tell_normalization(source, scan)


def _tell_normalization(source: InputSource, scan: ValueScan) -> str:
    n_rows, n_columns = scan.sum_per_row.size, scan.sum_per_column.size
    size = max(scan.largest, SAME)
    if scan.negative.count:
        if (abs(scan.sum_per_row / n_columns) < SAME * size).all():
            return "centred log-ratios within each cell: each has mean 0"
        if (abs(scan.sum_per_column / n_rows) < SAME * size).all():
            return f"centred over cells, as by log-ratios per feature or scaling: all {source.feature_word} have mean 0"
        return f"{scan.negative.count:,} values are negative, as of dsb, log-ratios or scaling"
    if scan.largest > LARGEST_LOGARITHM and scan.have_one_total:
        warnings.warn(
            f"{_name(source)}: all cells have the same total, {scan.sum_per_row.max():g}, but the largest value, "
            f"{scan.largest:g}, is no "
            "logarithm. Few large values will outweigh all others: take logarithms (scanpy.pp.log1p), or name the "
            "layer with the raw counts.",
            stacklevel=2,
        )
        return "all cells have the same total"
    logs = "logarithms, such as log1p or Seurat's centred log-ratios"
    return f"fractional, none negative, and at most {scan.largest:.3g}: {logs}"


def find_counts(mdata: MuData, source: InputSource) -> dict[str, str]:
    """Return where else in a modality there are counts, by some of its cells, and how they would be used."""
    adata, argument = mdata.mod[source.modality], f"{source.role}_layer"
    places = {
        f"layers[{name!r}]": (values, f"{argument}={name!r}")
        for name, values in adata.layers.items()
        if name not in (None, source.key)  # anndata 0.13 lists X there, under None
    }
    if source.attribute != "X":
        places["X"] = (adata.X, f"no {argument}")
    if adata.raw is not None:
        places["raw"] = (adata.raw.X, f"a copy in a layer, and its name as {argument}")
    found = {}
    for place, (values, use) in places.items():
        with suppress(TypeError):  # of a kind that is not read
            if values is not None and scan_values(as_row_major(values)[:N_LOOKED_AT]).are_counts:
                found[f"mdata[{source.modality!r}].{place}"] = use
    return found


def _tell_how_to_complete(mdata: MuData, source: InputSource, batches: pd.Series | None) -> str:
    """Say what to do about values that are not finite: where some proteins have them alone, these are not in the panel of all batches."""
    else_ = "Remove these cells or features, or fill the values in; what is masked in an array counts as nan."
    if source.role != "adt" or source.attribute == "obsm":
        return else_
    names, cells = source.get_feature_names(mdata), source.get_cell_names(mdata)
    in_feature, in_cell = np.zeros(names.size, dtype=bool), np.zeros(cells.size, dtype=bool)
    for row, column, block in iterate_blocks(as_readable(source.get_values(mdata))):
        bad = ~np.isfinite(as_dense(block))
        in_feature[column : column + bad.shape[1]] |= bad.any(axis=0)
        in_cell[row : row + bad.shape[0]] |= bad.any(axis=1)
    if in_feature.all():
        return else_
    of_batches = ""
    if batches is not None:
        lacking = batches.reindex(cells)[in_cell].unique()
        of_batches = f", and in {in_cell.sum():,} cells of the batches {listing(sorted(map(str, lacking)))}"
    named = [*names[in_feature], *(name for group in find_not_proteins(names).values() for name in group)]
    return (
        f"They are in {in_feature.sum():,} of {names.size:,} {source.feature_word}{of_batches}. "
        f"Leave these out: exclude={[*dict.fromkeys(map(str, named))]}; or remove the cells, or fill the values in."
    )


def _show(mdata: MuData, source: InputSource, found: Offenders, rows: np.ndarray | None) -> str:
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

    def show(found: Offenders) -> str:
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
                f", and none above {scan.largest:.3g}, so that they seem to be logarithms"
                if word == "fractional"
                else ""
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
