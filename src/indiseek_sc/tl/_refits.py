"""Refits of a model that ``model.write_refits`` wrote to a MuData."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc import _keys
from indiseek_sc._fingerprint import find_changed
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import Refit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger("scvi.indiseek_sc")


def find_refits(mdata: MuData, roles: Mapping[_keys.Role, str]) -> list[Refit]:
    """Return the refits in ``mdata``; none if there are none or if they are outdated.

    If the representations or cells have changed since the refits were trained, a warning is logged.

    Parameters
    ----------
    mdata
        Data with refits.
    roles
        Names of the modalities.
    """
    if _keys.REFITS not in mdata.uns or any(_keys.refits(name) not in mdata.obsm for name in roles.values()):
        return []
    if changed := find_changed(mdata, _keys.REFITS):
        logger.warning(
            f"The refits are ignored because they belong to another model or to other cells: "
            f"{', '.join(map(str, changed))} changed since. Call model.write_refits() again."
        )
        return []
    noted, held_out = mdata.uns[_keys.REFITS], np.asarray(mdata.obsm[_keys.REFITS_HELD_OUT], dtype=bool)
    parts = {
        role: _split_refits(np.asarray(mdata.obsm[_keys.refits(name)]), np.asarray(noted[f"widths_{role}"]))
        for role, name in roles.items()
    }
    return [
        Refit(
            {role: pairs[number][0] for role, pairs in parts.items()},
            {role: pairs[number][1] for role, pairs in parts.items()},
            held_out[:, number],
        )
        for number in range(held_out.shape[1])
    ]


def find_samples(mdata: MuData, sample_key: str | None = None) -> tuple[str, pd.Series | None]:
    """Return the name and values of the column of samples; ``("", None)`` if there is none.

    Parameters
    ----------
    mdata
        Data with refits.
    sample_key
        Column of samples; by default the column that the refits were trained with.
    """
    key = sample_key or mdata.uns[_keys.REFITS]["sample_key"]
    return (key, find_labels(mdata, key, "sample_key")) if key else ("", None)


def _split_refits(values: NDArray[np.floating], widths: NDArray[np.integer]) -> list[list[NDArray[np.floating]]]:
    """Return the shared and specific representation of each refit.

    A representation without dimensions is replaced by a constant, which all tools can read.
    """
    parts = np.split(values, np.cumsum(widths.ravel())[:-1], axis=1)
    parts = [part if part.shape[1] else np.zeros((len(values), 1), np.float32) for part in parts]
    return [parts[2 * number : 2 * number + 2] for number in range(len(widths))]
