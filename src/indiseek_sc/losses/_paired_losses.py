"""Losses between two matrices of the same cells: InfoNCE, canonical correlation, and the normalised error."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, log_scale: Tensor, is_compared: Tensor | None = None) -> Tensor:
    r"""Symmetric InfoNCE between paired representations, as in CLIP (Radford et al. 2021, arXiv 2103.00020).

    With :math:`s_{ij} = e^{\alpha} \cos(a_i, b_j)`,

    .. math::

        \mathcal L = -\frac{1}{2n} \sum_i \Big[ \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
                     + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}} \Big].

    All other cells of the batch are the negatives, so values compare only between batches of one size; chance is
    :math:`\log n`.

    Parameters
    ----------
    first
        Representations of one modality, shape ``(n_cells, n_dimensions)``.
    second
        Representations of the same cells in the other modality, same shape.
    log_scale
        Logarithm of the inverse temperature, scalar; learned.
    is_compared
        Which cells are negatives of which, shape ``(n_cells, n_cells)``, with each cell among its own, such as those of the same batch: what
        they have in common cannot help to tell them apart. All cells if not given.

    Returns
    -------
    Scalar, in nats.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"Paired representations need one shape (n_cells, n_dimensions), got {first.shape} and {second.shape}."
        )
    # The scale multiplies before anything is exponentiated, so that a large one cannot overflow.
    similarity = log_scale.exp() * F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
    if is_compared is not None:
        similarity = similarity.masked_fill(~is_compared, -torch.inf)
    partner = torch.arange(first.shape[0], device=first.device)
    return (F.cross_entropy(similarity, partner) + F.cross_entropy(similarity.T, partner)) / 2


def canonical_correlation_loss(first: Tensor, second: Tensor, *, ridge: float = 1e-3) -> Tensor:
    r"""Minus the sum of squared canonical correlations of a batch.

    .. math::

        \mathcal L = - \big\| \Sigma_{aa}^{-1/2}\, \Sigma_{ab}\, \Sigma_{bb}^{-1/2} \big\|_F^2,
        \qquad \Sigma_{aa} = \tfrac1n A^\top A + r I,

    deep CCA (Andrew et al. 2013, ICML) in its squared form. A direction of a representation that the other modality cannot predict
    earns nothing, whereas InfoNCE lets it stay. This term is not part of the published IndiSeek.

    Parameters
    ----------
    first
        Representations of one modality, shape ``(n_cells, n_dimensions)``.
    second
        Representations of the same cells in the other modality, shape ``(n_cells, n_other_dimensions)``.
    ridge
        Added to the diagonal of both covariances, in squared units of the representations. It keeps constant dimensions finite and
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
    """Return the Cholesky factor, NaN where there is none: an exception would make the host wait for the device at each step."""
    eye = torch.eye(covariance.shape[0], dtype=covariance.dtype, device=covariance.device)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * eye)
    return torch.where(failed > 0, torch.nan, factor)


def remove_linear(values: Tensor, design: Tensor, *, ridge: float = 1.0) -> Tensor:
    r"""Return what a linear regression on the columns of a design does not explain.

    .. math::

        V - D (D^\top D + r I)^{-1} D^\top V ,

    with centred columns in :math:`V` and :math:`D`: correlations become partial ones, which are those within batches if the columns of the design are
    indicators of these.

    Parameters
    ----------
    values
        Shape ``(n_cells, n_columns)``.
    design
        Shape ``(n_cells, n_covariates)``.
    ridge
        Penalty, in cells.

    Returns
    -------
    Shape ``(n_cells, n_columns)``.
    """
    values, design = values - values.mean(dim=0), design - design.mean(dim=0)
    factor = _cholesky(design.T @ design, ridge)
    return values - design @ torch.cholesky_solve(design.T @ values, factor)


def normalized_error(target: Tensor, estimate: Tensor, total_variance: Tensor) -> Tensor:
    r"""Squared error as a share of what there was to explain.

    .. math::

        \frac{E \| x - \hat x \|^2}{E \| x - E x \|^2} = 1 - R^2,

    free of scale, so that one lambda means the same for every modality (IndiSeek, arXiv 2509.21584).

    Parameters
    ----------
    target
        Features, shape ``(n_cells, n_features)``.
    estimate
        Their reconstruction, same shape.
    total_variance
        Sum over features of their variance in the training cells, scalar, positive.

    Returns
    -------
    Scalar; 0 is perfect, 1 is the mean of each feature.
    """
    return (target - estimate).square().sum(dim=1).mean() / total_variance
