"""The codes that cells are compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from indiseek_sc import _keys
from indiseek_sc.tl._embeddings import find_embedding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

Code = Literal["specific", "shared", "joint", "raw"]
"""What theta may be computed from."""


class SingleCode(NamedTuple):
    """One code by itself."""

    kind: Code
    modality: str  # its name; nothing for the joint code
    points: NDArray[np.floating]  # (n_cells, n_features); rows of cells that lack it are NaN


def find_codes(
    mdata: MuData, roles: Mapping[_keys.Role, str], code: Code, obsm_keys: Mapping[_keys.Role, str]
) -> dict[_keys.Role, NDArray[np.floating]]:
    """A code of each modality, shape ``(n_cells, n_features)``; rows of cells that lack it are NaN.

    Parameters
    ----------
    mdata
        Where to look.
    roles
        Names of the modalities.
    code
        ``"specific"``, ``"shared"``, ``"joint"`` (both of a modality side by side) or ``"raw"`` (the embedding named by ``obsm_keys``).
    obsm_keys
        An entry of ``obsm`` for each modality, for ``"raw"`` alone.

    Raises
    ------
    KeyError
        If the code is not there.
    ValueError
        If ``code`` is none of these, or an entry of ``obsm`` does not hold numbers.
    """
    if code not in get_args(Code):
        raise ValueError(f"code={code!r} must be one of {list(get_args(Code))}.")
    if code == "raw":
        return {role: find_embedding(mdata, name, obsm_keys[role], role, None).points for role, name in roles.items()}
    kinds = ("shared", "specific") if code == "joint" else (code,)
    return {role: np.hstack([_find_written(mdata, name, kind) for kind in kinds]) for role, name in roles.items()}


def find_single_codes(
    mdata: MuData, roles: Mapping[_keys.Role, str], codes: Sequence[Code], obsm_keys: Mapping[_keys.Role, str]
) -> dict[str, SingleCode]:
    """Each code by itself, by name: ``"shared_<modality>"`` and the like, and ``"joint"``, which here is the one joint code of both modalities.

    Raises
    ------
    KeyError
        If a code is not there.
    ValueError
        If one of ``codes`` is none, or an entry of ``obsm`` does not hold numbers.
    """
    found = {}
    for kind in codes:
        if kind == "joint":
            found["joint"] = SingleCode(kind, "", _get_code(mdata, _keys.JOINT, "joint code"))
            continue
        for role, points in find_codes(mdata, roles, kind, obsm_keys).items():
            found[f"{kind}_{roles[role]}"] = SingleCode(kind, roles[role], points)
    return found


def find_complete(codes: Iterable[NDArray[np.floating]]) -> NDArray[np.bool_]:
    """Which cells have all of ``codes``, shape ``(n_cells,)``."""
    return np.logical_and.reduce([np.isfinite(code).all(axis=1) for code in codes])


def _find_written(mdata: MuData, modality: str, kind: str) -> NDArray[np.floating]:
    key = {"shared": _keys.shared, "specific": _keys.specific}[kind](modality)
    return _get_code(mdata, key, f"{kind} code of modality {modality!r}")


def _get_code(mdata: MuData, key: str, name: str) -> NDArray[np.floating]:
    if key not in mdata.obsm:
        raise KeyError(
            f"mdata.obsm[{key!r}], the {name}, is missing; mdata.obsm holds {sorted(mdata.obsm)}. "
            "Call model.write_latents(mdata) first."
        )
    return np.asarray(mdata.obsm[key])
