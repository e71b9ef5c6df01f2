"""Designs of synthetic data sets, and simulation of cells with their true factors."""

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
    """Maps a number of cells and a generator to independent factors, ``(n_cells, n_factors)``."""

    Mix = Callable[[Array, Array], Array]
    """Maps shared and private factors of cells to noiseless features, ``(n_cells, n_features)``."""

STEP = 1e-4
"""Half the step of numerical derivatives with respect to factors, which have unit variance."""


class Measurement(Protocol):
    """Noise model that maps noiseless features to measured values."""

    def draw(self, mean: Array, batch: NDArray[np.intp], rng: np.random.Generator) -> Any:
        """Sample values given noiseless features and batches.

        Shapes are ``(n_cells, n_features)`` and ``(n_cells,)``.
        """

    def information(self, mean: Array) -> Array:
        """Return the Fisher information of each value about its noiseless feature."""


@dataclass(frozen=True)
class GaussianNoise:
    """Additive Gaussian noise.

    Parameters
    ----------
    std
        Standard deviation of the noise of every feature.
    """

    std: float

    def draw(self, mean: Array, batch: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        """Add the noise; batches do not differ."""
        return (mean + self.std * rng.standard_normal(mean.shape)).astype(np.float32)

    def information(self, mean: Array) -> Array:
        """Return the inverse variance."""
        return np.full(mean.shape, 1 / max(self.std, 1e-6) ** 2)


@dataclass(frozen=True, eq=False)
class View:
    """Model of one modality.

    Parameters
    ----------
    mix
        Function from factors to noiseless features.
    depends_on
        Whether each feature depends on each factor, shared ones first, shape
        ``(n_features, n_shared + n_private)``.
    measurement
        Noise model.
    """

    mix: Mix
    depends_on: NDArray[np.bool_]
    measurement: Measurement


@dataclass(frozen=True, eq=False)
class Design:
    """Model of a synthetic data set.

    Parameters
    ----------
    name, description
        Name and short description.
    shared
        Distribution of shared factors.
    private
        Distribution of the private factors of each modality.
    views
        Model of each modality.
    conditional
        Private factors that are identified only together with shared ones, such as p in s * p. The
        sign of their representation may depend on s without loss of independence, so that it has to
        be evaluated together with s.
    oracle
        For each role, private factors contained in a given shared representation besides the shared
        ones; without entries, no representation is given.
    n_batches
        Number of batches with equal probability.
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
    """Compute derivatives of features with respect to factors by central differences.

    Shape ``(n_cells, n_features, n_factors)``.
    """
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
    r"""Compute the largest R2 with which each factor can be predicted from a modality.

    With :math:`J` the Jacobian of the features, :math:`I` the Fisher information of the values
    about them and factors of variance 1, it is :math:`1 - E[(1 + J^\top I J)^{-1}]_{kk}`, of shape
    ``(n_shared + n_private,)``. This is exact for linear views of Gaussian factors with Gaussian
    noise. Otherwise it is a linearisation around each cell, which ignores that distant values of
    factors may give similar features.
    """
    slopes = jacobian(view, shared, private)
    information = view.measurement.information(view.mix(shared, private))
    precision = np.eye(slopes.shape[2]) + np.einsum("cji,cj,cjk->cik", slopes, information, slopes)
    return 1 - np.linalg.inv(precision).diagonal(axis1=1, axis2=2).mean(axis=0)


def normal(n_factors: int) -> Draw:
    """Return a distribution of independent standard normal factors."""
    return lambda n_cells, rng: rng.standard_normal((n_cells, n_factors))


def copies(columns: NDArray, n_copies: int, axis: int = 1) -> NDArray:
    """Repeat each column (or row) ``n_copies`` times."""
    return np.repeat(columns, n_copies, axis=axis)


def rotation(n: int, rng: np.random.Generator) -> Array:
    """Sample an orthogonal matrix uniformly (Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def check_sizes(*, noise: float = 0.0, **sizes: int) -> None:
    """Reject numbers below 1 and negative noise.

    Raises
    ------
    ValueError
        If an argument is out of its range; the message names it.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if noise < 0:
        raise ValueError(f"noise={noise} must not be negative.")


_CELLS_FOR_LIMITS = 500
"""Largest number of cells over which the largest possible R2 of each factor is averaged."""


def build(design: Design, n_cells: int, seed: int, rng: np.random.Generator) -> MuData:
    """Simulate cells of a design and store their true factors; ``seed`` is only recorded.

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
        warnings.filterwarnings("ignore", module="mudata")  # changes of update() in mudata 0.4
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
        "description": f"Synthetic, not from the paper. {design.description}",
        "seed": seed,
        "factors": _factor_table(design, shared, private),
        "coordinates": pd.concat(
            [_coordinate_table(design, role, shared.shape[1]) for role in ROLES], ignore_index=True
        ),
    }
    return mdata


def _factor_table(design: Design, shared: Array, private: Mapping[Role, Array]) -> pd.DataFrame:
    """Return one row for each factor.

    It states where the factor is stored, which representations should, may or must not contain it,
    and the largest possible R2.
    """
    subset = slice(0, _CELLS_FOR_LIMITS)
    limits = {role: r2_limits(design.views[role], shared[subset], private[role][subset]) for role in ROLES}
    n_shared = shared.shape[1]
    common: dict[str, Any] = {"shared_rna": "should", "shared_adt": "should"}
    common |= {"specific_rna": "must not", "specific_adt": "must not", "given_shared": False}
    rows = []
    for column in range(n_shared):
        limit = {f"limit_{role}": limits[role][column] for role in ROLES}
        rows.append(_row("shared", _keys.FACTOR_SHARED, column) | common | limit)
    for column in range(n_shared):
        limit = {f"limit_{role}": np.nan for role in ROLES}
        function = common | {"shared_rna": "may", "shared_adt": "may"}
        rows.append(_row("shared_squared", _keys.FACTOR_SHARED_SQUARED, column) | function | limit)
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
    """Return one row for each input feature: its modality, and the factors on which it depends."""
    depends_on = design.views[role].depends_on
    n_private = depends_on.shape[1] - n_shared
    names = np.array([f"shared_{k}" for k in range(n_shared)] + [f"private_{role}_{k}" for k in range(n_private)])
    has_shared, has_private = depends_on[:, :n_shared].any(axis=1), depends_on[:, n_shared:].any(axis=1)
    return pd.DataFrame(
        {
            "coordinate": [f"{role}_{j}" for j in range(len(depends_on))],
            "modality": role,
            "group": np.select(
                [has_shared & has_private, has_shared, has_private], ["both", "shared", "private"], default="none"
            ),
            "factors": [", ".join(names[row]) for row in depends_on],
        }
    )
