"""Checks that every metric asks of its arrays, with errors that name the argument and the first offenders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_N_SHOWN = 5


def first_of(offenders: NDArray) -> str:
    """The first five of ``offenders`` and how many there are, for an error message."""
    shown = ", ".join(str(value) for value in offenders[:_N_SHOWN].tolist())
    return f"{shown}{', ...' if len(offenders) > _N_SHOWN else ''} ({len(offenders)} in all)"


def as_matrix(value: ArrayLike, name: str, n_cells: int | None = None) -> NDArray[np.floating]:
    """``value`` as a finite float matrix of shape ``(n_cells, n_features)``.

    Raises
    ------
    ValueError
        If it is not two-dimensional, has no column, another number of rows than ``n_cells``, or a value that is not
        finite.
    """
    matrix = np.asarray(value)
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = _as_numbers(matrix, name)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_cells, n_features) with at least one feature; got {matrix.shape}.")
    if n_cells is not None and len(matrix) != n_cells:
        raise ValueError(f"{name} has {len(matrix)} rows, but {n_cells} cells are expected: one row a cell.")
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} has values that are not finite in rows {first_of(bad)}. Leave these cells out.")
    return matrix


def as_vector(value: ArrayLike, name: str, n_cells: int | None = None) -> NDArray[np.float64]:
    """``value`` as finite numbers of shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If it is not one-dimensional, has another length than ``n_cells``, or a value that is not finite.
    """
    vector = _as_numbers(value, name)
    if vector.ndim != 1:
        raise ValueError(f"{name} must have shape (n_cells,), one number a cell; got {vector.shape}.")
    if n_cells is not None and len(vector) != n_cells:
        raise ValueError(f"{name} has {len(vector)} entries, but {n_cells} cells are expected: one number a cell.")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise ValueError(f"{name} is not finite in rows {first_of(bad)}. Leave these cells out.")
    return vector


def _as_numbers(value: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers alone: {error}.") from None


def as_labels(value: ArrayLike, name: str, n_cells: int) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Integer representations of shape ``(n_cells,)``, -1 where a label is missing, and the label that each representation stands for.

    Labels are compared as strings, so that numbers, categories and strings are all welcome.
    """
    labels = pd.Series(value).reset_index(drop=True)
    if len(labels) != n_cells:
        raise ValueError(f"{name} has {len(labels)} entries, but there are {n_cells} cells: one label a cell.")
    latents, names = pd.factorize(labels.astype(object).map(str, na_action="ignore"), sort=True)
    if len(names) == 0:
        raise ValueError(f"{name} is missing in every cell.")
    return latents, np.asarray(names, dtype=str)


def as_index(value: ArrayLike, name: str, n_cells: int) -> NDArray[np.intp]:
    """``value`` as row numbers: integers within ``[0, n_cells)``, each at most once, at least two of them."""
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
    """Row numbers of the two parts, checked one by one and against each other."""
    rows_train, rows_test = as_index(train, "train", n_cells), as_index(test, "test", n_cells)
    both = np.intersect1d(rows_train, rows_test)
    if len(both):
        raise ValueError(f"train and test share rows {first_of(both)}: what is read on test must not have been fitted.")
    return rows_train, rows_test
