"""Closed-form estimates of additive effects of batches and other covariates on features."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indiseek_sc.nn import N_STATES, Offsets

if TYPE_CHECKING:
    from collections.abc import Sequence

CELLS_PER_STATE = 30
"""Number of training cells required for each state, on average."""

MAX_ITERATIONS = 20
"""Largest number of iterations of a fit that alternates between states and offsets."""

N_PSEUDO_CELLS = 20.0
"""Strength of shrinkage, as a number of pseudo-cells without an offset."""


def fit_offsets(features: Sequence[np.ndarray], design: np.ndarray, *, seed: int) -> list[Offsets]:
    r"""Estimate additive effects of covariates on features; this step is not part of the paper.

    The features of a cell :math:`i` in state :math:`k(i)` with covariates :math:`d_i` (centred
    indicators of batches, or values) are modelled as

    .. math::

        x_i = \mu_{k(i)} + (\beta + \gamma_{k(i)})^\top d_i + \varepsilon_i .

    States are k-means clusters of the features of all modalities after subtraction of offsets;
    states and offsets are fitted alternately. First, :math:`\gamma = 0`. Given the states,
    :math:`\beta` is estimated by an analysis of variance with covariates as random effects: only
    states present in several batches contribute, so batches may differ in their cell types. Since
    the result depends on the initialisation, the fit is started both without offsets and with the
    offsets of a regression without states, and the fit with the smaller variance within states is
    kept. Then, each state obtains its own offsets in addition to the overall ones, with the same
    shrinkage, so that batch effects may differ between cell types. Offsets within clusters were
    proposed for Harmony [1]_; here, they apply to new cells without another fit, see
    :class:`~indiseek_sc.nn.CovariateOffsets`.

    Parameters
    ----------
    features
        Features of each modality, shape ``(n_cells, n_features)``.
    design
        Covariates of the cells, centred, shape ``(n_cells, n_columns)``; without columns, only
        states are fitted.
    seed
        Seed of k-means.

    Returns
    -------
    The offsets of each modality.

    References
    ----------
    .. [1] Korsunsky et al. (2019), Fast, sensitive and accurate integration of single-cell data
       with Harmony, Nature Methods 16, 1289.
    """
    scales = _find_scales(features)
    x = np.hstack([values.astype(np.float64) / scale for values, scale in zip(features, scales, strict=True)])
    design = design.astype(np.float64)
    n_states = max(1, min(N_STATES, len(x) // CELLS_PER_STATE))

    def run(overall: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        centers: Any = "k-means++"
        labels, inertia = np.zeros(0, dtype=np.int64), np.inf
        for _ in range(MAX_ITERATIONS):
            found = _find_clusters(x - design @ overall, centers, n_states, seed)
            if np.array_equal(found.labels_, labels):
                break
            centers, labels, inertia = found.cluster_centers_, found.labels_, found.inertia_
            overall = _solve_within(x, np.eye(n_states)[labels], design)
        return inertia, overall, labels

    starts = [np.zeros((design.shape[1], x.shape[1]))]
    if design.shape[1]:
        starts.append(_solve_within(x, np.ones((len(x), 1)), design))
    _, overall, labels = min((run(start) for start in starts), key=lambda result: result[0])
    *found, residual = overall, *_fit_states(x - design @ overall, design, labels, n_states)
    overalls, means, of_states = (
        [torch.from_numpy(x) for x in _split_modalities(values, features, scales)] for values in found
    )
    spreads = [max(float((x**2).sum(axis=1).mean()), 1e-12) for x in _split_modalities(residual, features, scales)]
    return list(map(Offsets, overalls, means, of_states, spreads))


def _fit_states(
    x: np.ndarray, design: np.ndarray, labels: np.ndarray, n_states: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit offsets for each state, alternating with the assignment of cells to states.

    Returns
    -------
    The states, their offsets, and the residuals of the cells.
    """
    n_columns = design.shape[1]
    states, offsets = np.zeros((n_states, x.shape[1])), np.zeros((n_states, n_columns, x.shape[1]))
    for _ in range(MAX_ITERATIONS):
        for k in np.unique(labels):
            some, of_some = x[labels == k], design[labels == k]
            offsets[k] = _solve_within(some, np.ones((len(some), 1)), of_some)
            states[k] = (some - of_some @ offsets[k]).mean(axis=0)
        distances = np.stack(
            [((x - design @ offsets[k] - states[k]) ** 2).sum(axis=1) for k in range(n_states)], axis=1
        )
        nearest = distances.argmin(axis=1)
        if (nearest == labels).all():
            break
        labels = nearest
    residual = x - states[labels]
    for k in np.unique(labels):
        residual[labels == k] -= design[labels == k] @ offsets[k]
    return states, offsets, residual


def fit_added_offset(features: Sequence[np.ndarray], states: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Estimate the offset of a batch that a model was not trained on, given its cell states.

    As in :func:`fit_offsets`, but with fixed states, so that cells of other batches are not
    affected: each cell is assigned to the nearest state, and the offset, common to all states, is
    the mean difference from the states, with the same shrinkage; both steps alternate. The fit is
    started without an offset and from the difference in means, and the better one is kept.

    Parameters
    ----------
    features
        Features of the cells of the batch, by modality, shape ``(n_cells, n_features)``.
    states
        States of the model, for the same modalities, shape ``(n_states, n_features)``.

    Returns
    -------
    The offset for each modality, shape ``(n_features,)``.
    """
    from sklearn.metrics import pairwise_distances_argmin

    scales = _find_scales(states)
    x, centers = (
        np.hstack([part.astype(np.float64) / scale for part, scale in zip(parts, scales, strict=True)])
        for parts in (features, states)
    )

    def run(offset: np.ndarray) -> tuple[float, np.ndarray]:
        labels = None
        for _ in range(MAX_ITERATIONS):
            nearest = pairwise_distances_argmin(x - offset, centers)
            if labels is not None and (nearest == labels).all():
                break
            labels = nearest
            offset = (x - centers[labels]).sum(axis=0) / (len(x) + N_PSEUDO_CELLS)
        return float(((x - offset - centers[labels]) ** 2).sum()), offset

    # Features have mean 0 over the training cells, so x.mean is the difference in means.
    best = min((run(start) for start in (np.zeros(x.shape[1]), x.mean(axis=0))), key=lambda result: result[0])[1]
    return _split_modalities(best, features, scales)


def _find_scales(features: Sequence[np.ndarray]) -> list[float]:
    """Return the divisors that give all modalities the same total variance."""
    return [float(np.sqrt(max(float(x.var(axis=0).sum()), 1e-12))) for x in features]


def _split_modalities(x: np.ndarray, features: Sequence[np.ndarray], scales: Sequence[float]) -> list[np.ndarray]:
    """Split columns by modality, in the units of each."""
    widths = np.cumsum([values.shape[1] for values in features])[:-1]
    return [part * scale for part, scale in zip(np.split(x, widths, axis=-1), scales, strict=True)]


def _find_clusters(x: np.ndarray, start: Any, n_clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_clusters, init=start, n_init=1, max_iter=20, random_state=seed).fit(x)


def _solve_within(x: np.ndarray, is_in: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Return offsets given states, by ridge regression on the design after centring by state."""
    n_cells = np.maximum(is_in.sum(axis=0), 1.0)[:, None]
    sums = is_in.T @ design  # (n_states, n_columns)
    matrix = design.T @ design - sums.T @ (sums / n_cells)
    within = design.T @ (x - is_in @ ((is_in.T @ x) / n_cells))
    return np.linalg.solve(matrix + N_PSEUDO_CELLS * np.eye(len(matrix)), within)
