"""How a synthetic data set is described: factors, what each modality makes of them, and how it is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from indiseek_sc._keys import ROLES, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Draw = Callable[[int, np.random.Generator], Array]
    """Number of cells and randomness to independent factors, shape ``(n_cells, n_factors)``."""
    Mix = Callable[[Array, Array], Array]
    """Shared and private factors, one row a cell, to coordinates without noise, shape ``(n_cells, n_coordinates)``."""

STEP = 1e-4
"""Half the distance of a numerical derivative, where factors have a standard deviation of 1."""


class Measurement(Protocol):
    """What happens between coordinates and values."""

    def draw(self, mean: Array, batch: NDArray[np.intp], rng: np.random.Generator) -> Any:
        """Measure coordinates of shape ``(n_cells, n_coordinates)`` in cells of these batches, shape ``(n_cells,)``."""

    def information(self, mean: Array) -> Array:
        """Fisher information of each value about its coordinate, shape ``(n_cells, n_coordinates)``."""


@dataclass(frozen=True)
class GaussianNoise:
    """Additive noise of one standard deviation."""

    deviation: float

    def draw(self, mean: Array, batch: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        """Add the noise; batches do not differ."""
        return (mean + self.deviation * rng.standard_normal(mean.shape)).astype(np.float32)

    def information(self, mean: Array) -> Array:
        """One over the variance."""
        return np.full(mean.shape, 1 / max(self.deviation, 1e-6) ** 2)


@dataclass(frozen=True, eq=False)
class View:
    """What one modality sees.

    Parameters
    ----------
    mix
        From factors to coordinates.
    made_of
        Which factors, shared ones first, each coordinate depends on, shape ``(n_coordinates, n_shared + n_private)``.
    measurement
        From coordinates to values.
    """

    mix: Mix
    made_of: NDArray[np.bool_]
    measurement: Measurement


@dataclass(frozen=True, eq=False)
class Design:
    """A synthetic data set, all but its cells.

    Parameters
    ----------
    name, description
        What it is called, and what it asks of a method.
    shared
        How shared factors are drawn.
    private
        How the factors that one modality alone sees are drawn.
    views
        What each modality makes of them.
    conditional
        Private factors that the data show only together with the shared ones, such as p in s * p. A code of them may have
        another sign wherever s has, and is no less independent of s, so it has to be read together with s.
    oracle
        For each role, which private factors a given shared code holds beside the shared ones; no code is given if empty.
    n_batches
        Number of batches, equally likely.
    """

    name: str
    description: str
    shared: Draw
    private: Mapping[Role, Draw]
    views: Mapping[Role, View]
    conditional: Mapping[Role, tuple[int, ...]] = field(default_factory=lambda: dict.fromkeys(ROLES, ()))
    oracle: Mapping[Role, tuple[int, ...]] = field(default_factory=dict)
    n_batches: int = 1


def jacobian(view: View, shared: Array, private: Array) -> Array:
    """Derivatives of coordinates by factors, shape ``(n_cells, n_coordinates, n_factors)``, by central differences."""
    factors, n_shared = np.hstack([shared, private]), shared.shape[1]
    columns = []
    for step in STEP * np.eye(factors.shape[1]):
        above, below = factors + step, factors - step
        difference = view.mix(above[:, :n_shared], above[:, n_shared:]) - view.mix(
            below[:, :n_shared], below[:, n_shared:]
        )
        columns.append(difference / (2 * STEP))
    return np.stack(columns, axis=2)


def r2_limits(view: View, shared: Array, private: Array) -> Array:
    r"""Largest R2 with which the values of a modality can tell each factor, shape ``(n_shared + n_private,)``.

    With :math:`J` the Jacobian of the coordinates, :math:`I` the Fisher information of the values about them and factors of
    variance 1, :math:`1 - E[(1 + J^\top I J)^{-1}]_{kk}`. Exact for linear views of Gaussian factors with Gaussian noise;
    elsewhere a linearisation around each cell, which leaves out that distant factors may look alike.
    """
    slopes = jacobian(view, shared, private)
    information = view.measurement.information(view.mix(shared, private))
    precision = np.eye(slopes.shape[2]) + np.einsum("cji,cj,cjk->cik", slopes, information, slopes)
    return 1 - np.linalg.inv(precision).diagonal(axis1=1, axis2=2).mean(axis=0)
