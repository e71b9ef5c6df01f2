"""Reading one modality of a MuData, whatever the other holds or whether it is there at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

from indiseek_sc.data._batch import check_batch, locate_batch
from indiseek_sc.data._fields import check_features, read_batch, read_input
from indiseek_sc.data._source import relocate_source
from indiseek_sc.data._text import choices, listing
from indiseek_sc.data._values import examine_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.data._source import InputSource


@dataclass(frozen=True)
class ModalityCells:
    """The cells of one modality, all of them, in its own order.

    Parameters
    ----------
    values
        Raw values, shape ``(n_cells, n_features)``, as they are stored.
    names
        Name of each cell.
    batch
        Number of each cell's batch among those of the model, shape ``(n_cells,)``; 0 where the model knows of none.
    """

    values: Any
    names: pd.Index
    batch: np.ndarray


def read_modality(
    mdata: MuData, registry: Mapping[str, Any], role: Role, *, is_sample_enough: bool = False
) -> ModalityCells:
    """Find the values of one role in data that a registered model shall read, which need not be set up.

    Parameters
    ----------
    mdata
        The data. It must hold the features that the model was set up with, where it was told to look for them; of the other
        modality nothing is read.
    registry
        The registry of the model.
    role
        Whose values.
    is_sample_enough
        Look at some of the cells only for values that cannot be used.

    Raises
    ------
    TypeError
        If it is no MuData.
    ValueError
        If the modality is missing, cells occur twice, features, values or batches are not as the model needs them.
    """
    source, state = read_input(registry, role)
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"mdata must be a MuData, but is {type(mdata).__name__}. "
            f"Wrap a single AnnData: mudata.MuData({{{source.modality!r}: adata}})."
        )
    if source.modality not in mdata.mod:
        raise ValueError(
            f"mdata: there is no modality {source.modality!r} to read. {choices(source.modality, list(mdata.mod))}"
        )
    source = relocate_source(mdata, source)
    names = source.get_cell_names(mdata)
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        raise ValueError(
            f"mdata[{source.modality!r}].obs_names: {repeated.size:,} names of cells occur more than once: "
            f"{listing(repeated)}. Name them apart, for instance by their batch."
        )
    check_features(mdata, source, state["column_names"])
    examine_values(mdata, source, state["kind"], is_sample_enough=is_sample_enough)
    return ModalityCells(source.get_values(mdata), names, _number_batches(mdata, registry, source, names))


def _number_batches(mdata: MuData, registry: Mapping[str, Any], source: InputSource, names: pd.Index) -> np.ndarray:
    column, known = read_batch(registry)
    if column is None:
        return np.zeros(names.size, dtype=np.int64)
    # Where the model found batches in the other modality's obs, this one may have to tell them instead.
    found = locate_batch(mdata, column.key, None, [source.modality])
    check_batch(mdata, found, known=known, cells=names)  # type: ignore[arg-type]
    values = found.get_values(mdata).reindex(names)  # type: ignore[union-attr]
    return pd.Index(known).get_indexer(values.astype(object))
