"""Batch mixing: the excess of neighbours from the same batch within each label."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix
from indiseek_sc.metrics._theta import exact_neighbors

BATCH_MIXING_COLUMNS = ("label", "n_cells", "n_batches", "same_batch", "by_chance", "excess", "p", "p_adjusted")


def batch_mixing(
    latent: ArrayLike,
    labels: ArrayLike,
    batches: ArrayLike,
    *,
    n_neighbors: int = 15,
    minimum_cells: int = 50,
    n_permutations: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare, within each label, the share of neighbours from the same batch with its expectation.

    Neighbours are sought among cells of the same label only, so that a label that occurs in few
    batches is not mistaken for a batch effect.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    labels, batches
        Label and batch of each cell, shape ``(n_cells,)``; cells that lack either are left out.
    n_neighbors
        Number of neighbours of a cell; fewer if a label has too few cells.
    minimum_cells
        Labels of fewer cells are left out, and so are labels of which fewer than two batches
        contain ``n_neighbors`` cells.
    n_permutations
        Number of permutations of the batches within each label; the smallest p-value is
        ``1 / (1 + n_permutations)``.
    seed
        Seed of the permutations.

    Returns
    -------
    A row for each label: ``n_cells``; ``n_batches``, the number of batches with cells of this
    label; ``same_batch``, the mean share of neighbours from the same batch; ``by_chance``, its
    expectation if batches are mixed; ``excess``, their difference divided by ``1 - by_chance``,
    which is 1 if batches are separate; ``p``, a one-sided permutation p-value; and ``p_adjusted``,
    adjusted over labels by the method of Benjamini and Hochberg [1]_.

    Raises
    ------
    ValueError
        If shapes differ or a number is below 1.

    References
    ----------
    .. [1] Benjamini and Hochberg. Controlling the false discovery rate. Journal of the Royal
       Statistical Society B 57 (1995).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batches = np.repeat(["first", "second"], 50)
    >>> shift = 10 * (batches == "second")[:, None]
    >>> latent = rng.normal(size=(100, 2)) + shift
    >>> table = isk.metrics.batch_mixing(latent, ["T cell"] * 100, batches)
    >>> table[["label", "n_batches", "same_batch", "excess"]]
        label  n_batches  same_batch  excess
    0  T cell          2         1.0     1.0
    """
    for name, number in (("n_neighbors", n_neighbors), ("minimum_cells", minimum_cells)):
        check_whole(name, number, 1)
    check_whole("n_permutations", n_permutations, 1)
    points = as_matrix(latent, "latent")
    label, names = as_labels(labels, "labels", len(points))
    batch, _ = as_labels(batches, "batches", len(points))
    rng = np.random.default_rng(seed)
    rows = []
    for number, name in enumerate(names):
        cells = np.flatnonzero((label == number) & (batch >= 0))
        counts = np.bincount(batch[cells])
        if len(cells) < minimum_cells or (counts >= n_neighbors).sum() < 2:
            continue
        neighbors = exact_neighbors(points[cells], min(n_neighbors, len(cells) - 1))
        own = batch[cells]
        same = _share(own, neighbors)
        by_chance = float((counts * (counts - 1)).sum() / (len(cells) * (len(cells) - 1)))
        permuted = [_share(rng.permutation(own), neighbors) for _ in range(n_permutations)]
        p = (1 + sum(share >= same for share in permuted)) / (1 + n_permutations)
        excess = (same - by_chance) / (1 - by_chance)
        rows.append((name, len(cells), int((counts > 0).sum()), same, by_chance, excess, p))
    table = pd.DataFrame(rows, columns=list(BATCH_MIXING_COLUMNS[:-1]))
    return table.assign(p_adjusted=false_discovery_control(table["p"]) if len(table) else pd.Series(dtype=float))


def _share(batch: np.ndarray, neighbors: np.ndarray) -> float:
    return float((batch[neighbors] == batch[:, None]).mean())
