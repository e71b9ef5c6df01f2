"""Sums and maps over many cells, a part of them at a time, so that nothing but the result grows with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CELLS_AT_ONCE = 16_384
"""Cells of which intermediate values are held at once."""


def iterate_parts(function: Callable[..., Any], *values: Tensor, at_once: int | None = None) -> Iterator[Any]:
    """Yield what a function of cells returns for each part of them, from tensors of shape ``(n_cells, ...)``."""
    n = CELLS_AT_ONCE if at_once is None else at_once
    return (function(*part) for part in zip(*(x.split(n) for x in values), strict=True))


def map_parts(function: Callable[..., Tensor], *values: Tensor, at_once: int | None = None) -> Tensor:
    """Apply a function of cells to all of them, shape ``(n_cells, ...)`` each, ``at_once`` cells at a time."""
    if len(values[0]) <= (CELLS_AT_ONCE if at_once is None else at_once):
        return function(*values)
    parts = iterate_parts(function, *values, at_once=at_once)
    if torch.is_grad_enabled():
        return torch.cat(list(parts))
    first = next(parts)
    mapped = first.new_empty(len(values[0]), *first.shape[1:])  # parts and the whole would be twice as much
    mapped[: len(first)], start = first, len(first)
    for part in parts:
        mapped[start : start + len(part)] = part
        start += len(part)
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
