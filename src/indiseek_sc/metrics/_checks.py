"""Validation of array arguments of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_N_SHOWN = 5


def first_of(offenders: NDArray) -> str:
    """Return the first five of ``offenders`` and their number, as text for an error message.

    Parameters
    ----------
    offenders
        Offending items, such as row numbers, shape ``(n,)``.

    Examples
    --------
    >>> isk.metrics.first_of(np.arange(7))
    '0, 1, 2, 3, 4, ... (7 in all)'
    """
    shown = ", ".join(str(value) for value in offenders[:_N_SHOWN].tolist())
    return f"{shown}{', ...' if len(offenders) > _N_SHOWN else ''} ({len(offenders)} in all)"


def as_matrix(value: ArrayLike, name: str, n_cells: int | None = None) -> NDArray[np.floating]:
    """Return ``value`` as a finite float matrix of shape ``(n_cells, n_features)``.

    Raises
    ------
    ValueError
        If it is not two-dimensional, has no column, has another number of rows than ``n_cells``, or
        contains a value that is not finite.
    """
    matrix = np.asarray(value)
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = _as_numbers(matrix, name)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_cells, n_features) with at least one feature; got {matrix.shape}.")
    if n_cells is not None and len(matrix) != n_cells:
        raise ValueError(f"{name} has {len(matrix)} rows, but {n_cells} cells are expected: one row per cell.")
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} has values that are not finite in rows {first_of(bad)}. Leave these cells out.")
    return matrix


def as_vector(value: ArrayLike, name: str, n_cells: int | None = None) -> NDArray[np.float64]:
    """Return ``value`` as finite numbers of shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If it is not one-dimensional, has another length than ``n_cells``, or contains a value that
        is not finite.
    """
    vector = _as_numbers(value, name)
    if vector.ndim != 1:
        raise ValueError(f"{name} must have shape (n_cells,), one number per cell; got {vector.shape}.")
    if n_cells is not None and len(vector) != n_cells:
        raise ValueError(f"{name} has {len(vector)} entries, but {n_cells} cells are expected: one number per cell.")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise ValueError(f"{name} is not finite in rows {first_of(bad)}. Leave these cells out.")
    return vector


def _as_numbers(value: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must contain only numbers: {error}.") from None


def as_labels(value: ArrayLike, name: str, n_cells: int) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Return integer codes of labels, shape ``(n_cells,)``, and the label of each code.

    The code is -1 where a label is missing.
    Labels are compared as strings, so that numbers, categories and strings are all accepted.
    """
    labels = pd.Series(value).reset_index(drop=True)
    if len(labels) != n_cells:
        raise ValueError(f"{name} has {len(labels)} entries, but there are {n_cells} cells: one label per cell.")
    codes, names = pd.factorize(labels.astype(object).map(str, na_action="ignore"), sort=True)
    if len(names) == 0:
        raise ValueError(f"{name} is missing in every cell.")
    return codes, np.asarray(names, dtype=str)


def as_index(value: ArrayLike, name: str, n_cells: int) -> NDArray[np.intp]:
    """Return ``value`` as at least two different row numbers, integers within ``[0, n_cells)``."""
    index = np.asarray(value)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"{name} must be a one-dimensional array of row numbers; got {index.dtype} {index.shape}.")
    outside = index[(index < 0) | (index >= n_cells)]
    if len(outside):
        raise ValueError(f"{name} points outside of the {n_cells} cells: {first_of(outside)}.")
    rows, times = np.unique(index, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"{name} names rows more than once: {first_of(rows[times > 1])}.")
    if len(index) < 2:
        raise ValueError(f"{name} needs at least 2 cells; got {len(index)}.")
    return index.astype(np.intp)


def as_split(train: ArrayLike, test: ArrayLike, n_cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the checked row numbers of both parts, which must not overlap."""
    rows_train, rows_test = as_index(train, "train", n_cells), as_index(test, "test", n_cells)
    both = np.intersect1d(rows_train, rows_test)
    if len(both):
        raise ValueError(f"train and test share rows {first_of(both)}: test cells must not be used for fitting.")
    return rows_train, rows_test
