"""Where the batch of each cell is told, and whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc.data._text import choices, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mudata import MuData


@dataclass(frozen=True)
class BatchColumn:
    """A column of ``obs``.

    Parameters
    ----------
    key
        Name of the column.
    modality
        The modality whose ``obs`` it is in; none for that of the MuData.
    """

    key: str
    modality: str | None = None

    def __str__(self) -> str:
        holder = "mdata" if self.modality is None else f"mdata[{self.modality!r}]"
        return f"{holder}.obs[{self.key!r}]"

    def get_values(self, mdata: MuData) -> pd.Series | None:
        """Return the batch of each cell, shape ``(n_cells,)``, or nothing if there is no such column."""
        return (mdata if self.modality is None else mdata.mod[self.modality]).obs.get(self.key)


def locate_batch(
    mdata: MuData, batch_key: str | None, modality: str | None, modalities: Sequence[str]
) -> BatchColumn | None:
    """Find the column that tells batches.

    Parameters
    ----------
    mdata
        The data.
    batch_key
        Name of the column, with or without ``"<modality>:"`` before it.
    modality
        The modality that it must be in, if the user named one.
    modalities
        The modalities of the model, searched in this order if ``mdata.obs`` has no such column.

    Raises
    ------
    ValueError
        If there is no such column, or two modalities have one but disagree.
    """
    if batch_key is None:
        return None
    if modality is not None and modality not in mdata.mod:
        raise ValueError(
            f"modalities['batch_key']: no modality {modality!r} in mdata. {choices(modality, list(mdata.mod))}"
        )
    holders = [None, *modalities] if modality is None else [modality]
    candidates = [BatchColumn(batch_key, holder) for holder in holders]
    prefix, _, name = batch_key.partition(":")
    if name and prefix in mdata.mod and modality in (None, prefix):
        candidates.append(BatchColumn(name, prefix))
    found = [column for column in candidates if column.get_values(mdata) is not None]
    if not found:
        existing = [f"{mod}:{name}" for mod in modalities for name in mdata.mod[mod].obs]
        existing = list(dict.fromkeys([*mdata.obs, *existing]))
        searched = ", ".join(str(column) for column in candidates)
        public = [name for name in existing if "_scvi_" not in name]
        raise ValueError(f"batch_key={batch_key!r}: there is no such column ({searched}). {choices(batch_key, public)}")
    if found[0].modality is not None:
        _check_agreement(mdata, batch_key, found)
    return found[0]


def _check_agreement(mdata: MuData, batch_key: str, found: Sequence[BatchColumn]) -> None:
    first, *others = (np.array(column.get_values(mdata), dtype=str) for column in found)
    for column, values in zip(found[1:], others, strict=True):
        differing = np.flatnonzero(first != values)
        if differing.size:
            raise ValueError(
                f"batch_key={batch_key!r}: {found[0]} and {column} differ in {differing.size:,} cells: "
                f"{listing(mdata.obs_names[differing])}. "
                f"Say which: modalities={{..., 'batch_key': {found[0].modality!r}}}"
            )


def check_batch(
    mdata: MuData, column: BatchColumn, known: Iterable[object] | None = None, cells: pd.Index | None = None
) -> None:
    """Refuse cells whose batch is missing, or is not one of the model's.

    Parameters
    ----------
    mdata
        The data.
    column
        Where batches are told.
    known
        The batches of the model; any if not given.
    cells
        Names of the cells that are asked about; all that the column tells of if not given.

    Raises
    ------
    ValueError
        If there is no such column, or a cell has no batch or an unknown one.
    """
    values = column.get_values(mdata)
    if values is None:
        raise ValueError(f"batch_key: {column} does not exist, but the model was set up with it. Add the column.")
    values = values if cells is None else values.reindex(cells)
    missing = values.index[values.isna()]
    if missing.size:
        raise ValueError(
            f"batch_key: {missing.size:,} cells have no batch in {column}: {listing(missing)}. "
            "Fill it in, or remove the cells."
        )
    if known is None:
        return
    known = list(known)
    unknown = [value for value in values.unique() if value not in known]
    if unknown:
        n_cells = int(values.isin(unknown).sum())
        raise ValueError(
            f"batch_key: {n_cells:,} cells of {column} are of batches that the model does not know: "
            f"{listing(unknown)}. It knows: {listing(known)}. Leave these cells out, or set up and train with them."
        )
