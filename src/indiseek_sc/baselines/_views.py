"""Completeness by contrast: representations of a cell must find those of another view of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from indiseek_sc.losses import info_nce

DROPPED = 0.1
"""Share of the features of a view that are set to their mean."""

NOISE = 0.1
"""Standard deviation of the noise of a view, in standard deviations of each feature."""

TEMPERATURE = 0.07
"""Of the contrast, as in DisentangledSSL."""


def augment(features: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    """Return another view of cells: some features set to their mean, and noise in all.

    Vectors of features have no crops and colours. DisentangledSSL drops features and adds noise as well, on data of one
    scale; that each feature counts by its own standard deviation is ours.

    Parameters
    ----------
    features
        Shape ``(n_cells, n_features)``.
    center
        Mean of each feature, shape ``(n_features,)``.
    spread
        Standard deviation of each feature, shape ``(n_features,)``.
    """
    kept = torch.rand_like(features) >= DROPPED
    return center + kept * (features - center) + NOISE * spread * torch.randn_like(features)


def contrast_error(latents: Tensor, view: Tensor) -> Tensor:
    """Return InfoNCE between representations of cells and of a view of them, as a share of log n, which is chance.

    Parameters
    ----------
    latents
        Shape ``(n_cells, n_dimensions)``.
    view
        Representations of the same cells in another view, same shape.

    Returns
    -------
    Scalar; 0 is complete, so that lambda weighs a share as it does with the reconstruction.
    """
    log_scale = latents.new_tensor(-math.log(TEMPERATURE))
    return info_nce(latents, view, log_scale) / math.log(max(len(latents), 2))
