"""Sums and maps over many cells, computed for one part of the cells at a time to bound memory."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from indiseek_sc._settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FEWEST_AT_ONCE = 32
"""Smallest number of cells at once that is tried when memory is insufficient."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception reports insufficient memory, on any device.

    On CPUs PyTorch raises a RuntimeError, which is identified by its message.

    Parameters
    ----------
    error
        The exception.

    Examples
    --------
    >>> from indiseek_sc.nn import is_out_of_memory
    >>> is_out_of_memory(RuntimeError("CUDA out of memory."))
    True
    >>> is_out_of_memory(RuntimeError("shapes do not match"))
    False
    """
    messages = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error).lower() for message in messages)
    )


def take_parts(function: Callable[[slice], Any], n_cells: int, at_once: int) -> Iterator[tuple[slice, Any]]:
    """Call a function for one part of the cells at a time.

    If memory is insufficient, the part is halved from there on, with a warning.

    Parameters
    ----------
    function
        Function of the rows of a part.
    n_cells
        Total number of rows; if 0, the function is called once.
    at_once
        Number of rows in a part.

    Yields
    ------
    The rows of each part, and the return value of the function for them.

    Raises
    ------
    MemoryError
        If memory is insufficient even for fewer than 64 cells at a time.

    Warns
    -----
    UserWarning
        If the parts are made smaller because memory is insufficient.

    Examples
    --------
    >>> from indiseek_sc.nn import take_parts
    >>> [size for _, size in take_parts(lambda rows: rows.stop - rows.start, 5, at_once=2)]
    [2, 2, 1]
    """
    start, is_short = 0, False
    while start < max(n_cells, 1):
        part = slice(start, min(start + at_once, n_cells))
        try:
            result = function(part)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            at_once = (part.stop - part.start) // 2
            if at_once < FEWEST_AT_ONCE:
                raise MemoryError(
                    f"Memory does not suffice even for {part.stop - part.start} cells at a time: {error}. Free memory by "
                    "closing other programs, or compute on the CPU: model.to_device('cpu')."
                ) from error
        else:
            if is_short:
                warnings.warn(f"Memory is short: {at_once:,} cells are computed at a time.", UserWarning, stacklevel=2)
                is_short = False
            yield part, result
            start = max(part.stop, 1)
            continue
        # The exception keeps tensors alive, so memory is freed only after its handler has ended.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        is_short = True


def iterate_parts(function: Callable[..., Any], *values: Tensor, at_once: int | None = None) -> Iterator[Any]:
    """Yield the return value of a function for each part of the cells.

    Parameters
    ----------
    function
        Function of parts of the tensors.
    *values
        Tensors of shape ``(n_cells, ...)``.
    at_once
        Number of cells in a part.
    """
    n = settings.cells_at_once if at_once is None else at_once
    return (function(*part) for part in zip(*(x.split(n) for x in values), strict=True))


def map_parts(function: Callable[..., Tensor], *values: Tensor, at_once: int | None = None) -> Tensor:
    """Return the result of a function of cells, computed for ``at_once`` cells at a time.

    Parameters
    ----------
    function
        Function of parts of the tensors that returns one row for each cell.
    *values
        Tensors of shape ``(n_cells, ...)``.
    at_once
        Number of cells in a part.

    Examples
    --------
    >>> from indiseek_sc.nn import map_parts
    >>> map_parts(lambda x: 2 * x, torch.arange(5), at_once=2).tolist()
    [0, 2, 4, 6, 8]
    """
    n_cells, n = len(values[0]), settings.cells_at_once if at_once is None else at_once
    if torch.is_grad_enabled():
        return function(*values) if n_cells <= n else torch.cat(list(iterate_parts(function, *values, at_once=n)))
    mapped: Tensor | None = None
    for part, result in take_parts(lambda rows: function(*(x[rows] for x in values)), n_cells, n):
        if len(result) == n_cells:
            return result
        if mapped is None:  # concatenating all parts at the end would need twice the memory
            mapped = result.new_empty(n_cells, *result.shape[1:])
        mapped[part] = result
    assert mapped is not None
    return mapped


def double_parts(*values: Tensor, rows: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Yield parts of tensors of the same cells in double precision, of all or given rows."""
    if rows is None:
        yield from iterate_parts(lambda *part: [x.double() for x in part], *values)
    else:
        yield from ([x[part].double() for x in values] for part in rows.split(settings.cells_at_once))


def sum_parts(function: Callable[..., Sequence[Tensor]], *values: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    """Return sums over parts of the cells of the return values of a function.

    The function receives the parts in double precision.
    """
    totals: list[Tensor] = []
    for part in double_parts(*values, rows=rows):
        terms = function(*part)
        totals = [total + term for total, term in zip(totals, terms, strict=True)] if totals else list(terms)
    return totals


def means(*values: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    """Return the mean of each column of each tensor, float64."""
    n_cells = len(values[0]) if rows is None else len(rows)
    return [total / n_cells for total in sum_parts(lambda *part: [x.sum(dim=0) for x in part], *values, rows=rows)]
