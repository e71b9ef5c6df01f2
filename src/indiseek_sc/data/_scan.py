"""Scan of the values of a matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from indiseek_sc._text import N_SHOWN
from indiseek_sc.data._matrix import as_readable, iterate_blocks, sum_of_each_row

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_LOGARITHM = 25.0
"""Upper limit of logarithms of counts, to any common base."""

LARGEST = 1e18
"""Largest value whose square is finite in single precision."""

TOLERANCE = 1e-3
"""Relative tolerance for equal totals and for means of 0."""


@dataclass
class InvalidValues:
    """Number and locations of invalid values of one kind.

    Parameters
    ----------
    count
        Number of invalid values.
    first
        Row, column and value of the first invalid values.
    """

    count: int = 0
    first: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass
class ValueScan:
    """Summary of the values of a matrix of shape ``(n_cells, n_features)``.

    Parameters
    ----------
    n_nonzero_per_row
        Number of nonzero values in each cell, shape ``(n_cells,)``.
    n_nonzero_per_column
        Number of nonzero values of each feature, shape ``(n_features,)``.
    nonfinite
        NaN and infinite values.
    too_large
        Finite values whose squares overflow in single precision.
    negative
        Values below 0.
    fractional
        Values that are not integers.
    sum_per_row
        Sum of the values of each cell, shape ``(n_cells,)``.
    sum_per_column
        Sum of the values of each feature, shape ``(n_features,)``.
    largest
        The largest value.
    """

    n_nonzero_per_row: np.ndarray
    n_nonzero_per_column: np.ndarray
    sum_per_row: np.ndarray
    sum_per_column: np.ndarray
    largest: float = -np.inf
    nonfinite: InvalidValues = field(default_factory=InvalidValues)
    too_large: InvalidValues = field(default_factory=InvalidValues)
    negative: InvalidValues = field(default_factory=InvalidValues)
    fractional: InvalidValues = field(default_factory=InvalidValues)

    @property
    def are_counts(self) -> bool:
        """Whether all values are non-negative integers."""
        return self.nonfinite.count == self.negative.count == self.fractional.count == 0

    @property
    def are_corrected_counts(self) -> bool:
        """Whether values are likely counts made fractional by a correction, and not logarithms.

        This holds for non-negative values, some fractional, if some are too large for logarithms or
        most are integers.
        """
        n_nonzero = int(self.n_nonzero_per_row.sum())
        return (
            self.nonfinite.count == self.negative.count == 0
            and self.fractional.count > 0
            and (self.largest > LARGEST_LOGARITHM or self.fractional.count < n_nonzero / 2)
        )

    @property
    def have_one_total(self) -> bool:
        """Whether all non-empty cells have the same total, as after normalisation without log."""
        totals = self.sum_per_row[self.n_nonzero_per_row > 0]
        return totals.size > 1 and bool(np.ptp(totals) <= TOLERANCE * abs(totals).max())

    @property
    def empty_rows(self) -> np.ndarray:
        """Indices of rows in which all values are 0."""
        return np.flatnonzero(self.n_nonzero_per_row == 0)

    @property
    def empty_columns(self) -> np.ndarray:
        """Indices of columns in which all values are 0."""
        return np.flatnonzero(self.n_nonzero_per_column == 0)


def scan_values(matrix: Any) -> ValueScan:
    """Scan all values once, with only a part of the matrix in memory at a time.

    Parameters
    ----------
    matrix
        Shape ``(n_cells, n_features)``; any format that AnnData supports.

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
    """Return the number of nonzero values in each row and column, without explicit zeros."""
    if not issparse(block):
        nonzero = block != 0
        return nonzero.sum(axis=1), nonzero.sum(axis=0)
    nonzero = block.data != 0
    major = np.diff(np.concatenate([[0], np.cumsum(nonzero)])[block.indptr])
    n_minor = block.shape[0] if block.format == "csc" else block.shape[1]
    minor = np.bincount(block.indices if nonzero.all() else block.indices[nonzero], minlength=n_minor)
    return (minor, major) if block.format == "csc" else (major, minor)


def _collect(
    found: InvalidValues, block: Any, row: int, column: int, is_wrong: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Collect invalid values of a block that starts at ``row`` and ``column``."""
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
