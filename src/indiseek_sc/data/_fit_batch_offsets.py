"""How far batches are apart, cell states alike."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

N_CLUSTERS = 20
CELLS_PER_CLUSTER = 30
MOST_ROUNDS = 20

PRIOR_CELLS = 20.0
"""An offset is drawn to 0 as if so many more cells had none: a batch that shares no cluster with others keeps what it has."""


def fit_batch_offsets(
    features: Sequence[np.ndarray], batch: np.ndarray, n_batches: int, *, seed: int
) -> list[np.ndarray]:
    r"""Estimate what each batch adds to the features of a cell, whatever its state. This step is ours, not the paper's.

    States are the clusters :math:`k` that k-means finds in all modalities together once the offsets are taken out, and a cell :math:`i` of batch
    :math:`b` has

    .. math::

        x_i = \mu_{k(i)} + \delta_b + \varepsilon_i.

    Clusters and offsets are fitted in turns. Given the clusters, :math:`\delta` is that of a two-way analysis of variance with the batch as a
    random effect: only clusters that several batches have tell of it, so batches may consist of cells of quite different kinds. The idea of offsets
    within clusters is that of Harmony (Korsunsky et al. 2019, Nature Methods 16, 1289), with one offset for all clusters, so that new
    cells of a known batch need no fit. Where clusters end up depends on where they start: both no offsets and the differences of the batches'
    means are tried, and those offsets kept that leave less variance within clusters.

    Parameters
    ----------
    features
        Features of each modality, shape ``(n_cells, n_features)``.
    batch
        Batch codes, shape ``(n_cells,)``.
    n_batches
        How many batches there are; those without cells get offsets of 0.
    seed
        Decides where k-means starts.

    Returns
    -------
    Offsets of each modality, shape ``(n_batches, n_features)``; their mean over the cells is 0.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    # Both modalities weigh alike.
    scales = [np.sqrt(max(float(x.var(axis=0).sum()), 1e-12)) for x in features]
    x = np.hstack([values.astype(np.float64) / scale for values, scale in zip(features, scales, strict=True)])
    is_of = np.eye(n_batches)[batch]
    n_clusters = max(1, min(N_CLUSTERS, len(x) // CELLS_PER_CLUSTER))

    def run(offsets: np.ndarray) -> tuple[float, np.ndarray]:
        centers, labels, inertia = "k-means++", None, np.inf
        for _ in range(MOST_ROUNDS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = KMeans(n_clusters, init=centers, n_init=1, max_iter=20, random_state=seed).fit(
                    x - offsets[batch]
                )
            if labels is not None and (found.labels_ == labels).all():
                break
            centers, labels, inertia = found.cluster_centers_, found.labels_, found.inertia_
            offsets = _offsets_within(x, np.eye(n_clusters)[labels], is_of)
        return inertia, offsets

    means = is_of.T @ x / np.maximum(is_of.sum(axis=0), 1)[:, None] - x.mean(axis=0)
    means[is_of.sum(axis=0) == 0] = 0.0
    best = min((run(start) for start in (np.zeros_like(means), means)), key=lambda result: result[0])[1]
    widths = np.cumsum([values.shape[1] for values in features])[:-1]
    return [part * scale for part, scale in zip(np.split(best, widths, axis=1), scales, strict=True)]


def _offsets_within(x: np.ndarray, is_in: np.ndarray, is_of: np.ndarray) -> np.ndarray:
    """Offsets of batches given clusters: least squares with an offset for each, and the cluster means eliminated."""
    counts = is_in.T @ is_of  # (n_clusters, n_batches)
    n_cluster = np.maximum(counts.sum(axis=1), 1.0)
    matrix = np.diag(counts.sum(axis=0)) - counts.T @ (counts / n_cluster[:, None])
    within = is_of.T @ (x - is_in @ ((is_in.T @ x) / n_cluster[:, None]))
    offsets = np.linalg.solve(matrix + PRIOR_CELLS * np.eye(len(matrix)), within)
    return offsets - is_of.sum(axis=0) @ offsets / len(x)
