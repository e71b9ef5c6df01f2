"""Weights of weighted nearest neighbours that a MuData has already, whoever made them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from indiseek_sc import _keys
from indiseek_sc._lookup import find_obs
from indiseek_sc.metrics import first_of
from indiseek_sc.tl._embeddings import find_pair
from indiseek_sc.tl._wnn_weights import SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

logger = logging.getLogger("scvi.indiseek_sc")


class WnnWeights(NamedTuple):
    """Weights of RNA, one a cell of a MuData and NaN where not known, and where they come from."""

    weights: pd.Series
    source: str


def find_wnn_weights(
    mdata: MuData, key: str | None = None, *, modalities: Mapping[str, str] | None = None
) -> WnnWeights:
    """Find the weights of RNA that ``mdata`` has already, and say which they are.

    Without ``key``, the first of these columns is taken, in ``mdata.obs`` or in the obs of a modality:
    ``"<rna>:wnn_weight"`` (:func:`wnn_weights`), ``"RNA.weight"`` or ``"SCT.weight"`` (Seurat), ``"<rna>:mod_weight"``
    (muon, whose weights are squeezed towards 0.5). Nothing is computed or written; the source is logged.

    Parameters
    ----------
    mdata
        Where to look.
    key
        Column with the weight of RNA, with or without ``"<modality>:"`` before it.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as a model noted them, or else by these
        very names.

    Returns
    -------
    ``weights``, indexed by ``mdata.obs_names``, and ``source``, a sentence part that names the column and its maker.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If it does not hold weights, numbers between 0 and 1, or is missing in all cells.
    """
    if key is not None:
        return _checked(mdata, find_obs(mdata, key, "key"), key, "as given by key")
    rna = find_pair(mdata, modalities)["rna"]
    makers = {
        _keys.wnn_weight(rna): SOURCE,
        "RNA.weight": "Seurat",
        "SCT.weight": "Seurat",
        f"{rna}:mod_weight": "muon",
    }
    found = {}
    for column in makers:
        with suppress(KeyError):
            found[column] = find_obs(mdata, column, "key")
    if not found:
        sought = ", ".join(f"{column!r} ({maker})" for column, maker in makers.items())
        raise KeyError(
            f"No obs has weights of modality {rna!r} among weighted nearest neighbours; looked for {sought}. "
            "Call tl.wnn_weights(mdata) to compute them, or name the column by key."
        )
    column, *others = found
    more = f"; not used: {', '.join(others)}" if others else ""
    return _checked(mdata, found[column], column, f"named as by {makers[column]}{more}")


def _checked(mdata: MuData, values: pd.Series, column: str, origin: str) -> WnnWeights:
    numbers = pd.to_numeric(values.astype(object), errors="coerce").astype(float)
    bad = (values.notna() & ~numbers.between(0, 1)).to_numpy()
    if bad.any():
        raise ValueError(
            f"obs column {column!r} does not hold weights between 0 and 1 in cells "
            f"{first_of(mdata.obs_names[bad].to_numpy())}. Name another column by key, or call tl.wnn_weights(mdata)."
        )
    if numbers.isna().all():
        raise ValueError(
            f"obs column {column!r} is missing in all cells. Name another column by key, or call tl.wnn_weights(mdata)."
        )
    source = f"obs column {column!r}, {origin}"
    logger.info(f"WNN weights of RNA: {source}.")
    return WnnWeights(numbers, source)
