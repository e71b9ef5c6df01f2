"""How well cells find their own partner in the other modality's representation. Exact, both directions, ties at chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_whole, is_whole
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_BLOCK_ENTRIES = 4_000_000
"""Distances held at once: 32 MB."""


def foscttm(a: ArrayLike, b: ArrayLike) -> float:
    """Fraction of samples closer than the true match, averaged over cells and both directions.

    Parameters
    ----------
    a, b
        Representations of the same cells in the same order, shape ``(n_cells, n_features)`` both.

    Returns
    -------
    0 is best, 0.5 is chance; a candidate as far away as the true match counts one half.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or there are fewer than 2 cells.
    """
    ranks = _match_ranks(a, b)
    return float((ranks.closer + ranks.tied / 2).mean() / (ranks.n_cells - 1))


def recall_at_k(a: ArrayLike, b: ArrayLike, k: int = 10) -> float:
    """Share of cells whose partner is among the ``k`` nearest of the other representation, averaged over both directions.

    Parameters
    ----------
    a, b
        Representations of the same cells in the same order, shape ``(n_cells, n_features)`` both.
    k
        Number of candidates that a cell may name.

    Returns
    -------
    1 is best, ``k / n_cells`` is chance; among candidates at one distance the order is taken to be random.

    Raises
    ------
    ValueError
        As :func:`foscttm`, and if ``k`` is less than 1.
    """
    check_whole("k", k, 1)
    ranks = _match_ranks(a, b)
    return float(np.clip((k - ranks.closer) / (ranks.tied + 1), 0, 1).mean())


def median_rank(a: ArrayLike, b: ArrayLike) -> float:
    """Median place of the true partner among all candidates, mean of both directions.

    Parameters
    ----------
    a, b
        Representations of the same cells in the same order, shape ``(n_cells, n_features)`` both.

    Returns
    -------
    1 is best, ``(n_cells + 1) / 2`` is chance; candidates at one distance share their mean place.

    Raises
    ------
    ValueError
        As :func:`foscttm`.
    """
    ranks = _match_ranks(a, b)
    return float(np.median(1 + ranks.closer + ranks.tied / 2, axis=1).mean())


def retrieval(a: ArrayLike, b: ArrayLike, ks: Sequence[int] = (1, 5, 10, 50, 100)) -> pd.DataFrame:
    """All of these figures for each direction, from one pass over the distances; memory is linear in cells.

    Parameters
    ----------
    a, b
        Representations of the same cells in the same order, shape ``(n_cells, n_features)`` both.
    ks
        Numbers of candidates for the recall.

    Returns
    -------
    A row for cells of ``a`` that seek in ``b`` (``direction`` is ``"a to b"``) and one for the reverse: ``n_cells``, ``foscttm``, ``median_rank`` and
    ``recall@<k>``. Chance is 0.5, ``(n_cells + 1) / 2`` and ``k / n_cells``.

    Raises
    ------
    ValueError
        As :func:`foscttm`, and if one of ``ks`` is less than 1 or there is none.
    """
    check_numbers_of_candidates(ks)
    ranks = _match_ranks(a, b)
    rows = []
    for direction, closer, tied in zip(("a to b", "b to a"), ranks.closer, ranks.tied, strict=True):
        place = closer + tied / 2
        row = {"direction": direction, "n_cells": ranks.n_cells, "foscttm": place.mean() / (ranks.n_cells - 1)}
        row["median_rank"] = 1 + np.median(place)
        rows.append(row | {f"recall@{k}": np.clip((k - closer) / (tied + 1), 0, 1).mean() for k in ks})
    return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class _MatchRanks:
    """Candidates nearer than, and as near as, the true match: ``a`` seeks in ``b``, then ``b`` in ``a``."""

    closer: NDArray[np.int64]  # (2, n_cells)
    tied: NDArray[np.int64]  # (2, n_cells), the match itself not counted

    @property
    def n_cells(self) -> int:
        return self.closer.shape[1]


def check_numbers_of_candidates(ks: Sequence[int]) -> None:
    """Raise a ValueError unless ``ks`` are whole numbers of at least 1."""
    if not np.iterable(ks) or not len(ks) or not all(is_whole(k) and k > 0 for k in ks):
        raise ValueError(f"ks={ks!r} must be whole numbers of at least 1, and at least one.")


def _match_ranks(a: ArrayLike, b: ArrayLike) -> _MatchRanks:
    """Compare every distance with both of the true matches it competes with, a block of rows at a time."""
    left, right = _centred(a, b)
    n_cells, width = left.shape
    norm_left, norm_right = (left**2).sum(axis=1), (right**2).sum(axis=1)
    match = ((left - right) ** 2).sum(axis=1)
    # |x|^2 + |y|^2 - 2xy is off by rounding in proportion to the norms: distances within it are one distance.
    slack = 4 * width * np.finfo(np.float64).eps * max(norm_left.max(), norm_right.max())
    closer, tied = np.zeros((2, n_cells), dtype=np.int64), np.zeros((2, n_cells), dtype=np.int64)
    step = max(1, _BLOCK_ENTRIES // n_cells)
    for start in range(0, n_cells, step):
        rows = slice(start, start + step)
        distance = norm_left[rows, None] + norm_right - 2 * (left[rows] @ right.T)
        for direction, (seekers, true) in enumerate(((rows, match[rows, None]), (slice(None), match))):
            near = (distance < true - slack).sum(axis=1 - direction)
            closer[direction, seekers] += near
            tied[direction, seekers] += (distance <= true + slack).sum(axis=1 - direction) - near
    return _MatchRanks(closer, tied - 1)  # the true match ties with itself


def _centred(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both representations in float64 about their common mean, which keeps the norms, and so the rounding, small."""
    left, right = as_matrix(a, "a").astype(np.float64), as_matrix(b, "b").astype(np.float64)
    if left.shape != right.shape:
        raise ValueError(
            f"a and b must be representations of the same cells and width; got {left.shape} and {right.shape}."
        )
    if len(left) < 2:
        raise ValueError(f"a and b need at least 2 cells to choose between; got {len(left)}.")
    mean = (left.mean(axis=0) + right.mean(axis=0)) / 2
    return left - mean, right - mean
