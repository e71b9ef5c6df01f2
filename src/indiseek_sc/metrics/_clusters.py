"""Agreement of clusterings of the same cells, and clusters that split in other clusterings."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from indiseek_sc._checks import check_number, check_share
from indiseek_sc.metrics._checks import as_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray


def cluster_agreement(clusterings: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Compute the agreement of every pair of clusterings.

    The measures are the adjusted Rand index (ARI) and the normalised mutual information (NMI).

    Both are 1 for identical clusterings; for independent ones ARI is 0 on average and NMI is
    slightly above 0. Only compare clusterings with equal numbers of clusters. The functions are
    those of scikit-learn, NMI with the arithmetic mean. scib-metrics calls the same functions, but
    on clusters that it computes itself, by k-means or at the resolution that agrees best with the
    labels, and never between two representations.

    A clustering may be given several times, once for each random seed of the algorithm. The
    measures are then means over seeds, and there is a row for each clustering compared with itself
    across seeds: a representation cannot be expected to agree better with another one than with
    itself.

    Parameters
    ----------
    clusterings
        By name, the cluster (or the label) of each cell, shape ``(n_cells,)``, or
        ``(n_cells, n_repeats)`` from several seeds; None or NaN where it is unknown.

    Returns
    -------
    A row for each pair: ``one``, ``other``, ``ari``, ``nmi`` and ``n_cells`` (those known in both).

    Raises
    ------
    ValueError
        If there are fewer than 2 clusterings, their shapes do not match, one is missing in all
        cells, or a pair has no cell in common.

    Examples
    --------
    >>> clusterings = {"rna": [0, 0, 1, 1], "adt": [1, 1, 0, 0], "joint": [0, 1, 0, 1]}
    >>> isk.metrics.cluster_agreement(clusterings)[["one", "other", "ari"]]
       one  other  ari
    0  rna    adt  1.0
    1  rna  joint -0.5
    2  adt  joint -0.5
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
    """Return clusterings as integers of shape ``(n_cells, n_repeats)``, -1 where a cell has none.

    Raises
    ------
    ValueError
        If their shapes do not match each other or ``n_cells``, or one is missing in all cells.
    """
    columns = {name: np.asarray(value) for name, value in clusterings.items()}
    columns = {name: value[:, None] if value.ndim == 1 else value for name, value in columns.items()}
    several = {}
    for name, value in columns.items():
        if value.ndim != 2 or value.shape[1] == 0:
            raise ValueError(
                f"clusterings[{name!r}] must have shape (n_cells,) or (n_cells, n_repeats); "
                f"got {np.shape(clusterings[name])}."
            )
        n_cells = len(value) if n_cells is None else n_cells
        if value.shape[1] > 1:
            several[name] = value.shape[1]
    if len(set(several.values())) > 1:
        raise ValueError(f"clusterings must all have the same number of repeats, or a single one; got {several}.")
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


def cluster_splits(
    reference: ArrayLike,
    clusterings: Mapping[str, ArrayLike],
    *,
    minimum_share: float = 0.2,
    minimum_stability: float = 0.5,
) -> pd.DataFrame:
    """Test for each cluster of a reference whether other clusterings keep its cells together.

    For each cluster and each representation, the verdict is

    - ``"kept"`` if more than ``1 - minimum_share`` of its cells lie in one cluster of the
      representation;
    - ``"split"`` if not, and the representation divides these cells similarly from every random
      seed: their ARI between seeds, the *stability*, is at least ``minimum_stability``;
    - ``"unstable"`` otherwise. The representation then contains no groups of these cells: Leiden
      cuts a homogeneous cloud at arbitrary places, which change with the seed.

    Seeds show whether Leiden finds the same clusters again in the same cells, not whether it would
    in other cells: with a few hundred cells and few clusters, even arbitrary cuts may recur.

    Parameters
    ----------
    reference
        The cluster of each cell, shape ``(n_cells,)``; cells without one are ignored.
    clusterings
        By name of the representation, its clusters of the same cells from at least 2 seeds, shape
        ``(n_cells, n_repeats)``. Shares are computed from the first seed.
    minimum_share
        Share of a cluster that has to lie elsewhere for the cluster to count as not kept; between 0
        and 1.
    minimum_stability
        Smallest ARI between seeds for which a split counts as stable.

    Returns
    -------
    A row for each cluster of the reference and each representation: ``cluster``, ``n_cells``,
    ``latent`` (name of the representation), ``largest_share`` (of its cells in one cluster of the
    representation), ``effective_clusters`` (:math:`e^H` with :math:`H` the entropy of its cells
    over the clusters of the representation: 1 if all are in one, 2 if they form two halves),
    ``stability``, ``verdict``, and ``only_here`` (whether it is split in this representation and in
    no other). Stability is NaN for a single cell.

    Raises
    ------
    ValueError
        If there is no clustering, shapes do not match, a cell has no cluster in a representation,
        there is only one seed, or a minimum is out of its range.

    Examples
    --------
    >>> reference = np.repeat(["a", "b"], 10)
    >>> halves = np.repeat([0, 1, 2], [5, 5, 10])
    >>> clusterings = {"rna": np.stack([halves, halves], axis=1)}
    >>> table = isk.metrics.cluster_splits(reference, clusterings)
    >>> table[["cluster", "latent", "largest_share", "verdict"]]
      cluster latent  largest_share verdict
    0       a    rna            0.5   split
    1       b    rna            1.0    kept
    """
    check_split_minima(minimum_share, minimum_stability)
    if not clusterings:
        raise ValueError("clusterings is empty: at least one representation is needed.")
    label, names = as_labels(reference, "reference", len(np.asarray(reference)))
    repeats = as_repeats(clusterings, len(label))
    for name, clusters in repeats.items():
        if clusters.shape[1] < 2:
            raise ValueError(
                f"clusterings[{name!r}] has one repeat; stability needs at least 2. Cluster with another seed too."
            )
        if (clusters[label >= 0] < 0).any():
            raise ValueError(
                f"clusterings[{name!r}] lacks cells that have a cluster in reference. Leave these out of reference."
            )
    rows = []
    for place, cluster in enumerate(names):
        members = np.flatnonzero(label == place)
        for latent, clusters in repeats.items():
            row = {"cluster": str(cluster), "n_cells": len(members), "latent": latent}
            rows.append(row | _describe(clusters[members], minimum_share, minimum_stability))
    table = pd.DataFrame(rows)
    is_split = table["verdict"] == "split"
    table["only_here"] = is_split & (is_split.groupby(table["cluster"]).transform("sum") == 1)
    return table


def check_split_minima(minimum_share: float, minimum_stability: float) -> None:
    """Raise a ValueError if one of the two minima of :func:`cluster_splits` is out of its range.

    Parameters
    ----------
    minimum_share, minimum_stability
        As in :func:`cluster_splits`.

    Raises
    ------
    ValueError
        If one is out of its range.

    Examples
    --------
    >>> isk.metrics.check_split_minima(minimum_share=0.2, minimum_stability=0.5)
    """
    check_share("minimum_share", minimum_share)
    if not check_number("minimum_stability", minimum_stability) <= 1:
        raise ValueError(f"minimum_stability={minimum_stability} must be between 0 and 1.")


def _describe(clusters: NDArray[np.intp], minimum_share: float, minimum_stability: float) -> dict[str, float | str]:
    """Describe how ``clusters``, shape ``(n_members, n_repeats)``, divide one cluster."""
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
