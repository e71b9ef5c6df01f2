"""The contrastive loss of stage 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, log_scale: Tensor) -> Tensor:
    r"""Symmetric InfoNCE between paired codes, as in CLIP (Radford et al. 2021, arXiv 2103.00020).

    With :math:`s_{ij} = e^{\alpha} \cos(a_i, b_j)`,

    .. math::

        \mathcal L = -\frac{1}{2n} \sum_i \Big[ \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
                     + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}} \Big].

    All other cells of the batch are the negatives, so values compare only between batches of one size; chance is
    :math:`\log n`.

    Parameters
    ----------
    first
        Codes of one modality, shape ``(n_cells, n_dimensions)``.
    second
        Codes of the same cells in the other modality, same shape.
    log_scale
        Logarithm of the inverse temperature, scalar; learned.

    Returns
    -------
    Scalar, in nats.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"Paired codes need one shape (n_cells, n_dimensions), got {first.shape} and {second.shape}.")
    # The scale multiplies before anything is exponentiated, so that a large one cannot overflow.
    similarity = log_scale.exp() * F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
    partner = torch.arange(first.shape[0], device=first.device)
    return (F.cross_entropy(similarity, partner) + F.cross_entropy(similarity.T, partner)) / 2
