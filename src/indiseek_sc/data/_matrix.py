"""Reading any matrix that AnnData can hold, a part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from anndata.abc import CSCDataset, CSRDataset
from scipy.sparse import issparse

if TYPE_CHECKING:
    from collections.abc import Iterator

N_VALUES = 2**22
"""Values that are held densely at a time: 16 MiB of float32."""


def as_readable(matrix: Any) -> Any:
    """Return a matrix that can be read by rows or by columns, without a copy of its values.

    Raises
    ------
    TypeError
        If the matrix is of a type that cannot be read in parts, such as a dask array.
    """
    if isinstance(matrix, pd.DataFrame):
        return matrix.to_numpy()
    if issparse(matrix):
        return matrix if matrix.format in ("csr", "csc") else matrix.tocsr()
    if isinstance(matrix, np.ndarray | h5py.Dataset | CSRDataset | CSCDataset):
        return matrix
    raise TypeError(
        f"values of type {type(matrix).__module__}.{type(matrix).__name__} cannot be read. "
        "Use a numpy array, a scipy sparse matrix or array, or a backed h5mu file."
    )


def as_row_major(matrix: Any) -> Any:
    """Return a matrix that can be read quickly by rows; only compressed columns are copied, to compressed rows."""
    matrix = as_readable(matrix)
    if isinstance(matrix, CSCDataset):
        matrix = matrix.to_memory()
    return matrix.tocsr() if issparse(matrix) else matrix


def iterate_rows(matrix: Any, rows: np.ndarray, chunk_size: int | None = None) -> Iterator[np.ndarray]:
    """Yield rows of any matrix as dense float32 arrays, in ascending order of rows.

    The matrix is read in stretches of neighbouring rows, since files are slow to read one row at a time.

    Parameters
    ----------
    matrix
        Shape ``(n_cells, n_features)``: dense array, sparse matrix or array, DataFrame, or a backed matrix of AnnData.
    rows
        Row numbers, shape ``(n_rows,)``.
    chunk_size
        Largest number of rows at a time; by default as many as make 16 MiB.

    Yields
    ------
    Arrays of shape ``(at most chunk_size, n_features)``, each the caller's own to change.
    """
    matrix = as_row_major(matrix)
    rows = np.sort(np.asarray(rows))
    size = chunk_size or max(1, N_VALUES // max(1, matrix.shape[1]))
    for stretch in np.split(rows, np.flatnonzero(np.diff(rows // size)) + 1):
        if stretch.size == 0:
            continue
        start = int(stretch[0])
        part = matrix[start : int(stretch[-1]) + 1]
        if (np.diff(stretch) != 1).any():
            part = part[stretch - start]
        yield np.array(part.toarray() if issparse(part) else part, dtype=np.float32, order="C")


def iterate_blocks(matrix: Any) -> Iterator[tuple[int, int, Any]]:
    """Yield all of a matrix in consecutive blocks, in its own format and order.

    Parameters
    ----------
    matrix
        Shape ``(n_cells, n_features)``, in any form that :func:`as_readable` returns.

    Yields
    ------
    First row and first column of the block, and the block: an array, or a sparse matrix or array in compressed form.
    """
    n_rows, n_columns = matrix.shape
    if getattr(matrix, "format", None) == "csc":
        size = max(1, N_VALUES // max(1, n_rows))
        for start in range(0, n_columns, size):
            yield 0, start, matrix[:, start : start + size]
    else:
        size = max(1, N_VALUES // max(1, n_columns))
        for start in range(0, n_rows, size):
            yield start, 0, matrix[start : start + size]
