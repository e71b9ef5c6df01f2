"""Pieces that several designs are put together from: factors, copies, rotations, checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from indiseek_sc.datasets.synthetic._design import Array, Draw


def normal(n_factors: int) -> Draw:
    """Independent standard normal factors."""
    return lambda n_cells, rng: rng.standard_normal((n_cells, n_factors))


def copies(columns: NDArray, n_copies: int, axis: int = 1) -> NDArray:
    """Each column (or row) as many times, one beside the other."""
    return np.repeat(columns, n_copies, axis=axis)


def rotation(n: int, rng: np.random.Generator) -> Array:
    """An orthogonal matrix, uniformly distributed (Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def check_sizes(*, noise: float = 0.0, **sizes: int) -> None:
    """Refuse numbers of things below 1 and negative noise.

    Raises
    ------
    ValueError
        Names the argument.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if noise < 0:
        raise ValueError(f"noise={noise} must not be negative.")
