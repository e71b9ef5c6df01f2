"""Sums and maps over many cells, a part of them at a time, so that nothing but the result grows with their number."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CELLS_AT_ONCE = 16_384
"""Cells of which intermediate values are held at once."""

FEWEST_AT_ONCE = 32
"""Where memory does not suffice for so many cells, it does not for fewer."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, on whatever device; of CPUs torch says so in words alone."""
    said = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in said)
    )


def take_parts(function: Callable[[slice], Any], n_cells: int, at_once: int) -> Iterator[tuple[slice, Any]]:
    """Call a function for a part of the cells at a time; where memory does not suffice, for half as many from there on, with a warning.

    Parameters
    ----------
    function
        Gets the rows of a part.
    n_cells
        Number of all rows; of none, the function is called once.
    at_once
        Rows in a part.

    Yields
    ------
    The rows, and what the function returned for them.

    Raises
    ------
    MemoryError
        If memory does not suffice for a few cells.
    """
    start, is_short = 0, False
    while start < max(n_cells, 1):
        part = slice(start, min(start + at_once, n_cells))
        try:
            found = function(part)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            at_once = (part.stop - part.start) // 2
            if at_once < FEWEST_AT_ONCE:
                raise MemoryError(
                    f"Memory does not suffice even for {part.stop - part.start} cells at a time: {error}. Close what else uses it, or "
                    "compute on the CPU: model.to_device('cpu')."
                ) from error
        else:
            if is_short:
                warnings.warn(f"Memory is short: {at_once:,} cells are computed at a time.", UserWarning, stacklevel=2)
                is_short = False
            yield part, found
            start = max(part.stop, 1)
            continue
        # Only here, where the error is gone, has it let go of what it held.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        is_short = True


def iterate_parts(function: Callable[..., Any], *values: Tensor, at_once: int | None = None) -> Iterator[Any]:
    """Yield what a function of cells returns for each part of them, from tensors of shape ``(n_cells, ...)``."""
    n = CELLS_AT_ONCE if at_once is None else at_once
    return (function(*part) for part in zip(*(x.split(n) for x in values), strict=True))


def map_parts(function: Callable[..., Tensor], *values: Tensor, at_once: int | None = None) -> Tensor:
    """Apply a function of cells to all of them, shape ``(n_cells, ...)`` each, ``at_once`` cells at a time."""
    n_cells, n = len(values[0]), CELLS_AT_ONCE if at_once is None else at_once
    if torch.is_grad_enabled():
        return function(*values) if n_cells <= n else torch.cat(list(iterate_parts(function, *values, at_once=n)))
    mapped: Tensor | None = None
    for part, found in take_parts(lambda rows: function(*(x[rows] for x in values)), n_cells, n):
        if len(found) == n_cells:
            return found
        if mapped is None:  # parts and the whole would be twice as much
            mapped = found.new_empty(n_cells, *found.shape[1:])
        mapped[part] = found
    assert mapped is not None
    return mapped


def double_parts(*values: Tensor, rows: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Yield tensors of the same cells in double precision, all rows or some, a part at a time."""
    if rows is None:
        yield from iterate_parts(lambda *part: [x.double() for x in part], *values)
    else:
        yield from ([x[some].double() for x in values] for some in rows.split(CELLS_AT_ONCE))


def sum_parts(function: Callable[..., Sequence[Tensor]], *values: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    """Return sums of what a function returns for each part of the cells, which it gets in double precision."""
    totals: list[Tensor] = []
    for part in double_parts(*values, rows=rows):
        found = function(*part)
        totals = [total + more for total, more in zip(totals, found, strict=True)] if totals else list(found)
    return totals


def means(*values: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    """Return the mean of each column of each tensor, float64."""
    n_cells = len(values[0]) if rows is None else len(rows)
    return [total / n_cells for total in sum_parts(lambda *part: [x.sum(dim=0) for x in part], *values, rows=rows)]
