"""Which clusters of one clustering fall apart in others."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from indiseek_sc.metrics._checks import as_labels
from indiseek_sc.metrics._cluster_agreement import as_repeats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


def cluster_splits(
    reference: ArrayLike,
    clusterings: Mapping[str, ArrayLike],
    *,
    minimum_share: float = 0.2,
    minimum_stability: float = 0.5,
) -> pd.DataFrame:
    r"""Ask of each cluster of a reference whether other clusterings keep its cells together.

    For a cluster and a code, the verdict is

    - ``"kept"`` if the cluster of the code with most of its cells holds all but less than ``minimum_share`` of them;
    - ``"split"`` if not, and the code divides these cells much the same way from every seed: their ARI between seeds, the *stability*, is at least
      ``minimum_stability``;
    - ``"unstable"`` if not, and it does not. The code knows of no groups among these cells: what Leiden makes of a round cloud are cuts, another
      one from each seed.

    Seeds say whether Leiden finds the same clusters again in the same cells, not whether it would in others: of a few hundred cells and a handful of
    clusters even the cuts of a cloud may come again.

    Parameters
    ----------
    reference
        The cluster of each cell, shape ``(n_cells,)``; cells without one take no part.
    clusterings
        By name of the code, its clusters of the same cells, shape ``(n_cells, n_repeats)`` from at least 2 seeds. Of the shares the first seed decides.
    minimum_share
        Share of a cluster that may lie elsewhere before it is no longer kept; between 0 and 1.
    minimum_stability
        ARI between seeds from which a split is believed.

    Returns
    -------
    A row for each cluster of the reference and each code: ``cluster``, ``n_cells``, ``code``, ``largest_share`` (of its cells in one cluster of the code),
    ``effective_clusters`` (:math:`e^H` with :math:`H` the entropy of its cells over the clusters of the code: 1 if they are in one, 2 if in two halves),
    ``stability``, ``verdict``, and ``only_here`` (whether it is split in this code and in no other). Stability is NaN for a single cell.

    Raises
    ------
    ValueError
        If there is no clustering, shapes do not fit each other, a cell has no cluster in a code, there is one seed only, or a minimum is out of its range.
    """
    check_minima(minimum_share, minimum_stability)
    if not clusterings:
        raise ValueError("clusterings is empty: there is no code in which a cluster could fall apart.")
    label, names = as_labels(reference, "reference", len(np.asarray(reference)))
    repeats = as_repeats(clusterings, len(label))
    for name, clusters in repeats.items():
        if clusters.shape[1] < 2:
            raise ValueError(
                f"clusterings[{name!r}] has one repeat; stability needs at least 2. Cluster with another seed too."
            )
        if (clusters[label >= 0] < 0).any():
            raise ValueError(
                f"clusterings[{name!r}] lacks cells that reference has. Leave these cells out of reference."
            )
    rows = []
    for place, cluster in enumerate(names):
        members = np.flatnonzero(label == place)
        for code, clusters in repeats.items():
            row = {"cluster": str(cluster), "n_cells": len(members), "code": code}
            rows.append(row | _describe(clusters[members], minimum_share, minimum_stability))
    table = pd.DataFrame(rows)
    is_split = table["verdict"] == "split"
    table["only_here"] = is_split & (is_split.groupby(table["cluster"]).transform("sum") == 1)
    return table


def check_minima(minimum_share: float, minimum_stability: float) -> None:
    """Raise a ValueError if one of the two is out of its range."""
    if not 0 < minimum_share < 1:
        raise ValueError(f"minimum_share={minimum_share} must lie between 0 and 1.")
    if not 0 <= minimum_stability <= 1:
        raise ValueError(f"minimum_stability={minimum_stability} must be between 0 and 1.")


def _describe(clusters: NDArray[np.intp], minimum_share: float, minimum_stability: float) -> dict[str, float | str]:
    """What a code makes of the cells of one cluster: ``clusters``, shape ``(n_members, n_repeats)``."""
    _, sizes = np.unique(clusters[:, 0], return_counts=True)
    shares = sizes / sizes.sum()
    stability = np.nan
    if len(clusters) > 1:
        stability = float(np.mean([adjusted_rand_score(*pair) for pair in combinations(clusters.T, 2)]))
    if shares.max() > 1 - minimum_share:
        verdict = "kept"
    else:
        verdict = "split" if stability >= minimum_stability else "unstable"
    return {
        "largest_share": float(shares.max()),
        "effective_clusters": float(np.exp(-(shares * np.log(shares)).sum())),
        "stability": stability,
        "verdict": verdict,
    }
