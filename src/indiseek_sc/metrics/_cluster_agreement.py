"""How alike clusterings of the same cells are."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from indiseek_sc.metrics._checks import as_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


def cluster_agreement(clusterings: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Adjusted Rand index (ARI) and normalised mutual information (NMI) of every pair of clusterings.

    Both are 1 where two clusterings are the same; ARI is 0 on average where they have nothing to do with each other, NMI is a little more than that.
    Compare at equal numbers of clusters only. The functions are those of scikit-learn, NMI with the arithmetic mean. scib-metrics calls the same two,
    but on clusters that it makes itself, at the resolution that agrees best with the labels or by k-means, and never between two codes.

    Clusterings may be given several times over, once for each seed of their algorithm. Figures are then means over seeds, and there is a row for each
    clustering against itself from other seeds: no code can be expected to agree with another one better than with itself.

    Parameters
    ----------
    clusterings
        By name, the cluster (or the label) of each cell, shape ``(n_cells,)``, or ``(n_cells, n_repeats)`` from several seeds; None or NaN where it is not
        known.

    Returns
    -------
    A row for each pair: ``one``, ``other``, ``ari``, ``nmi`` and ``n_cells`` (those known in both).

    Raises
    ------
    ValueError
        If there are fewer than 2 clusterings, their shapes do not fit each other, one is missing in all cells, or a pair has no cell in common.
    """
    repeats = as_repeats(clusterings)
    if len(repeats) < 2:
        raise ValueError(f"clusterings: there must be at least 2 to compare; got {list(repeats)}.")
    rows = []
    for one, other in combinations_with_replacement(repeats, 2):
        if one != other:
            left, right = np.broadcast_arrays(repeats[one], repeats[other])
            pairs = list(zip(left.T, right.T, strict=True))
        else:
            pairs = list(combinations(repeats[one].T, 2))
        if not pairs:
            continue
        figures = [_compare(*pair, (one, other)) for pair in pairs]
        rows.append({"one": one, "other": other} | pd.DataFrame(figures).mean().to_dict())
    return pd.DataFrame(rows).astype({"n_cells": int})


def as_repeats(clusterings: Mapping[str, ArrayLike], n_cells: int | None = None) -> dict[str, NDArray[np.intp]]:
    """Clusterings as integers of shape ``(n_cells, n_repeats)``, -1 where a cell has none.

    Raises
    ------
    ValueError
        If their shapes do not fit each other or ``n_cells``, or one is missing in all cells.
    """
    columns = {name: np.asarray(value) for name, value in clusterings.items()}
    columns = {name: value[:, None] if value.ndim == 1 else value for name, value in columns.items()}
    several = {}
    for name, value in columns.items():
        if value.ndim != 2 or value.shape[1] == 0:
            raise ValueError(
                f"clusterings[{name!r}] must have shape (n_cells,) or (n_cells, n_repeats); got {np.shape(clusterings[name])}."
            )
        n_cells = len(value) if n_cells is None else n_cells
        if value.shape[1] > 1:
            several[name] = value.shape[1]
    if len(set(several.values())) > 1:
        raise ValueError(f"clusterings must all have as many repeats, or a single one; got {several}.")
    return {
        name: np.stack([as_labels(x, f"clusterings[{name!r}]", n_cells or 0)[0] for x in value.T], axis=1)
        for name, value in columns.items()
    }


def _compare(one: NDArray[np.intp], other: NDArray[np.intp], names: tuple[str, str]) -> dict[str, float]:
    known = (one >= 0) & (other >= 0)
    if not known.any():
        raise ValueError(
            f"clusterings {names[0]!r} and {names[1]!r} have no cell in common, so they cannot be compared."
        )
    one, other = one[known], other[known]
    return {
        "ari": adjusted_rand_score(one, other),
        "nmi": normalized_mutual_info_score(one, other, average_method="arithmetic"),
        "n_cells": len(one),
    }
