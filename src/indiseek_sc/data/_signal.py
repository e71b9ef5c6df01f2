"""Signal in features: variance beyond counting noise, and variance reproduced on held-out cells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from indiseek_sc._settings import settings
from indiseek_sc.data._matrix import iterate_parts, principal_components, sum_of_each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from indiseek_sc.nn import FeatureTransform

logger = logging.getLogger("scvi.indiseek_sc")

LEAST_SIGNAL = 0.05
"""Lower limit of the fraction of signal in the variance of a feature that is not constant."""

MIN_VARIANCE_RATIO = 0.5
"""Smallest ratio of held-out to fitted variance of a reproducible component."""

FEWEST_COMPONENTS = 5
"""Smallest number of components to keep."""

N_FOLDS = 5
"""Number of cross-validation folds."""

N_CELLS_SUFFICIENT = 1_000
"""Number of held-out cells after which no further folds are evaluated."""

MANY_CELLS = 10_000
"""Number of training cells from which all components are kept."""


def counting_noise(transform: FeatureTransform, matrix: Any, rows: np.ndarray) -> torch.Tensor:
    r"""Estimate the variance of each feature due to counting noise, after a log transformation.

    For counts :math:`x_i` of a feature in cell :math:`i` and their log transformation :math:`g_i`,
    the estimate is the mean of :math:`x_i (g_i(x_i) - g_i(x_i - 1))^2` over cells. For Poisson
    counts, this is an unbiased estimate of an upper bound of the variance of :math:`g_i(x_i)`
    (Poincare inequality), which is tight if counts are large or rarely above 1.

    Parameters
    ----------
    transform
        Transform for counts, with fitted features and library size.
    matrix
        Counts, shape ``(n_cells, n_input)``.
    rows
        Row numbers of the cells to use, shape ``(n_rows,)``.

    Returns
    -------
    Float64, shape ``(n_features,)``, on the transform's device.
    """
    features, total = transform.features.cpu().numpy(), np.zeros(transform.n_features)
    for part in iterate_parts(matrix, rows, settings.rows_at_once(transform.n_features)):
        factor = np.ones(part.shape[0])
        if transform.library_size is not None:
            factor = float(transform.library_size) / np.maximum(sum_of_each_row(part), 1.0)
        counts = csr_matrix(part[:, features])
        factor, x = np.repeat(factor, np.diff(counts.indptr)), np.maximum(counts.data.astype(np.float64), 1.0)
        step = np.log1p(factor * x) - np.log1p(factor * (x - 1))
        total += np.bincount(counts.indices, weights=counts.data * step**2, minlength=transform.n_features)
    return torch.from_numpy(total / rows.size).to(transform.center.device)


def count_reproducible(
    read: Callable[[], Iterable[torch.Tensor]], n_cells: int, n_features: int, n_components: int, *, seed: int
) -> int:
    """Return the number of principal components that are reproducible on held-out cells.

    With few cells, later components overfit and have little variance on other cells. Components are
    fitted on four fifths of the cells, and their variances on the other fifth are compared with
    those on the fitted cells.

    Parameters
    ----------
    read
        Function that yields chunks of cells of shape ``(n_chunk, n_features)``; called several
        times.
    n_cells, n_features
        Total numbers of cells and features.
    n_components
        Largest number of components.
    seed
        Seed of the folds.

    Returns
    -------
    Number of leading components to keep, at most ``n_components``.
    """
    if n_cells >= MANY_CELLS or n_components <= FEWEST_COMPONENTS or n_cells < 2 * N_FOLDS:
        return n_components
    part = np.random.default_rng(seed).permutation(n_cells) % N_FOLDS
    shares, n_seen = [], 0
    for number in range(N_FOLDS):
        inside = part != number
        mean, components, variances = principal_components(
            _some(read(), inside), int(inside.sum()), n_features, n_components
        )
        scores = np.concatenate([(z.cpu().numpy() - mean) @ components for z in _some(read(), ~inside)])
        share = np.zeros(n_components)
        share[: variances.size] = scores.var(axis=0, ddof=1) / variances
        shares.append(share)
        n_seen += len(scores)
        if n_seen >= N_CELLS_SUFFICIENT:
            break
    n_kept = max(int((np.mean(shares, axis=0) >= MIN_VARIANCE_RATIO).sum()), FEWEST_COMPONENTS)
    if n_kept < n_components:
        logger.info(
            f"PCA: {n_kept} of {n_components} components are kept; the others have less than half of their variance on "
            "training cells that were set aside in turn."
        )
    return n_kept


def _some(chunks: Iterable[torch.Tensor], is_chosen: np.ndarray) -> Iterator[torch.Tensor]:
    """Yield the chosen cells of each chunk that contains any."""
    start = 0
    for z in chunks:
        chosen = is_chosen[start : start + len(z)]
        start += len(z)
        if chosen.any():
            yield z[torch.from_numpy(chosen).to(z.device)]
