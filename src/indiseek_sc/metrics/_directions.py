"""Principal directions of representations, and the noise floor below which they do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA

if TYPE_CHECKING:
    from numpy.typing import NDArray


FLOOR = 0.05
"""Standard deviation of the noise floor, relative to that of the widest direction."""


def add_noise_floor(
    latent: NDArray[np.floating], train: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Rotate a representation to its principal axes and add the noise floor to each of them.

    Information on a negligible scale is lost, so that it is not credited to the representation.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    train
        Row numbers of the cells that determine the axes and the scale of the noise, shape
        ``(n_train,)``.
    rng
        Generator of the noise.

    Returns
    -------
    The noisy representation, shape ``(n_cells, n_dimensions)``, or with fewer columns if there are
    fewer training cells than dimensions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(100, 3))
    >>> isk.metrics.add_noise_floor(latent, np.arange(80), rng).shape
    (100, 3)
    """
    turned, widths = _principal_directions(latent, train)
    return turned + FLOOR * widths.max() * rng.standard_normal(turned.shape)


def flat_directions(latent: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the principal directions above the noise floor, scaled to a standard deviation of 1.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    train
        Row numbers of the cells that determine directions and scales, shape ``(n_train,)``.

    Returns
    -------
    The scaled directions, shape ``(n_cells, n_directions)``; without columns if ``latent`` is
    constant.

    Examples
    --------
    >>> latent = np.random.default_rng(0).normal(size=(100, 3)) * [10.0, 1.0, 0.001]
    >>> isk.metrics.flat_directions(latent, np.arange(80)).shape
    (100, 2)
    """
    turned, widths = _principal_directions(latent, train)
    above = widths > FLOOR * widths.max()
    return turned[:, above] / widths[above]


def _principal_directions(
    latent: NDArray[np.floating], train: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``latent`` rotated to the principal axes of its training cells.

    Also returns the standard deviation of the training cells along each axis.
    """
    centred = latent.astype(np.float64) - latent[train].mean(axis=0, dtype=np.float64)
    # A constant representation has a standard deviation of 0, but rounding could make it positive.
    if np.ptp(latent[train], axis=0).max() == 0:
        return centred, np.zeros(latent.shape[1])
    turned = PCA(random_state=0).fit(centred[train]).transform(centred)
    return turned, turned[train].std(axis=0)
