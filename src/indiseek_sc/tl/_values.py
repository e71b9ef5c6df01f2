"""Values of a modality, raw and log-normalised, and technical covariates computed from them."""

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
"""Number of cells by which values are recognised as counts."""

_LARGEST_LOGARITHM = 25.0
"""Values above this are not logarithms of counts; the set-up of a model uses the same limit."""


@dataclass(frozen=True, eq=False)
class Values:
    """Values of one modality in some cells of a MuData.

    Parameters
    ----------
    modality
        Name of the modality.
    matrix
        Values, sparse or dense, shape ``(n_cells, n_features)``, without features that are NaN in
        any of the cells.
    names
        Names of the features.
    are_counts
        Whether the values are counts.
    """

    modality: str
    matrix: Any
    names: pd.Index
    are_counts: bool

    def total(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
        """Return the sum over selected features of each cell, shape ``(n_cells,)``."""
        return np.asarray(self.matrix[:, chosen].sum(axis=1), dtype=np.float64).ravel()

    def log_normalized(self) -> AnnData:
        """Return logarithms of counts scaled to the median library size.

        Values that are not counts are returned unchanged.
        """
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
        Data with the modality; it is not changed.
    role
        Role of the modality; determines the name of the argument in error messages.
    modality
        Name of the modality.
    layer
        Name of a layer; by default the values that the model recorded as its input, or ``X``.
    cells
        Row numbers in ``mdata``; the modality must contain these cells.

    Raises
    ------
    ValueError
        If the layer does not exist, or there are no values.
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
        raise ValueError(f"mdata[{modality!r}].X is empty. Name a layer with counts: {role}_layer=...")
    # Rows of backed data can only be read in ascending order.
    places, order = np.unique(holder.obs_names.get_indexer(mdata.obs_names[cells]), return_inverse=True)
    matrix = stored[places][order]
    matrix = sparse.csr_matrix(matrix) if sparse.issparse(matrix) else np.asarray(matrix)
    # Features that a batch did not measure are NaN in its cells.
    is_whole = np.isfinite(np.asarray(matrix.sum(axis=0))).ravel()
    matrix = matrix if is_whole.all() else matrix[:, is_whole]
    # Counts that the model read may have been normalised in place since.
    are_counts = kind != "normalized" and _are_counts(matrix[:_CELLS_FOR_KIND])
    return Values(modality, matrix, holder.var_names[is_whole], are_counts)


def _are_counts(matrix: Any) -> bool:
    """Return whether values are counts or corrected counts.

    They must not be negative, and must be mostly whole numbers or too large for logarithms.
    """
    values = matrix.data if sparse.issparse(matrix) else matrix[matrix != 0]
    if not len(values):
        return False
    is_fractional = values % 1 != 0
    could_be = not is_fractional.any() or is_fractional.mean() < 0.5 or values.max() > _LARGEST_LOGARITHM
    return bool((values >= 0).all() and could_be)


def technical_covariates(values: Mapping[_keys.Role, Values], sets: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Compute covariates of sequencing, handling and quality of each cell from counts.

    Parameters
    ----------
    values
        Values of each modality in the same cells; modalities without counts are ignored.
    sets
        Table returned by :func:`feature_sets`.

    Returns
    -------
    Covariates by name, each of shape ``(n_cells,)``: logarithms of the library size of each
    modality, of the number of genes and of the levels of protein sets, and percentages of RNA
    counts in gene sets. Sets without features in the data are omitted.
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
