"""Where representations and embeddings lie in a MuData, which modality is which, and which cells a model held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.sparse import issparse

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_whole
from indiseek_sc._fingerprint import Place
from indiseek_sc._lookup import check_mdata, find_labels
from indiseek_sc.metrics import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from mudata import MuData
    from numpy.typing import NDArray

Cells = Literal["all", "held_out"]
"""Which cells are looked at: all, or those alone that the model was not fitted on."""


def find_modalities(mdata: MuData, modalities: Mapping[str, str] | None) -> dict[_keys.Role, str]:
    """The user's own name of the modality in each role: as given, or else as the model noted it.

    Raises
    ------
    KeyError
        If no model wrote into ``mdata`` and ``modalities`` does not say, or names one that is not there.
    ValueError
        If ``modalities`` does not name one modality for each role.
    """
    check_mdata(mdata)
    is_given = modalities is not None
    if modalities is None:
        noted = mdata.uns.get(_keys.SETTINGS, {})
        if "modalities" not in noted:
            raise KeyError(
                f"mdata.uns[{_keys.SETTINGS!r}] does not say which modality is which: no model wrote its representations here. "
                "Call model.write_latents(mdata) first, or pass modalities={'rna': ..., 'adt': ...}."
            )
        modalities = noted["modalities"]
    if not isinstance(modalities, Mapping) or set(modalities) != set(_keys.ROLES):
        raise ValueError(f"modalities must map 'rna' and 'adt' to names of modalities; got {modalities!r}.")
    roles: dict[_keys.Role, str] = {role: str(modalities[role]) for role in _keys.ROLES}
    if is_given:
        _check_are_there(mdata, roles)
    return roles


def _check_are_there(mdata: MuData, roles: Mapping[_keys.Role, str]) -> None:
    for role, name in roles.items():
        if name not in mdata.mod:
            raise KeyError(f"modalities[{role!r}]={name!r} is not a modality of mdata, which has {list(mdata.mod)}.")


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
    check_name("cells", cells, get_args(Cells))
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


def find_several_labels(mdata: MuData, label_key: str, used: NDArray[np.bool_]) -> pd.Series:
    """The column ``label_key`` as categories, one value a cell of ``mdata``, of which cells looked at have at least two.

    Parameters
    ----------
    mdata
        Where to look.
    label_key
        Name of the column.
    used
        Which cells are looked at, shape ``(n_cells,)``.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If these cells have fewer labels.
    """
    labels = find_labels(mdata, label_key, "label_key")
    if (n_labels := labels[used].nunique()) < 2:
        raise ValueError(
            f"label_key={label_key!r} must have at least 2 labels among the {used.sum()} cells looked at; it has {n_labels}. "
            "Name another column."
        )
    return labels


ModalityLatent = Literal["specific", "shared", "both", "raw"]
"""What each modality has a representation of: ``"both"`` is its shared and its specific representation side by side."""

Latent = Literal[ModalityLatent, "joint"]
"""The same, and the one joint representation of all modalities."""


class SingleLatent(NamedTuple):
    """One representation by itself."""

    kind: Latent
    modality: str  # its name; nothing for the joint representation
    points: NDArray[np.floating]  # (n_cells, n_features); rows of cells that lack it are NaN


def find_latents(
    mdata: MuData,
    roles: Mapping[_keys.Role, str],
    latent: ModalityLatent,
    obsm_keys: Mapping[_keys.Role, str],
    argument: str = "latent",
) -> dict[_keys.Role, NDArray[np.floating]]:
    """A representation of each modality, shape ``(n_cells, n_features)``; rows of cells that lack it are NaN.

    Parameters
    ----------
    mdata
        Where to look.
    roles
        Names of the modalities.
    latent
        ``"specific"``, ``"shared"``, ``"both"`` (shared and specific of a modality side by side) or ``"raw"`` (the embedding named by ``obsm_keys``).
    obsm_keys
        An entry of ``obsm`` for each modality, for ``"raw"`` alone.
    argument
        Name of the argument that ``latent`` was given as, for error messages.

    Raises
    ------
    KeyError
        If the representation is not there.
    ValueError
        If ``latent`` is none of these, or an entry of ``obsm`` does not hold numbers.
    """
    if isinstance(latent, str) and latent == "joint":
        raise ValueError(
            f"{argument}='joint' is the one representation of both modalities, {_keys.JOINT}, and no modality has one of its own to compare. "
            "Name 'both' for the shared and the specific representation of each modality side by side."
        )
    check_name(argument, latent, get_args(ModalityLatent))
    if latent == "raw":
        return {role: find_embedding(mdata, name, obsm_keys[role], role, None).points for role, name in roles.items()}
    kinds = ("shared", "specific") if latent == "both" else (latent,)
    return {role: np.hstack([_find_written(mdata, name, kind) for kind in kinds]) for role, name in roles.items()}


def list_places(
    mdata: MuData,
    roles: Mapping[_keys.Role, str],
    latents: Iterable[Latent],
    obsm_keys: Mapping[_keys.Role, str],
    *,
    columns: Iterable[str | None] = (),
    cells: Cells = "all",
    refits: bool = False,
) -> list[Place]:
    """Return where representations, and the columns beside them that a result is made of, lie; see the functions that find them."""
    places = []
    for latent in latents:
        if latent == "joint":
            places.append(Place("obsm", _keys.JOINT))
        elif latent == "raw":
            for role, name in roles.items():
                is_own = obsm_keys[role] in mdata[name].obsm
                places.append(Place("obsm", obsm_keys[role], name if is_own else ""))
        else:
            kinds = {"shared": [_keys.shared], "specific": [_keys.specific], "both": [_keys.shared, _keys.specific]}
            places += [Place("obsm", key_of(name)) for key_of in kinds[latent] for name in roles.values()]
    if refits:
        places += [Place("obsm", key) for key in (*map(_keys.refits, roles.values()), _keys.REFITS_HELD_OUT)]
    named = [*columns, _keys.SPLIT if cells == "held_out" else None]
    return [*dict.fromkeys(places), *(Place("obs", name) for name in named if name is not None)]


def find_single_latents(
    mdata: MuData, roles: Mapping[_keys.Role, str], latents: Sequence[Latent], obsm_keys: Mapping[_keys.Role, str]
) -> dict[str, SingleLatent]:
    """Each representation by itself, by name: ``"shared_<modality>"`` and the like, and ``"joint"``, the one joint representation of both modalities.

    Raises
    ------
    KeyError
        If a representation is not there.
    ValueError
        If one of ``latents`` is none, or an entry of ``obsm`` does not hold numbers.
    """
    found = {}
    for kind in latents:
        check_name("latents", kind, get_args(Latent))
        if kind == "joint":
            found["joint"] = SingleLatent(kind, "", _get_latent(mdata, _keys.JOINT, "joint representation"))
            continue
        for role, points in find_latents(mdata, roles, kind, obsm_keys).items():
            found[f"{kind}_{roles[role]}"] = SingleLatent(kind, roles[role], points)
    return found


def find_complete(latents: Iterable[NDArray[np.floating]]) -> NDArray[np.bool_]:
    """Which cells have all of ``latents``, shape ``(n_cells,)``."""
    return np.logical_and.reduce([np.isfinite(latent).all(axis=1) for latent in latents])


def _find_written(mdata: MuData, modality: str, kind: str) -> NDArray[np.floating]:
    key = {"shared": _keys.shared, "specific": _keys.specific}[kind](modality)
    return _get_latent(mdata, key, f"{kind} representation of modality {modality!r}")


def _get_latent(mdata: MuData, key: str, name: str) -> NDArray[np.floating]:
    if key not in mdata.obsm:
        raise KeyError(
            f"mdata.obsm[{key!r}], the {name}, is missing; mdata.obsm holds {sorted(mdata.obsm)}. "
            "Call model.write_latents(mdata) first."
        )
    return np.asarray(mdata.obsm[key])


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
    check_mdata(mdata)
    if modalities is None and _keys.SETTINGS not in mdata.uns and set(_keys.ROLES) <= set(mdata.mod):
        modalities = {role: role for role in _keys.ROLES}
    roles = find_modalities(mdata, modalities)
    _check_are_there(mdata, roles)
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
    if not isinstance(key, str):
        check_name(f"{role}_obsm_key", key, sorted({*mdata[modality].obsm, *(set(mdata.obsm) - set(mdata.mod))}))
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
    if n_dimensions is not None and not 1 <= check_whole(f"{role}_dimensions", n_dimensions, 0) <= points.shape[1]:
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
