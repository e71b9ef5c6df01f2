"""Completeness by a contrastive loss between representations of a cell and of an augmented view."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from indiseek_sc.losses import info_nce

DROPPED = 0.1
"""Share of the features of a view that are replaced by their mean."""

NOISE = 0.1
"""Standard deviation of the noise of a view, relative to that of each feature."""

TEMPERATURE = 0.07
"""Temperature of the contrastive loss, as in DisentangledSSL."""


def augment(features: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    """Return an augmented view of cells.

    Some features are replaced by their mean, and noise is added to all. As in DisentangledSSL,
    features are dropped and noise is added, since crops and colour changes do not apply to vectors
    of features. In contrast to its data, features have different scales here, so that the noise is
    relative to the standard deviation of each feature.

    Parameters
    ----------
    features
        Features, shape ``(n_cells, n_features)``.
    center
        Mean of each feature, shape ``(n_features,)``.
    spread
        Standard deviation of each feature, shape ``(n_features,)``.
    """
    kept = torch.rand_like(features) >= DROPPED
    return center + kept * (features - center) + NOISE * spread * torch.randn_like(features)


def contrast_error(latents: Tensor, view: Tensor) -> Tensor:
    """Return InfoNCE between representations of cells and of their views, relative to chance.

    The chance level is log n for n cells.

    Parameters
    ----------
    latents
        Representations of cells, shape ``(n_cells, n_dimensions)``.
    view
        Representations of the same cells in another view, same shape.

    Returns
    -------
    Scalar; 0 is complete and 1 is chance, so that lambda has the same scale as with the
    reconstruction error.
    """
    log_scale = latents.new_tensor(-math.log(TEMPERATURE))
    return info_nce(latents, view, log_scale) / math.log(max(len(latents), 2))
