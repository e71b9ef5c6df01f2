"""How far neighbours share their batch beyond chance, label by label."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix
from indiseek_sc.metrics._theta import find_neighbors

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
    """Compare, within each label, the share of neighbours of the same batch with what chance gives.

    Neighbours are sought among cells of the same label alone, so that a label that few batches have is no sign of a batch effect.

    Parameters
    ----------
    latent
        A representation, shape ``(n_cells, n_dimensions)``.
    labels, batches
        Of each cell, shape ``(n_cells,)``; cells that lack one are left out.
    n_neighbors
        Neighbours of a cell, fewer where a label has no more.
    minimum_cells
        Labels of fewer cells, and those of which less than two batches have ``n_neighbors`` cells, are left out.
    n_permutations
        Permutations of the batches within each label; the smallest p-value is one over one more than this.
    seed
        Seed of the permutations.

    Returns
    -------
    A row for each label: ``n_cells``; ``n_batches`` that have cells of it; ``same_batch``, the mean share of neighbours of the same batch;
    ``by_chance``, its expectation where batches are mixed; ``excess``, the difference over ``1 - by_chance``, which is 1 where batches are apart;
    ``p``, one-sided, by permutation; and ``p_adjusted``, after Benjamini and Hochberg [1]_ over labels.

    Raises
    ------
    ValueError
        If shapes differ or a number is below 1.

    References
    ----------
    .. [1] Benjamini and Hochberg. Controlling the false discovery rate. Journal of the Royal Statistical Society B 57 (1995).
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
        neighbors = find_neighbors(points[cells], min(n_neighbors, len(cells) - 1))
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
