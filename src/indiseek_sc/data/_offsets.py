"""What batches and other covariates add to the features of cells, in closed form."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indiseek_sc.nn import N_STATES, Offsets

if TYPE_CHECKING:
    from collections.abc import Sequence

CELLS_PER_STATE = 30
MOST_ROUNDS = 20

PRIOR_CELLS = 20.0
"""An offset is shrunk to 0 as if so many more cells had none: a batch that shares no state with others keeps what it has."""


def fit_offsets(features: Sequence[np.ndarray], design: np.ndarray, *, seed: int) -> list[Offsets]:
    r"""Estimate what covariates add to the features of a cell. This step is ours, not the paper's.

    A cell :math:`i` of the state :math:`k(i)` with covariates :math:`d_i` (centred indicators of batches, or values) has

    .. math::

        x_i = \mu_{k(i)} + (\beta + \gamma_{k(i)})^\top d_i + \varepsilon_i .

    States are the clusters that k-means finds in all modalities together once offsets are subtracted; states and offsets are fitted in turns.
    First :math:`\gamma = 0`. Given the states, :math:`\beta` is that of an analysis of variance in which covariates are random effects: only states
    that several batches have contribute, so batches may consist of cells of quite different kinds. Where states end up depends on
    where they start: both no offsets and those of a regression without states are tried, and those kept that leave less variance within
    states. From there on each state has offsets of its own beside the overall ones, shrunk likewise, so that a batch may change one kind of cells
    more than another. The idea of offsets within clusters is that of Harmony (Korsunsky et al. 2019, Nature Methods 16, 1289), in a form that
    new cells need no fit for, see :class:`~indiseek_sc.nn.CovariateOffsets`.

    Parameters
    ----------
    features
        Features of each modality, shape ``(n_cells, n_features)``.
    design
        Covariates of the cells, whose means over the cells are 0, shape ``(n_cells, n_columns)``; without columns, states alone are found.
    seed
        Decides where k-means starts.

    Returns
    -------
    The offsets of each modality.
    """
    scales = _find_scales(features)
    x = np.hstack([values.astype(np.float64) / scale for values, scale in zip(features, scales, strict=True)])
    design = design.astype(np.float64)
    n_states = max(1, min(N_STATES, len(x) // CELLS_PER_STATE))

    def run(overall: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        centers: Any = "k-means++"
        labels, inertia = np.zeros(0, dtype=np.int64), np.inf
        for _ in range(MOST_ROUNDS):
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
        [torch.from_numpy(x) for x in _take_apart(values, features, scales)] for values in found
    )
    spreads = [max(float((x**2).sum(axis=1).mean()), 1e-12) for x in _take_apart(residual, features, scales)]
    return list(map(Offsets, overalls, means, of_states, spreads))


def _fit_states(
    x: np.ndarray, design: np.ndarray, labels: np.ndarray, n_states: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let each state have offsets of its own, and find states and offsets in turns.

    Returns
    -------
    The states, their offsets, and what is left of each cell.
    """
    n_columns = design.shape[1]
    states, offsets = np.zeros((n_states, x.shape[1])), np.zeros((n_states, n_columns, x.shape[1]))
    for _ in range(MOST_ROUNDS):
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
    """Estimate what a batch adds to features that no model was trained with, by the cell states of a model.

    As :func:`fit_offsets` does, but the states stay where they are, so that cells of other batches do too: each cell belongs to the
    nearest one, and the offset, the same for all states, is the mean difference from these, in turns, shrunk to 0 as there. No offset and the
    difference of the batch's mean are tried as starts.

    Parameters
    ----------
    features
        Features of the cells of the batch, by modality, shape ``(n_cells, n_features)``.
    states
        The states of a model, of the same modalities, shape ``(n_states, n_features)``.

    Returns
    -------
    The offset by modality, shape ``(n_features,)``.
    """
    from sklearn.metrics import pairwise_distances_argmin

    scales = _find_scales(states)
    x, centers = (
        np.hstack([part.astype(np.float64) / scale for part, scale in zip(parts, scales, strict=True)])
        for parts in (features, states)
    )

    def run(offset: np.ndarray) -> tuple[float, np.ndarray]:
        labels = None
        for _ in range(MOST_ROUNDS):
            nearest = pairwise_distances_argmin(x - offset, centers)
            if labels is not None and (nearest == labels).all():
                break
            labels = nearest
            offset = (x - centers[labels]).sum(axis=0) / (len(x) + PRIOR_CELLS)
        return float(((x - offset - centers[labels]) ** 2).sum()), offset

    # Over the training cells the mean of the features is 0.
    best = min((run(start) for start in (np.zeros(x.shape[1]), x.mean(axis=0))), key=lambda result: result[0])[1]
    return _take_apart(best, features, scales)


def _find_scales(features: Sequence[np.ndarray]) -> list[float]:
    """What to divide each modality by so that both weigh alike."""
    return [float(np.sqrt(max(float(x.var(axis=0).sum()), 1e-12))) for x in features]


def _take_apart(x: np.ndarray, features: Sequence[np.ndarray], scales: Sequence[float]) -> list[np.ndarray]:
    """Columns of both modalities in the units of each."""
    widths = np.cumsum([values.shape[1] for values in features])[:-1]
    return [part * scale for part, scale in zip(np.split(x, widths, axis=-1), scales, strict=True)]


def _find_clusters(x: np.ndarray, start: Any, n_clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_clusters, init=start, n_init=1, max_iter=20, random_state=seed).fit(x)


def _solve_within(x: np.ndarray, is_in: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Offsets given states: least squares on the design with a penalty, and the means of the states eliminated."""
    n_cells = np.maximum(is_in.sum(axis=0), 1.0)[:, None]
    sums = is_in.T @ design  # (n_states, n_columns)
    matrix = design.T @ design - sums.T @ (sums / n_cells)
    within = design.T @ (x - is_in @ ((is_in.T @ x) / n_cells))
    return np.linalg.solve(matrix + PRIOR_CELLS * np.eye(len(matrix)), within)
