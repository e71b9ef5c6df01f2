"""Dependence of two variables by how close the same pairs of cells are in both."""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST_CELLS = 4
"""With fewer, centred matrices have no degrees of freedom left."""

NEGLIGIBLE_VARIANCE = 1e-8
"""Mean square of a centred matrix, with entries around 1, below which a variable is constant."""


def matrix_correlation(first: Tensor, second: Tensor) -> Tensor:
    r"""Correlation of two symmetric matrices over pairs of cells, without the bias of small samples.

    .. math::

        \frac{\langle \tilde A, \tilde B \rangle}{\sqrt{\langle \tilde A, \tilde A \rangle \langle \tilde B, \tilde B \rangle}},
        \qquad \tilde a_{ij} = a_{ij} - \frac{a_{i\cdot} + a_{\cdot j}}{n - 2} + \frac{a_{\cdot\cdot}}{(n - 1)(n - 2)} \quad (i \ne j),

    the U-centring of Szekely and Rizzo (2014, Ann. Statist. 42, 2382; arXiv 1310.2926). Diagonals are left out. The numerator has
    expectation 0 at independence, so the value may be slightly negative; centred by plain means it would be positive there, the
    more so the wider the code and the smaller the batch, and the encoder would chase that.

    Parameters
    ----------
    first
        Distances or similarities, shape ``(n_cells, n_cells)``, of the order of 1.
    second
        The same of the other variable.

    Returns
    -------
    Scalar of at most 1; 0 where a variable is constant, or there are fewer than 4 cells.
    """
    if first.shape[0] < FEWEST_CELLS:
        return first.new_zeros(())
    first, second = _centre(first), _centre(second)
    scales = [matrix.square().mean().clamp(min=NEGLIGIBLE_VARIANCE) for matrix in (first, second)]
    return (first * second).mean() / (scales[0] * scales[1]).sqrt()


def pair_distances(values: Tensor) -> Tensor:
    """Euclidean distances of all pairs of cells, shape ``(n_cells, n_cells)``.

    Differences are taken first: by products, equal cells would lie a rounding error apart, with slopes of any size.
    """
    return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")


def _centre(matrix: Tensor) -> Tensor:
    n_cells = matrix.shape[0]
    itself = torch.eye(n_cells, dtype=torch.bool, device=matrix.device)
    matrix = matrix.masked_fill(itself, 0.0)
    sums = matrix.sum(dim=0)
    centred = matrix - (sums[:, None] + sums) / (n_cells - 2) + sums.sum() / ((n_cells - 1) * (n_cells - 2))
    return centred.masked_fill(itself, 0.0)
