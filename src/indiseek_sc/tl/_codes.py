"""What a model noted in a MuData: which modality is which, and the cells that it held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from indiseek_sc import _keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

Cells = Literal["all", "held_out"]
"""Which cells are looked at: all, or those alone that the model was not fitted on."""


def find_modalities(mdata: MuData, modalities: Mapping[str, str] | None) -> dict[_keys.Role, str]:
    """The user's own name of the modality in each role: as given, or else as the model noted it.

    Raises
    ------
    KeyError
        If no model wrote into ``mdata`` and ``modalities`` does not say.
    ValueError
        If ``modalities`` does not name one modality for each role.
    """
    if modalities is None:
        noted = mdata.uns.get(_keys.SETTINGS, {})
        if "modalities" not in noted:
            raise KeyError(
                f"mdata.uns[{_keys.SETTINGS!r}] does not say which modality is which: no model wrote its codes here. "
                "Call model.write_latents(mdata) first, or pass modalities={'rna': ..., 'adt': ...}."
            )
        modalities = noted["modalities"]
    if set(modalities) != set(_keys.ROLES):
        raise ValueError(f"modalities must map 'rna' and 'adt' to names of modalities; got {dict(modalities)}.")
    return {role: str(modalities[role]) for role in _keys.ROLES}


def find_cells(mdata: MuData, cells: Cells) -> NDArray[np.bool_]:
    """Which cells are looked at, shape ``(n_cells,)``.

    Those held out are the test cells, or the validation cells where there are none.

    Raises
    ------
    KeyError
        If the split is not there.
    ValueError
        If ``cells`` is neither, or the split holds nothing out.
    """
    if cells not in get_args(Cells):
        raise ValueError(f"cells={cells!r} must be one of {list(get_args(Cells))}.")
    return np.ones(mdata.n_obs, dtype=bool) if cells == "all" else _find_held_out(mdata)


def _find_held_out(mdata: MuData) -> NDArray[np.bool_]:
    if _keys.SPLIT not in mdata.obs:
        raise KeyError(
            f"cells='held_out' needs mdata.obs[{_keys.SPLIT!r}], which is missing. Call model.write_latents(mdata) "
            "first, or use cells='all'."
        )
    split = mdata.obs[_keys.SPLIT].astype(str).to_numpy()
    for part in ("test", "validation"):
        if (split == part).any():
            return split == part
    raise ValueError(
        f"cells='held_out', but mdata.obs[{_keys.SPLIT!r}] has neither test nor validation cells. Use cells='all'."
    )
