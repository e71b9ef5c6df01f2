"""How a synthetic data set is described and measured, and made from that, with the truth beside the cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import anndata
import mudata
import numpy as np
import pandas as pd

from indiseek_sc import _keys
from indiseek_sc._keys import ROLES, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mudata import MuData
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

    std: float

    def draw(self, mean: Array, batch: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        """Add the noise; batches do not differ."""
        return (mean + self.std * rng.standard_normal(mean.shape)).astype(np.float32)

    def information(self, mean: Array) -> Array:
        """One over the variance."""
        return np.full(mean.shape, 1 / max(self.std, 1e-6) ** 2)


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
        Private factors that the data show only together with the shared ones, such as p in s * p. A representation of them may have
        another sign wherever s has, and is no less independent of s, so it has to be read together with s.
    oracle
        For each role, which private factors a given shared representation holds beside the shared ones; no representation is given if empty.
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


def normal(n_factors: int) -> Draw:
    """Independent standard normal factors."""
    return lambda n_cells, rng: rng.standard_normal((n_cells, n_factors))


def copies(columns: NDArray, n_copies: int, axis: int = 1) -> NDArray:
    """Each column (or row) as many times, one beside the other."""
    return np.repeat(columns, n_copies, axis=axis)


def rotation(n: int, rng: np.random.Generator) -> Array:
    """An orthogonal matrix, uniformly distributed (Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def check_sizes(*, noise: float = 0.0, **sizes: int) -> None:
    """Refuse numbers of things below 1 and negative noise.

    Raises
    ------
    ValueError
        Names the argument.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if noise < 0:
        raise ValueError(f"noise={noise} must not be negative.")


_CELLS_FOR_LIMITS = 500


def build(design: Design, n_cells: int, seed: int, rng: np.random.Generator) -> MuData:
    """Draw cells of a design, and write down what is true of them; ``seed`` is only noted.

    Raises
    ------
    ValueError
        If there are fewer than 2 cells.
    """
    if n_cells < 2:
        raise ValueError(f"n_cells={n_cells} must be at least 2.")
    shared = design.shared(n_cells, rng)
    private = {role: design.private[role](n_cells, rng) for role in ROLES}
    batch = rng.integers(design.n_batches, size=n_cells)
    cells = pd.Index([f"cell_{i}" for i in range(n_cells)])
    modalities = {}
    for role in ROLES:
        view = design.views[role]
        values = view.measurement.draw(view.mix(shared, private[role]), batch, rng)
        names = pd.DataFrame(index=[f"{role}_{j}" for j in range(values.shape[1])])
        modalities[role] = anndata.AnnData(values, obs=pd.DataFrame(index=cells), var=names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mudata")  # what mudata 0.4 changes about update()
        mdata = mudata.MuData(modalities)
    if design.n_batches > 1:
        mdata.obs["batch"] = pd.Categorical([f"batch_{b}" for b in batch])
    mdata.obsm[_keys.FACTOR_SHARED] = shared
    mdata.obsm[_keys.FACTOR_SHARED_SQUARED] = (shared**2 - 1) / (shared**2).std(axis=0)
    for role in ROLES:
        mdata.obsm[_keys.factor_private(role)] = private[role]
    for role, columns in design.oracle.items():
        mdata.obsm[_keys.oracle_shared(role)] = np.hstack([shared, private[role][:, list(columns)]])
    mdata.uns[_keys.SYNTHETIC] = {
        "name": design.name,
        "description": f"Synthetic, ours and not the paper's. {design.description}",
        "seed": seed,
        "factors": _factor_table(design, shared, private),
        "coordinates": pd.concat(
            [_coordinate_table(design, role, shared.shape[1]) for role in ROLES], ignore_index=True
        ),
    }
    return mdata


def _factor_table(design: Design, shared: Array, private: Mapping[Role, Array]) -> pd.DataFrame:
    """One row a factor: where it is, which representation should, may or must not hold it, and how well it can be told at all."""
    few = slice(0, _CELLS_FOR_LIMITS)
    limits = {role: r2_limits(design.views[role], shared[few], private[role][few]) for role in ROLES}
    n_shared = shared.shape[1]
    everyone: dict[str, Any] = {"shared_rna": "should", "shared_adt": "should"}
    everyone |= {"specific_rna": "must not", "specific_adt": "must not", "given_shared": False}
    rows = []
    for column in range(n_shared):
        known = {f"limit_{role}": limits[role][column] for role in ROLES}
        rows.append(_row("shared", _keys.FACTOR_SHARED, column) | everyone | known)
    for column in range(n_shared):
        unknown = {f"limit_{role}": np.nan for role in ROLES}
        function = everyone | {"shared_rna": "may", "shared_adt": "may"}
        rows.append(_row("shared_squared", _keys.FACTOR_SHARED_SQUARED, column) | function | unknown)
    for role in ROLES:
        other = _keys.other(role)
        for column in range(private[role].shape[1]):
            row = _row(f"private_{role}", _keys.factor_private(role), column)
            row |= {f"shared_{role}": "may", f"shared_{other}": "must not"}
            row |= {f"specific_{role}": "should", f"specific_{other}": "must not"}
            row |= {"given_shared": column in design.conditional[role]}
            rows.append(row | {f"limit_{role}": limits[role][n_shared + column], f"limit_{other}": 0.0})
    return pd.DataFrame(rows)


def _row(kind: str, key: str, column: int) -> dict[str, Any]:
    return {"factor": f"{kind}_{column}", "kind": kind, "obsm": key, "column": column}


def _coordinate_table(design: Design, role: Role, n_shared: int) -> pd.DataFrame:
    """One row an input coordinate: its modality, and the factors that it is made of."""
    made_of = design.views[role].made_of
    n_private = made_of.shape[1] - n_shared
    names = np.array([f"shared_{k}" for k in range(n_shared)] + [f"private_{role}_{k}" for k in range(n_private)])
    has_shared, has_private = made_of[:, :n_shared].any(axis=1), made_of[:, n_shared:].any(axis=1)
    return pd.DataFrame(
        {
            "coordinate": [f"{role}_{j}" for j in range(len(made_of))],
            "modality": role,
            "group": np.select(
                [has_shared & has_private, has_shared, has_private], ["both", "shared", "private"], default="none"
            ),
            "factors": [", ".join(names[row]) for row in made_of],
        }
    )
