"""From a design to cells, with the truth beside them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pandas as pd

from indiseek_sc import _keys
from indiseek_sc._keys import ROLES, Role
from indiseek_sc.datasets.synthetic._design import Design, r2_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

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
    """One row a factor: where it is, which code should, may or must not hold it, and how well it can be told at all."""
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
