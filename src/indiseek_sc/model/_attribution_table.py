"""Means over cells of what features have for the dimensions of a code, as a tidy table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from indiseek_sc._keys import Role

VALUES_AT_ONCE = 2**22
"""Numbers held at once in arrays of cells by features: 16 MiB."""

CELLS_AT_ONCE = 1024


class Attributor(Protocol):
    """What attributes the dimensions of a code to features, cell by cell."""

    @property
    def columns(self) -> Mapping[Role, NDArray[np.intp]]:
        """Column numbers, in the raw values, of the features of each modality that is looked at."""

    @property
    def widest_row(self) -> int:
        """Numbers that a cell takes at most."""

    def attribute(self, rows: NDArray[np.intp]) -> Iterator[tuple[Role, int, Tensor]]:
        """Yield modality, dimension, and what each of some cells has for each feature, shape ``(n_cells, n_features)``."""


class CellMoments:
    """Sums over cells that come a few at a time."""

    def __init__(self) -> None:
        self.total: NDArray[np.float64] | float = 0.0
        self.squares: NDArray[np.float64] | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add some cells, shape ``(n_cells, n_features)``."""
        values = values.double()
        self.total = self.total + values.sum(dim=0).cpu().numpy()
        self.squares = self.squares + values.square().sum(dim=0).cpu().numpy()

    def finish(self, n_cells: int) -> NDArray[np.float64]:
        """Return mean, its standard error, and root mean square over cells, shape ``(3, n_features)``."""
        mean, mean_square = self.total / n_cells, self.squares / n_cells
        # Of a single cell there is no error to speak of.
        variance = np.maximum(mean_square - mean**2, 0.0) / (n_cells - 1) if n_cells > 1 else np.full_like(mean, np.nan)
        return np.stack([mean, np.sqrt(variance), np.sqrt(mean_square)])


def average(attributor: Attributor, rows: NDArray[np.intp]) -> dict[tuple[Role, int], NDArray[np.float64]]:
    """Average over one group of cells, a few at a time.

    Returns
    -------
    By modality and dimension what :meth:`CellMoments.finish` returns.
    """
    moments: dict[tuple[Role, int], CellMoments] = {}
    n_at_once = max(1, min(CELLS_AT_ONCE, VALUES_AT_ONCE // attributor.widest_row))
    for chunk in np.split(rows, range(n_at_once, rows.size, n_at_once)):
        for role, dimension, values in attributor.attribute(chunk):
            moments.setdefault((role, dimension), CellMoments()).add(values)
    return {key: sums.finish(rows.size) for key, sums in moments.items()}


def make_table(
    attributor: Attributor,
    cells: Mapping[str, NDArray[np.intp]],
    names: Mapping[Role, NDArray[np.str_]],
    modalities: Mapping[Role, str],
) -> pd.DataFrame:
    """Average over each group of cells.

    Parameters
    ----------
    attributor
        The method.
    cells
        Row numbers of the cells of each group, ascending.
    names
        Names of all features of each modality.
    modalities
        The user's own names of the modalities.

    Returns
    -------
    One row for each modality, dimension, group and feature, in this order; names are categories, which take little memory.
    """
    found = [average(attributor, rows) for rows in cells.values()]
    n_cells = np.array([rows.size for rows in cells.values()])
    parts = []
    for role, columns in attributor.columns.items():
        n_dimensions = sum(key[0] == role for key in found[0])
        shape = n_dimensions, len(cells), columns.size
        dimension, group, feature = (places.ravel() for places in np.indices(shape, dtype=np.int32))
        part = pd.DataFrame(
            {
                "modality": np.full(dimension.size, list(attributor.columns).index(role), dtype=np.int8),
                "dimension": dimension,
                "group": pd.Categorical.from_codes(group, list(cells)),
                "n_cells": n_cells[group],
                "feature": pd.Categorical.from_codes(feature, names[role][columns]),
            }
        )
        for i, column in enumerate(("attribution", "standard_error", "magnitude")):
            values = [[of_group[role, d][i] for of_group in found] for d in range(n_dimensions)]
            part[column] = np.asarray(values, dtype=np.float64).reshape(-1)
        parts.append(part)
    features = pd.Index(np.concatenate([part["feature"].cat.categories for part in parts])).unique()
    table = pd.concat([part.assign(feature=part["feature"].cat.set_categories(features)) for part in parts])
    table["modality"] = pd.Categorical.from_codes(table["modality"], [modalities[role] for role in attributor.columns])
    return table.reset_index(drop=True)
