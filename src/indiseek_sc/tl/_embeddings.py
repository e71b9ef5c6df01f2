"""Embeddings of modalities, wherever in a MuData they lie, one row for each of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from indiseek_sc import _keys
from indiseek_sc.metrics import first_of
from indiseek_sc.tl._codes import find_modalities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray


class Embedding(NamedTuple):
    """Positions of all cells of a MuData, and where they were found."""

    points: NDArray[np.float64]  # (n_cells, n_features); rows of cells that lack the modality are NaN
    place: str


def find_pair(mdata: MuData, modalities: Mapping[str, str] | None) -> dict[_keys.Role, str]:
    """Two different modalities of ``mdata``: as given, as a model noted them, or else ``"rna"`` and ``"adt"``.

    Raises
    ------
    KeyError
        If a modality is not there, or it is not known which they are.
    ValueError
        If ``modalities`` does not name two different ones for the roles ``"rna"`` and ``"adt"``.
    """
    if modalities is None and _keys.SETTINGS not in mdata.uns and set(_keys.ROLES) <= set(mdata.mod):
        modalities = {role: role for role in _keys.ROLES}
    roles = find_modalities(mdata, modalities)
    for role, name in roles.items():
        if name not in mdata.mod:
            raise KeyError(f"modalities[{role!r}]={name!r} is not a modality of mdata, which has {list(mdata.mod)}.")
    if roles["rna"] == roles["adt"]:
        raise ValueError(f"modalities must name two different modalities; got {roles['rna']!r} twice.")
    return roles


def find_embedding(mdata: MuData, modality: str, key: str, role: _keys.Role, n_dimensions: int | None) -> Embedding:
    """The embedding ``key`` of a modality: of its own ``obsm``, or else of that of ``mdata``.

    Parameters
    ----------
    mdata
        Where to look; it is not changed.
    modality
        A modality of it.
    key
        Name of the entry.
    role
        The part that the modality plays; names the arguments in errors.
    n_dimensions
        How many leading columns to take; all if not given.

    Raises
    ------
    KeyError
        If there is no such entry.
    ValueError
        If it is no matrix of numbers, is not finite in a cell that has the modality, or has not so many columns.
    """
    argument = f"{role}_obsm_key={key!r}"
    if key in mdata[modality].obsm:
        place = f"mdata[{modality!r}].obsm[{key!r}]"
        values = _as_numbers(mdata[modality].obsm[key], argument, place)
        rows = mdata[modality].obs_names.get_indexer(mdata.obs_names)
        points = np.where((rows >= 0)[:, None], values[rows], np.nan)
    elif key in mdata.obsm and key not in mdata.mod:  # under the names of modalities are masks of their cells
        place = f"mdata.obsm[{key!r}]"
        points = _as_numbers(mdata.obsm[key], argument, place)
    else:
        there = sorted({*mdata[modality].obsm, *(set(mdata.obsm) - set(mdata.mod))})
        raise KeyError(
            f"{argument}: neither mdata[{modality!r}].obsm nor mdata.obsm has such an entry; there is "
            f"{there or 'nothing'}. Name one of these, or make principal components by "
            f"scanpy.pp.pca(mdata[{modality!r}])."
        )
    bad = ~np.isfinite(points).all(axis=1) & ~np.isnan(points).all(axis=1)
    if bad.any():
        cells = first_of(mdata.obs_names[bad].to_numpy())
        raise ValueError(
            f"{argument}: {place} has values of modality {modality!r} that are not finite in cells {cells}. "
            "Leave these cells out, or make the embedding anew."
        )
    if n_dimensions is not None and not 1 <= n_dimensions <= points.shape[1]:
        raise ValueError(
            f"{role}_dimensions={n_dimensions} must be between 1 and the {points.shape[1]} columns of {place}, "
            "or None for all of them."
        )
    return Embedding(points[:, :n_dimensions], place)


def _as_numbers(values: Any, argument: str, place: str) -> NDArray[np.float64]:
    dense = values.toarray() if issparse(values) else np.asarray(values)
    if dense.ndim != 2 or dense.shape[1] == 0 or dense.dtype.kind not in "fiub":
        raise ValueError(
            f"{argument}: {place} must be numbers of shape (n_cells, n_features) with at least one feature; got "
            f"{dense.dtype} of shape {dense.shape}."
        )
    return dense.astype(np.float64)
