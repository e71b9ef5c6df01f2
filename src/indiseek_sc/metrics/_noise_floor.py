"""Which directions of a code count: those too narrow to matter are drowned in noise, or left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 0.05
"""Height of the floor, as a share of the standard deviation of a code's widest direction."""


def through_floor(code: NDArray[np.floating], train: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
    """Principal directions of ``code`` with the noise of the floor added to each, for praise.

    What a code hides at a tiny scale is lost, so that it earns nothing by it. Shape ``(n_cells, n_features)`` in and
    out, or fewer columns where there are fewer training cells than features.
    """
    turned, widths = _principal_directions(code, train)
    return turned + FLOOR * widths.max() * rng.standard_normal(turned.shape)


def flat_directions(code: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float64]:
    """Principal directions of ``code`` that rise above the floor, each scaled to a standard deviation of 1.

    Shape ``(n_cells, n_directions)``; no columns at all where ``code`` is constant.
    """
    turned, widths = _principal_directions(code, train)
    above = widths > FLOOR * widths.max()
    return turned[:, above] / widths[above]


def _principal_directions(
    code: NDArray[np.floating], train: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``code`` turned to the principal axes of its training cells, and its standard deviation there along each."""
    centred = code.astype(np.float64) - code[train].mean(axis=0, dtype=np.float64)
    # Rounding may leave a constant code a width of its own; it has none.
    if np.ptp(code[train], axis=0).max() == 0:
        return centred, np.zeros(code.shape[1])
    turned = PCA(random_state=0).fit(centred[train]).transform(centred)
    return turned, turned[train].std(axis=0)
