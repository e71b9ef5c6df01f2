"""What a result in a MuData was made of: fingerprints of representations, labels and cells, noted beside it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from indiseek_sc._lookup import as_categories, find_obs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData


class Place(NamedTuple):
    """Where something lies that results are made of: an entry of ``obsm``, a column as users name it, or names of cells."""

    attribute: str
    key: str = ""
    modality: str = ""

    def __str__(self) -> str:
        if self.attribute == "obs_names":
            return "the cells"
        holder = f"mdata[{self.modality!r}]" if self.modality else "mdata"
        return f"the column {self.key!r}" if self.attribute == "obs" else f"{holder}.{self.attribute}[{self.key!r}]"


CELLS = Place("obs_names")


def note_inputs(mdata: MuData, key: str, places: Iterable[Place]) -> None:
    """Note in ``uns``, beside the result ``key``, what it was made of."""
    rows = [{**place._asdict(), "fingerprint": take_fingerprint(mdata, place)} for place in [CELLS, *places]]
    mdata.uns[_note_of(key)] = pd.DataFrame(rows)


def is_noted(mdata: MuData, key: str) -> bool:
    """Whether it is known what the result ``key`` was made of."""
    return _note_of(key) in mdata.uns


def find_changed(mdata: MuData, key: str) -> list[Place]:
    """Return what is there otherwise, or is there no more, since the result ``key`` was made; nothing if that is not known."""
    return [place for place, noted in _read(mdata, key) if take_fingerprint(mdata, place) != noted]


def find_unchanged(mdata: MuData, key: str) -> list[Place]:
    """Return what is there as it was when it was noted beside ``key``."""
    return [place for place, noted in _read(mdata, key) if take_fingerprint(mdata, place) == noted]


def take_fingerprint(mdata: MuData, place: Place) -> str:
    """Return a short text that is another one when the values are; nothing if there are none."""
    with suppress(KeyError, ValueError):
        if place.attribute == "obs_names":
            return _digest(mdata.obs_names)
        if place.attribute == "obs":
            values = find_obs(mdata, place.key, "key")
            is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
            return _digest(values.to_numpy(float, na_value=np.nan) if is_number else as_categories(values).astype(str))
        return _digest((mdata[place.modality] if place.modality else mdata).obsm[place.key])
    return ""


def _digest(values: Any) -> str:
    matrix = values.toarray() if issparse(values) else np.asarray(values)
    if matrix.dtype.kind not in "fiub":
        content = "\x1f".join(map(str, matrix.ravel())).encode()
    else:
        content = np.ascontiguousarray(matrix).tobytes()
    return hashlib.blake2b(content + str(matrix.shape).encode(), digest_size=8).hexdigest()


def _read(mdata: MuData, key: str) -> list[tuple[Place, str]]:
    table = mdata.uns.get(_note_of(key))
    if table is None:
        return []
    return [
        (Place(row["attribute"], row["key"], row["modality"]), row["fingerprint"])
        for row in table.astype(str).to_dict("records")
    ]


def _note_of(key: str) -> str:
    return f"{key}_made_of"
