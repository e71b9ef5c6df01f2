"""Refits of a model, as ``model.write_refits`` left them in a MuData."""

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
    """Return the refits that are there; none if they are of other representations than are there now, with a warning."""
    if _keys.REFITS not in mdata.uns or any(_keys.refits(name) not in mdata.obsm for name in roles.values()):
        return []
    if changed := find_changed(mdata, _keys.REFITS):
        logger.warning(
            f"The refits are not used, since they are of another model or of other cells: {', '.join(map(str, changed))} changed since. "
            "Call model.write_refits() again."
        )
        return []
    noted, held_out = mdata.uns[_keys.REFITS], np.asarray(mdata.obsm[_keys.REFITS_HELD_OUT], dtype=bool)
    parts = {
        role: _cut(np.asarray(mdata.obsm[_keys.refits(name)]), np.asarray(noted[f"widths_{role}"]))
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
    """Return the column of samples that standard errors are over, as given or as refits were made, and its values; nothing if there is none."""
    key = sample_key or mdata.uns[_keys.REFITS]["sample_key"]
    return (key, find_labels(mdata, key, "sample_key")) if key else ("", None)


def _cut(values: NDArray[np.floating], widths: NDArray[np.integer]) -> list[list[NDArray[np.floating]]]:
    """Shared and specific representation of each refit; one of no dimensions has a constant one, so that all tools can read it."""
    parts = np.split(values, np.cumsum(widths.ravel())[:-1], axis=1)
    parts = [part if part.shape[1] else np.zeros((len(values), 1), np.float32) for part in parts]
    return [parts[2 * number : 2 * number + 2] for number in range(len(widths))]
