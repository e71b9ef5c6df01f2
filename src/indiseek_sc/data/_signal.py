"""What of the variance of features is signal: what counting does not explain, and what is there in cells that were not fitted on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from indiseek_sc.data._matrix import iterate_parts, principal_components, rows_at_once, sum_of_each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from indiseek_sc.nn import FeatureTransform

logger = logging.getLogger("scvi.indiseek_sc")

LEAST_SIGNAL = 0.05
"""A feature that varies has at least this share of its variance for signal, so that it can be predicted and decoded."""

HOLDS = 0.5
"""A component holds that has at least this share of its variance in cells that it was not fitted on."""

FEWEST_COMPONENTS = 5
"""So many components are kept in any case."""

N_PARTS = 5
"""Components are fitted on all of so many parts of the cells but one, which is looked at."""

ENOUGH_CELLS = 1_000
"""Parts are looked at in turn until they hold so many cells."""

MANY_CELLS = 10_000
"""Of so many cells all components hold."""


def counting_noise(transform: FeatureTransform, matrix: Any, rows: np.ndarray) -> torch.Tensor:
    r"""Variance of each feature that counting alone explains, after a step within the cell that takes logarithms.

    With :math:`x` the counts of a feature and :math:`g_i` the logarithm that cell :math:`i` takes of them, the mean of
    :math:`x_i (g_i(x_i) - g_i(x_i - 1))^2` over cells. Of Poisson counts it estimates without bias what bounds the variance of
    :math:`g_i(x_i)` (Poincare inequality), closely where counts are large or hardly ever above 1.

    Parameters
    ----------
    transform
        One for counts, with features and library size fitted.
    matrix
        Counts, shape ``(n_cells, n_input)``.
    rows
        Row numbers.

    Returns
    -------
    Float64, shape ``(n_features,)``, on the transform's device.
    """
    features, total = transform.features.cpu().numpy(), np.zeros(transform.n_features)
    for part in iterate_parts(matrix, rows, rows_at_once(transform.n_features)):
        factor = np.ones(part.shape[0])
        if transform.library_size is not None:
            factor = float(transform.library_size) / np.maximum(sum_of_each_row(part), 1.0)
        counts = csr_matrix(part[:, features])
        factor, x = np.repeat(factor, np.diff(counts.indptr)), np.maximum(counts.data.astype(np.float64), 1.0)
        step = np.log1p(factor * x) - np.log1p(factor * (x - 1))
        total += np.bincount(counts.indices, weights=counts.data * step**2, minlength=transform.n_features)
    return torch.from_numpy(total / rows.size).to(transform.center.device)


def count_lasting(
    read: Callable[[], Iterable[torch.Tensor]], n_cells: int, n_features: int, n_components: int, *, seed: int
) -> int:
    """Number of principal components that hold on cells that they were not fitted on.

    Of few cells the later components fit these cells alone, and have next to no variance in others. Components are fitted on four
    fifths of the cells, and the variance along them in the other fifth is compared with that in the cells of the fit.

    Parameters
    ----------
    read
        Gives the cells, a part at a time, each of shape ``(n_chunk, n_features)``; called several times.
    n_cells, n_features
        Shape of all of them.
    n_components
        Largest number of components.
    seed
        Decides which cells are in which part.

    Returns
    -------
    How many of the first components are to be kept, at most ``n_components``.
    """
    if n_cells >= MANY_CELLS or n_components <= FEWEST_COMPONENTS or n_cells < 2 * N_PARTS:
        return n_components
    part = np.random.default_rng(seed).permutation(n_cells) % N_PARTS
    shares, n_seen = [], 0
    for number in range(N_PARTS):
        inside = part != number
        mean, components, variances = principal_components(
            _some(read(), inside), int(inside.sum()), n_features, n_components
        )
        scores = np.concatenate([(z.cpu().numpy() - mean) @ components for z in _some(read(), ~inside)])
        share = np.zeros(n_components)
        share[: variances.size] = scores.var(axis=0, ddof=1) / variances
        shares.append(share)
        n_seen += len(scores)
        if n_seen >= ENOUGH_CELLS:
            break
    n_lasting = max(int((np.mean(shares, axis=0) >= HOLDS).sum()), FEWEST_COMPONENTS)
    if n_lasting < n_components:
        logger.info(
            f"PCA: {n_lasting} of {n_components} components are kept; the others have less than half of their variance in cells "
            "that they were not fitted on."
        )
    return n_lasting


def _some(chunks: Iterable[torch.Tensor], is_chosen: np.ndarray) -> Iterator[torch.Tensor]:
    """Yield the chosen cells."""
    start = 0
    for z in chunks:
        chosen = is_chosen[start : start + len(z)]
        start += len(z)
        if chosen.any():
            yield z[torch.from_numpy(chosen).to(z.device)]
