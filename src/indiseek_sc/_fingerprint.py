"""Provenance of results in a MuData: fingerprints of the inputs, stored beside each result."""

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
    """Location of an input of a result: an ``obsm`` entry, an ``obs`` column or the cell names."""

    attribute: str
    key: str = ""
    modality: str = ""

    def __str__(self) -> str:
        if self.attribute == "obs_names":
            return "the cells"
        holder = f"mdata[{self.modality!r}]" if self.modality else "mdata"
        return f"the column {self.key!r}" if self.attribute == "obs" else f"{holder}.{self.attribute}[{self.key!r}]"


CELLS = Place("obs_names")
"""The names of the cells, which are an input of every result."""


def record_inputs(mdata: MuData, key: str, places: Iterable[Place]) -> None:
    """Store the fingerprints of the inputs of the result ``key`` in ``uns``."""
    rows = [{**place._asdict(), "fingerprint": take_fingerprint(mdata, place)} for place in [CELLS, *places]]
    mdata.uns[_record_key(key)] = pd.DataFrame(rows)


def is_recorded(mdata: MuData, key: str) -> bool:
    """Return whether fingerprints of the inputs of the result ``key`` are stored."""
    return _record_key(key) in mdata.uns


def find_changed(mdata: MuData, key: str) -> list[Place]:
    """Return the inputs that have changed or disappeared since the result ``key`` was computed.

    The list is empty if no fingerprints are stored.
    """
    return [place for place, noted in _read(mdata, key) if take_fingerprint(mdata, place) != noted]


def find_unchanged(mdata: MuData, key: str) -> list[Place]:
    """Return the inputs that are unchanged since the result ``key`` was computed."""
    return [place for place, noted in _read(mdata, key) if take_fingerprint(mdata, place) == noted]


def take_fingerprint(mdata: MuData, place: Place) -> str:
    """Return a short hash of the values at a place; empty if there are none."""
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
    table = mdata.uns.get(_record_key(key))
    if table is None:
        return []
    return [
        (Place(row["attribute"], row["key"], row["modality"]), row["fingerprint"])
        for row in table.astype(str).to_dict("records")
    ]


def _record_key(key: str) -> str:
    return f"{key}_made_of"
