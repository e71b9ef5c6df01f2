"""Losses of stage 1, which compare two matrices of the same cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, log_scale: Tensor, is_compared: Tensor | None = None) -> Tensor:
    r"""Return the symmetric InfoNCE loss of paired representations, in the form of CLIP.

    InfoNCE was proposed in [1]_; its symmetric form is that of CLIP [2]_.

    With :math:`s_{ij} = e^{\alpha} \cos(a_i, b_j)`,

    .. math::

        \mathcal L = -\frac{1}{2n} \sum_i \Big[ \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
                     + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}} \Big].

    All other cells of the batch are negatives, so values are comparable only between batches of
    equal size; the value at chance is :math:`\log n`.

    Parameters
    ----------
    first
        Representations of one modality, shape ``(n_cells, n_dimensions)``.
    second
        Representations of the same cells in the other modality, same shape.
    log_scale
        Logarithm :math:`\alpha` of the inverse temperature, a scalar that is usually learned.
    is_compared
        Which cells are compared with which, shape ``(n_cells, n_cells)``, with a true diagonal. If
        only cells of the same batch are compared, batch effects cannot help to identify partners.
        All cells are compared if not given.

    Returns
    -------
    Scalar, in nats.

    Raises
    ------
    ValueError
        If the representations are not matrices of the same shape.

    References
    ----------
    .. [1] van den Oord et al. Representation learning with contrastive predictive coding (2018).
       arXiv 1807.03748.
    .. [2] Radford et al. Learning transferable visual models from natural language supervision.
       ICML (2021). arXiv 2103.00020.

    Examples
    --------
    >>> identical = torch.ones(4, 3)  # all cells are identical: log(4)
    >>> round(isk.losses.info_nce(identical, identical, torch.tensor(0.0)).item(), 3)
    1.386
    >>> distinct = torch.eye(4)
    >>> round(isk.losses.info_nce(distinct, distinct, torch.tensor(3.0)).item(), 3)
    0.0
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            "Paired representations need one shape (n_cells, n_dimensions), but have the shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    # Cross entropy subtracts the largest similarity first, so a large scale cannot overflow.
    similarity = log_scale.exp() * F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
    if is_compared is not None:
        similarity = similarity.masked_fill(~is_compared, -torch.inf)
    partner = torch.arange(first.shape[0], device=first.device)
    return (F.cross_entropy(similarity, partner) + F.cross_entropy(similarity.T, partner)) / 2


def canonical_correlation_loss(first: Tensor, second: Tensor, *, ridge: float = 1e-3) -> Tensor:
    r"""Return minus the sum of the squared canonical correlations of a batch.

    .. math::

        \mathcal L = - \big\| \Sigma_{aa}^{-1/2}\, \Sigma_{ab}\, \Sigma_{bb}^{-1/2} \big\|_F^2,
        \qquad \Sigma_{aa} = \tfrac1n A^\top A + r I,

    which is deep CCA [1]_ in its squared form. Directions that the other modality cannot predict do
    not reduce this loss, whereas InfoNCE permits them. This term is not part of the published
    IndiSeek.

    Parameters
    ----------
    first
        Representations of one modality, shape ``(n_cells, n_dimensions)``.
    second
        Representations of the same cells in the other modality, shape
        ``(n_cells, n_other_dimensions)``.
    ridge
        Regularisation :math:`r` of both covariances, in squared units of the representations. It
        keeps the loss finite for constant dimensions and reduces the weight of dimensions of very
        low variance.

    Returns
    -------
    Scalar between minus the smaller number of dimensions and 0.

    References
    ----------
    .. [1] Andrew et al. Deep canonical correlation analysis. ICML (2013).

    Examples
    --------
    >>> cells = torch.tensor([[-1.0], [0.0], [1.0]])
    >>> round(isk.losses.canonical_correlation_loss(cells, 2 * cells, ridge=1e-6).item(), 3)
    -1.0
    >>> abs(isk.losses.canonical_correlation_loss(cells, cells.square()).item())
    0.0
    """
    n_cells = first.shape[0]
    first = first - first.mean(dim=0)
    second = second - second.mean(dim=0)
    # Any square root of the inverse covariance gives the same norm; the Cholesky factor is used
    # because its gradients are stable.
    factor_first = _cholesky(first.T @ first / n_cells, ridge)
    factor_second = _cholesky(second.T @ second / n_cells, ridge)
    half = torch.linalg.solve_triangular(factor_first, first.T @ second / n_cells, upper=False)
    coherence = torch.linalg.solve_triangular(factor_second, half.T, upper=False)
    return -coherence.square().sum()


def _cholesky(covariance: Tensor, ridge: float) -> Tensor:
    """Return the Cholesky factor of the regularised covariance, or NaN where it does not exist.

    Raising an exception instead would require the host to wait for the device at each step.
    """
    eye = torch.eye(covariance.shape[0], dtype=covariance.dtype, device=covariance.device)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * eye)
    return torch.where(failed > 0, torch.nan, factor)


def remove_linear(values: Tensor, design: Tensor, *, ridge: float = 1.0) -> Tensor:
    r"""Return the residuals of a linear regression on the columns of a design matrix.

    .. math::

        V - D (D^\top D + r I)^{-1} D^\top V ,

    where the columns of :math:`V` and :math:`D` are centred. Correlations of the residuals are
    partial correlations; if the columns of the design are batch indicators, they are correlations
    within batches.

    Parameters
    ----------
    values
        Values :math:`V`, shape ``(n_cells, n_columns)``.
    design
        Design matrix :math:`D`, shape ``(n_cells, n_covariates)``.
    ridge
        Penalty :math:`r`, in units of cells.

    Returns
    -------
    Residuals, shape ``(n_cells, n_columns)``.

    Examples
    --------
    >>> batch = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    >>> values = torch.tensor([[1.0], [3.0], [11.0], [13.0]])
    >>> isk.losses.remove_linear(values, batch, ridge=0.0).flatten().round().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    values, design = values - values.mean(dim=0), design - design.mean(dim=0)
    factor = _cholesky(design.T @ design, ridge)
    return values - design @ torch.cholesky_solve(design.T @ values, factor)


def normalized_error(target: Tensor, estimate: Tensor, total_variance: Tensor) -> Tensor:
    r"""Return the squared reconstruction error relative to the total variance.

    .. math::

        \frac{E \| x - \hat x \|^2}{E \| x - E x \|^2} = 1 - R^2 .

    The value does not depend on the scale of the features, so one lambda is comparable across
    modalities [1]_.

    Parameters
    ----------
    target
        Features :math:`x`, shape ``(n_cells, n_features)``.
    estimate
        Reconstruction :math:`\hat x`, same shape.
    total_variance
        Sum over features of the variance in the training cells, a positive scalar.

    Returns
    -------
    Scalar; 0 for an exact reconstruction, 1 if each feature is reconstructed as its mean.

    References
    ----------
    .. [1] Gui, Ma, Ma. IndiSeek learns information-guided disentangled representations (2025).
       arXiv 2509.21584.

    Examples
    --------
    >>> target = torch.tensor([[-1.0], [1.0]])
    >>> isk.losses.normalized_error(target, torch.zeros(2, 1), torch.tensor(1.0)).item()
    1.0
    """
    return (target - estimate).square().sum(dim=1).mean() / total_variance
