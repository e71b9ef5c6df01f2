"""Values of a modality, as they are and log-normalised, and technical covariates computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from indiseek_sc import _keys
from indiseek_sc._checks import check_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

_CELLS_FOR_KIND = 1000
"""Whether values are counts is seen from so many cells."""

_LARGEST_LOGARITHM = 25.0
"""No logarithm of a count is larger; the set-up of a model has the same rule."""


@dataclass(frozen=True, eq=False)
class Values:
    """Values of one modality in some cells of a MuData.

    Parameters
    ----------
    modality
        Its name.
    matrix
        Values, sparse or dense, shape ``(n_cells, n_features)``; features that are NaN in any of
        the cells are left out.
    names
        Names of the features.
    are_counts
        Whether they are counts.
    """

    modality: str
    matrix: Any
    names: pd.Index
    are_counts: bool

    def total(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
        """Sum over some features of each cell, shape ``(n_cells,)``."""
        return np.asarray(self.matrix[:, chosen].sum(axis=1), dtype=np.float64).ravel()

    def log_normalized(self) -> AnnData:
        """Return logarithms of counts per median library size; values that are no counts as they are."""
        cells = AnnData(self.matrix.astype(np.float32), var=pd.DataFrame(index=self.names))
        if self.are_counts:
            sc.pp.normalize_total(cells)
            sc.pp.log1p(cells)
        return cells


def read_values(mdata: MuData, role: _keys.Role, modality: str, layer: str | None, cells: NDArray[np.intp]) -> Values:
    """Return the values of a modality in some cells of ``mdata``.

    Parameters
    ----------
    mdata
        Where to look; it is not changed.
    role
        The part that the modality plays; names the argument in errors.
    modality
        Its name.
    layer
        A layer; by default the values that the model noted to have read, or ``X``.
    cells
        Row numbers of ``mdata``; the modality must have these cells.

    Raises
    ------
    ValueError
        If there is no such layer, or no values.
    """
    noted = mdata.uns.get(_keys.SETTINGS, {}).get("inputs", {}).get(role, {})
    kind = noted.get("kind", "") if layer is None and noted.get("attribute") != "obsm" else ""
    if layer is None and noted.get("attribute") == "layers":
        layer = str(noted["key"])
    holder = mdata[modality]
    if layer is not None:
        check_name(f"{role}_layer", layer, list(holder.layers))
    stored = holder.X if layer is None else holder.layers[layer]
    if stored is None:
        raise ValueError(f"mdata[{modality!r}].X holds no values. Name a layer with counts: {role}_layer=...")
    # Of data that stay in their file, rows can be read in ascending order alone.
    places, order = np.unique(holder.obs_names.get_indexer(mdata.obs_names[cells]), return_inverse=True)
    matrix = stored[places][order]
    matrix = sparse.csr_matrix(matrix) if sparse.issparse(matrix) else np.asarray(matrix)
    # What a batch did not measure is NaN in its cells.
    is_whole = np.isfinite(np.asarray(matrix.sum(axis=0))).ravel()
    matrix = matrix if is_whole.all() else matrix[:, is_whole]
    # Also where the model read counts: they may have been normalised in place since.
    are_counts = kind != "normalized" and _are_counts(matrix[:_CELLS_FOR_KIND])
    return Values(modality, matrix, holder.var_names[is_whole], are_counts)


def _are_counts(matrix: Any) -> bool:
    """Whether values are counts, or corrected ones: too large for logarithms, or mostly whole."""
    values = matrix.data if sparse.issparse(matrix) else matrix[matrix != 0]
    if not len(values):
        return False
    is_fractional = values % 1 != 0
    could_be = not is_fractional.any() or is_fractional.mean() < 0.5 or values.max() > _LARGEST_LOGARITHM
    return bool((values >= 0).all() and could_be)


def technical_covariates(values: Mapping[_keys.Role, Values], sets: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Compute covariates of the sequencing, handling and quality of each cell from counts.

    Parameters
    ----------
    values
        Values of each modality in the same cells; those that are no counts give none.
    sets
        As :func:`feature_sets` returns them.

    Returns
    -------
    One value a cell, each of shape ``(n_cells,)``, by name: logarithms of the library size of each
    modality, of the number of genes and of the levels of sets of proteins; percentages of the RNA
    for sets of genes. Sets of which there is no feature are left out.
    """
    found = {}
    for role, own in values.items():
        if not own.are_counts:
            continue
        total = own.total()
        found[f"library size of {own.modality}"] = np.log1p(total)
        if role == "rna":
            detected = own.matrix.getnnz(axis=1) if sparse.issparse(own.matrix) else (own.matrix > 0).sum(axis=1)
            found["number of genes"] = np.log1p(detected)
        of_modality = sets[sets["is_technical"].astype(bool) & (sets["modality"] == own.modality)]
        for name, one in of_modality.groupby("source", sort=False):
            level = own.total(own.names.isin(one["target"]))
            found[str(name)] = 100 * level / np.maximum(total, 1) if role == "rna" else np.log1p(level)
    return found
