"""Attributions as loadings beside the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc import _keys
from indiseek_sc.tl._attributions import check_attributions, choose_group

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData
    from numpy.typing import NDArray


def write_attribution(mdata: MuData, table: pd.DataFrame, *, group: str | None = None) -> None:
    """Write attributions to ``varm`` of each modality, as scanpy has loadings of principal components.

    Parameters
    ----------
    mdata
        Where to write.
    table
        What ``model.feature_attribution`` returned: one kind of code and one method, of one modality or both.
    group
        Which group of cells, if the table holds several.

    Notes
    -----
    Written: ``mdata[modality].varm["indiseek_<kind>"]``, shape ``(n_features, n_dimensions)``, NaN for features that the model does not
    use; what it is of is noted in ``uns["indiseek_attribution"]``. What this function wrote before is replaced; an entry of that
    name which somebody else wrote is not. Nothing is written if an error is raised.

    Raises
    ------
    KeyError
        If the table lacks a column, or ``mdata`` a modality or a feature of it.
    ValueError
        If the table has no row, or holds several kinds, methods or groups to choose from, or the name is taken.
    """
    check_attributions(table, ["kind", "method"])
    table = choose_group(table, group)
    kind = str(table["kind"].iloc[0])
    key = _keys.loadings(kind)
    noted = {name: dict(kinds) for name, kinds in mdata.uns.get(_keys.ATTRIBUTION, {}).items()}
    found = {}
    for modality, part in table.groupby("modality", observed=True, sort=False):
        name = str(modality)
        found[name] = _spread(mdata, name, part)
        if key in mdata[name].varm and kind not in noted.get(name, {}):
            raise ValueError(
                f"mdata[{name!r}].varm[{key!r}] is there already and was not written by this function. Rename or delete it."
            )
        noted.setdefault(name, {})[kind] = {
            "method": str(table["method"].iloc[0]),
            "group": str(table["group"].iloc[0]),
        }
    for name, loadings in found.items():
        mdata[name].varm[key] = loadings
    mdata.uns[_keys.ATTRIBUTION] = noted


def _spread(mdata: MuData, modality: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Features by dimensions, in the order of ``var_names``."""
    if modality not in mdata.mod:
        raise KeyError(f"mdata has no modality {modality!r}, which the table is of; it has {list(mdata.mod)}.")
    # A column for each dimension, a row for each feature, both in the order of the table.
    matrix = table.pivot(index="feature", columns="dimension", values="attribution")
    names = mdata[modality].var_names
    lacking = [str(name) for name in matrix.index if name not in names]
    if lacking:
        raise KeyError(
            f"mdata[{modality!r}] lacks {len(lacking):,} of the {len(matrix):,} features of the table, such as {lacking[0]!r}. "
            "Write to the data of the model; coordinates of a representation in obsm have no place in varm."
        )
    return matrix.reindex(names).to_numpy(dtype=np.float64)
