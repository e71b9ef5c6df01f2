"""Retrieval of the matching cell in the other modality's representation.

Metrics are exact and cover both directions; ties contribute their expected value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_whole, is_whole
from indiseek_sc._settings import settings
from indiseek_sc.metrics._checks import as_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def foscttm(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the fraction of samples closer than the true match (FOSCTTM).

    The fraction is averaged over cells and both directions.

    Parameters
    ----------
    a, b
        Any two representations of the same cells in the same order, shape
        ``(n_cells, n_dimensions)`` both.

    Returns
    -------
    0 is best, 0.5 is chance; a candidate at the same distance as the true match counts one half.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or there are fewer than 2 cells.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> isk.metrics.foscttm(a, a)
    0.0
    >>> round(isk.metrics.foscttm(a, np.zeros((50, 3))), 2)
    0.5
    """
    ranks = _match_ranks(a, b)
    return float((ranks.closer + ranks.tied / 2).mean() / (ranks.n_cells - 1))


def recall_at_k(a: ArrayLike, b: ArrayLike, k: int = 10) -> float:
    """Compute the share of cells whose match is among the ``k`` nearest candidates.

    Candidates are the cells of the other representation; the share is averaged over both
    directions.

    Parameters
    ----------
    a, b
        Any two representations of the same cells in the same order, shape
        ``(n_cells, n_dimensions)`` both.
    k
        Number of nearest candidates.

    Returns
    -------
    1 is best, ``k / n_cells`` is chance; candidates at the same distance are in random order.

    Raises
    ------
    ValueError
        As in :func:`foscttm`, and if ``k`` is less than 1.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> isk.metrics.recall_at_k(a, a, k=1)
    1.0
    >>> constant = np.ones((50, 3))
    >>> round(isk.metrics.recall_at_k(constant, constant, k=10), 2)
    0.2
    """
    check_whole("k", k, 1)
    ranks = _match_ranks(a, b)
    return float(np.clip((k - ranks.closer) / (ranks.tied + 1), 0, 1).mean())


def median_rank(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the median rank of the true match, averaged over both directions.

    Parameters
    ----------
    a, b
        Any two representations of the same cells in the same order, shape
        ``(n_cells, n_dimensions)`` both.

    Returns
    -------
    1 is best, ``(n_cells + 1) / 2`` is chance; candidates at the same distance share their mean
    rank.

    Raises
    ------
    ValueError
        As in :func:`foscttm`.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> isk.metrics.median_rank(a, a)
    1.0
    """
    ranks = _match_ranks(a, b)
    return float(np.median(1 + ranks.closer + ranks.tied / 2, axis=1).mean())


def retrieval(a: ArrayLike, b: ArrayLike, ks: Sequence[int] = (1, 5, 10, 50, 100)) -> pd.DataFrame:
    """Compute FOSCTTM, median rank and recall for each direction.

    All measures come from one pass over the distances; memory is linear in the number of cells.

    Parameters
    ----------
    a, b
        Any two representations of the same cells in the same order, shape
        ``(n_cells, n_dimensions)`` both.
    ks
        Numbers of nearest candidates for the recall.

    Returns
    -------
    A row for queries from ``a`` among candidates in ``b`` (``direction`` is ``"a to b"``) and one
    for the reverse: ``n_cells``, ``foscttm``, ``median_rank`` and ``recall@<k>``. Chance is 0.5,
    ``(n_cells + 1) / 2`` and ``k / n_cells``.

    Raises
    ------
    ValueError
        As in :func:`foscttm`, and if ``ks`` is empty or contains a number below 1.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> isk.metrics.retrieval(a, a, ks=(1, 5))
      direction  n_cells  foscttm  median_rank  recall@1  recall@5
    0    a to b       50      0.0          1.0       1.0       1.0
    1    b to a       50      0.0          1.0       1.0       1.0
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
    """Numbers of candidates nearer than, and as near as, the true match.

    The first row has queries from ``a``, the second from ``b``.
    """

    closer: NDArray[np.int64]  # (2, n_cells)
    tied: NDArray[np.int64]  # (2, n_cells), without the match itself

    @property
    def n_cells(self) -> int:
        return self.closer.shape[1]


def check_numbers_of_candidates(ks: Sequence[int]) -> None:
    """Raise a ValueError unless ``ks`` are whole numbers of at least 1.

    Parameters
    ----------
    ks
        Numbers of nearest candidates for the recall.

    Raises
    ------
    ValueError
        If ``ks`` is empty or contains anything else.

    Examples
    --------
    >>> isk.metrics.check_numbers_of_candidates((1, 5, 10))
    """
    if not np.iterable(ks) or not len(ks) or not all(is_whole(k) and k > 0 for k in ks):
        raise ValueError(f"ks={ks!r} must be whole numbers of at least 1, and at least one.")


def _match_ranks(a: ArrayLike, b: ArrayLike) -> _MatchRanks:
    """Compare each distance with the true matches of its row and column, block by block."""
    left, right = _centred(a, b)
    n_cells, width = left.shape
    norm_left, norm_right = (left**2).sum(axis=1), (right**2).sum(axis=1)
    match = ((left - right) ** 2).sum(axis=1)
    # Rounding errors of |x|^2 + |y|^2 - 2xy are proportional to the norms; distances that differ by
    # less count as ties.
    slack = 4 * width * np.finfo(np.float64).eps * max(norm_left.max(), norm_right.max())
    closer, tied = np.zeros((2, n_cells), dtype=np.int64), np.zeros((2, n_cells), dtype=np.int64)
    step = settings.rows_at_once(n_cells)
    for start in range(0, n_cells, step):
        rows = slice(start, start + step)
        distance = norm_left[rows, None] + norm_right - 2 * (left[rows] @ right.T)
        for direction, (queries, true) in enumerate(((rows, match[rows, None]), (slice(None), match))):
            near = (distance < true - slack).sum(axis=1 - direction)
            closer[direction, queries] += near
            tied[direction, queries] += (distance <= true + slack).sum(axis=1 - direction) - near
    return _MatchRanks(closer, tied - 1)  # the true match ties with itself


def _centred(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both representations in float64, centred at their mean to reduce rounding errors."""
    left, right = as_matrix(a, "a").astype(np.float64), as_matrix(b, "b").astype(np.float64)
    if left.shape != right.shape:
        raise ValueError(f"a and b must have the same cells and the same width; got {left.shape} and {right.shape}.")
    if len(left) < 2:
        raise ValueError(f"a and b must have at least 2 cells; got {len(left)}.")
    mean = (left.mean(axis=0) + right.mean(axis=0)) / 2
    return left - mean, right - mean
