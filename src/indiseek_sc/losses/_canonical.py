"""The canonical term of stage 1, which makes shared codes hold nothing that only one modality knows."""

from __future__ import annotations

import torch
from torch import Tensor


def canonical_correlation_loss(first: Tensor, second: Tensor, *, ridge: float = 1e-3) -> Tensor:
    r"""Minus the sum of squared canonical correlations of a batch.

    .. math::

        \mathcal L = - \big\| \Sigma_{aa}^{-1/2}\, \Sigma_{ab}\, \Sigma_{bb}^{-1/2} \big\|_F^2,
        \qquad \Sigma_{aa} = \tfrac1n A^\top A + r I,

    deep CCA (Andrew et al. 2013, ICML) in its squared form. A direction of a code that the other modality cannot predict
    earns nothing, whereas InfoNCE lets it stay. This term is not part of the published IndiSeek.

    Parameters
    ----------
    first
        Codes of one modality, shape ``(n_cells, n_dimensions)``.
    second
        Codes of the same cells in the other modality, shape ``(n_cells, n_other_dimensions)``.
    ridge
        Added to the diagonal of both covariances, in squared units of the codes. It keeps constant dimensions finite and
        discounts tiny ones.

    Returns
    -------
    Scalar between minus the number of dimensions and 0.
    """
    n_cells = first.shape[0]
    first = first - first.mean(dim=0)
    second = second - second.mean(dim=0)
    # Any square root of the inverse covariance gives the same norm, and the Cholesky factor has stable gradients.
    factor_first = _cholesky(first.T @ first / n_cells, ridge)
    factor_second = _cholesky(second.T @ second / n_cells, ridge)
    half = torch.linalg.solve_triangular(factor_first, first.T @ second / n_cells, upper=False)
    coherence = torch.linalg.solve_triangular(factor_second, half.T, upper=False)
    return -coherence.square().sum()


def _cholesky(covariance: Tensor, ridge: float) -> Tensor:
    eye = torch.eye(covariance.shape[0], dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + ridge * eye)
