"""Lookup of representations, embeddings, modalities and held-out cells in a MuData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.sparse import issparse

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_whole
from indiseek_sc._fingerprint import Place
from indiseek_sc._lookup import check_mdata, find_labels, get_latent
from indiseek_sc.metrics import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from mudata import MuData
    from numpy.typing import NDArray

Cells = Literal["all", "held_out"]
"""Cells to use: all, or only held-out cells."""


def find_modalities(mdata: MuData, modalities: Mapping[str, str] | None) -> dict[_keys.Role, str]:
    """Return the name of the modality in each role, as given or as recorded by the model.

    Parameters
    ----------
    mdata
        Data with the modalities.
    modalities
        Names of the modalities by role, or None.

    Raises
    ------
    KeyError
        If ``modalities`` is None and no model has written to ``mdata``, or if a named modality does
        not exist.
    ValueError
        If ``modalities`` does not name one modality for each role.
    """
    check_mdata(mdata)
    is_given = modalities is not None
    if modalities is None:
        noted = mdata.uns.get(_keys.SETTINGS, {})
        if "modalities" not in noted:
            raise KeyError(
                f"mdata.uns[{_keys.SETTINGS!r}] does not record the roles of the modalities because no model has written its "
                "representations. Call model.write_latents(mdata) first, or pass modalities={'rna': ..., 'adt': ...}."
            )
        modalities = noted["modalities"]
    if not isinstance(modalities, Mapping) or set(modalities) != set(_keys.ROLES):
        raise ValueError(f"modalities must map 'rna' and 'adt' to names of modalities; got {modalities!r}.")
    roles: dict[_keys.Role, str] = {role: str(modalities[role]) for role in _keys.ROLES}
    if is_given:
        _check_existing(mdata, roles)
    return roles


def _check_existing(mdata: MuData, roles: Mapping[_keys.Role, str]) -> None:
    """Raise an error if ``mdata`` lacks one of the modalities."""
    for role, name in roles.items():
        if name not in mdata.mod:
            raise KeyError(f"modalities[{role!r}]={name!r} is not a modality of mdata, which has {list(mdata.mod)}.")


def find_cells(mdata: MuData, cells: Cells) -> NDArray[np.bool_]:
    """Return a mask of the cells to use, shape ``(n_cells,)``.

    Held-out cells are the test cells, or the validation cells if there are no test cells.

    Parameters
    ----------
    mdata
        Data with the split that the model recorded.
    cells
        ``"all"`` or ``"held_out"``.

    Raises
    ------
    KeyError
        If the split is missing.
    ValueError
        If ``cells`` is neither, or the split has no held-out cells.
    """
    check_name("cells", cells, get_args(Cells))
    return np.ones(mdata.n_obs, dtype=bool) if cells == "all" else _find_held_out(mdata)


def _find_held_out(mdata: MuData) -> NDArray[np.bool_]:
    """Return a mask of the held-out cells, shape ``(n_cells,)``."""
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
    """Return the column ``label_key`` as categories, with at least two labels among the used cells.

    Parameters
    ----------
    mdata
        Data with the column in ``obs`` or in ``obs`` of a modality.
    label_key
        Name of the column.
    used
        Mask of the used cells, shape ``(n_cells,)``.

    Raises
    ------
    KeyError
        If the column does not exist.
    ValueError
        If the used cells have fewer than two labels, or more labels than one for two cells.
    """
    labels = find_labels(mdata, label_key, "label_key")
    if (n_labels := labels[used].nunique()) < 2:
        raise ValueError(
            f"label_key={label_key!r} must have at least 2 labels among the {used.sum()} selected cells; it has "
            f"{n_labels}. Name another column."
        )
    if n_labels > used.sum() / 2:
        raise ValueError(
            f"label_key={label_key!r} has {n_labels:,} labels for {used.sum():,} cells, but labels are of groups of cells. "
            "Name another column."
        )
    return labels


ModalityLatent = Literal["specific", "shared", "both", "raw"]
"""Representations that exist once per modality; ``"both"`` is shared and specific concatenated."""

Latent = Literal[ModalityLatent, "joint"]
"""All representations: those of each modality, and the joint representation."""


class SingleLatent(NamedTuple):
    """One representation of one modality, or the joint representation."""

    kind: Latent
    modality: str  # empty for the joint representation
    points: NDArray[np.floating]  # (n_cells, n_features); NaN for cells without it


def find_latents(
    mdata: MuData,
    roles: Mapping[_keys.Role, str],
    latent: ModalityLatent,
    obsm_keys: Mapping[_keys.Role, str],
    argument: str = "latent",
) -> dict[_keys.Role, NDArray[np.floating]]:
    """Return a representation of each modality, shape ``(n_cells, n_features)``.

    Rows of cells without the representation are NaN.

    Parameters
    ----------
    mdata
        Data with representations.
    roles
        Names of the modalities.
    latent
        ``"specific"``, ``"shared"``, ``"both"`` (shared and specific concatenated) or ``"raw"``
        (the embeddings named by ``obsm_keys``).
    obsm_keys
        Entry of ``obsm`` for each modality; used for ``"raw"`` only.
    argument
        Name of the argument that ``latent`` was passed as, for error messages.

    Raises
    ------
    KeyError
        If the representation is missing.
    ValueError
        If ``latent`` is unknown, or an entry of ``obsm`` is not numerical.
    """
    if isinstance(latent, str) and latent == "joint":
        raise ValueError(
            f"{argument}='joint' is a single representation of both modalities, {_keys.JOINT}, so modalities cannot be "
            "compared by it. Use 'both' for the shared and specific representations of each modality concatenated."
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
    """List the entries of ``mdata`` that a result is computed from.

    Parameters
    ----------
    mdata
        Data with representations.
    roles
        Names of the modalities.
    latents
        Representations that were used.
    obsm_keys
        Embeddings of ``"raw"``.
    columns
        Columns of ``obs`` that were used; None is ignored.
    cells
        Cells that were used.
    refits
        Whether refits were used.
    """
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
    """Return representations by name, such as ``"shared_<modality>"`` or ``"joint"``.

    Parameters
    ----------
    mdata
        Data with representations.
    roles
        Names of the modalities.
    latents
        Kinds of representation.
    obsm_keys
        Embeddings of ``"raw"``.

    Raises
    ------
    KeyError
        If a representation is missing.
    ValueError
        If one of ``latents`` is unknown, or an entry of ``obsm`` is not numerical.
    """
    found = {}
    for kind in latents:
        check_name("latents", kind, get_args(Latent))
        if kind == "joint":
            found["joint"] = SingleLatent(kind, "", get_latent(mdata, _keys.JOINT, "joint representation"))
            continue
        for role, points in find_latents(mdata, roles, kind, obsm_keys).items():
            found[f"{kind}_{roles[role]}"] = SingleLatent(kind, roles[role], points)
    return found


def find_complete(latents: Iterable[NDArray[np.floating]]) -> NDArray[np.bool_]:
    """Return a mask of the cells that have all of ``latents``, shape ``(n_cells,)``."""
    return np.logical_and.reduce([np.isfinite(latent).all(axis=1) for latent in latents])


def _find_written(mdata: MuData, modality: str, kind: str) -> NDArray[np.floating]:
    """Return the shared or specific representation of a modality."""
    key = {"shared": _keys.shared, "specific": _keys.specific}[kind](modality)
    return get_latent(mdata, key, f"{kind} representation of modality {modality!r}")


class Embedding(NamedTuple):
    """Embedding of all cells of a MuData, and the entry that it was read from."""

    points: NDArray[np.float64]  # (n_cells, n_features); NaN for cells without the modality
    place: str


def find_pair(mdata: MuData, modalities: Mapping[str, str] | None) -> dict[_keys.Role, str]:
    """Return the names of two different modalities.

    They are those of ``modalities``, those recorded by the model, or else ``"rna"`` and ``"adt"``.

    Parameters
    ----------
    mdata
        Data with the modalities.
    modalities
        Names of the modalities by role, or None.

    Raises
    ------
    KeyError
        If a modality does not exist, or their roles are unknown.
    ValueError
        If ``modalities`` does not name two different modalities for the roles ``"rna"`` and
        ``"adt"``.
    """
    check_mdata(mdata)
    if modalities is None and _keys.SETTINGS not in mdata.uns and set(_keys.ROLES) <= set(mdata.mod):
        modalities = {role: role for role in _keys.ROLES}
    roles = find_modalities(mdata, modalities)
    _check_existing(mdata, roles)
    if roles["rna"] == roles["adt"]:
        raise ValueError(f"modalities must name two different modalities; got {roles['rna']!r} twice.")
    return roles


def find_embedding(mdata: MuData, modality: str, key: str, role: _keys.Role, n_dimensions: int | None) -> Embedding:
    """Return the embedding ``key`` from ``obsm`` of a modality, or else of ``mdata``.

    Parameters
    ----------
    mdata
        Data with the embedding; it is not changed.
    modality
        Name of the modality.
    key
        Name of the entry.
    role
        Role of the modality; determines the names of arguments in error messages.
    n_dimensions
        Number of leading columns to use; all if None.

    Raises
    ------
    KeyError
        If the entry does not exist.
    ValueError
        If it is not a numerical matrix, is not finite in a cell that has the modality, or has fewer
        than ``n_dimensions`` columns.
    """
    if not isinstance(key, str):
        check_name(f"{role}_obsm_key", key, sorted({*mdata[modality].obsm, *(set(mdata.obsm) - set(mdata.mod))}))
    argument = f"{role}_obsm_key={key!r}"
    if key in mdata[modality].obsm:
        place = f"mdata[{modality!r}].obsm[{key!r}]"
        values = _as_numbers(mdata[modality].obsm[key], argument, place)
        rows = mdata[modality].obs_names.get_indexer(mdata.obs_names)
        points = np.where((rows >= 0)[:, None], values[rows], np.nan)
    elif key in mdata.obsm and key not in mdata.mod:
        place = f"mdata.obsm[{key!r}]"
        points = _as_numbers(mdata.obsm[key], argument, place)
    else:
        there = sorted({*mdata[modality].obsm, *(set(mdata.obsm) - set(mdata.mod))})
        raise KeyError(
            f"{argument}: neither mdata[{modality!r}].obsm nor mdata.obsm has such an entry; existing entries: "
            f"{there or 'none'}. Name one of these, or compute principal components with "
            f"scanpy.pp.pca(mdata[{modality!r}])."
        )
    bad = ~np.isfinite(points).all(axis=1) & ~np.isnan(points).all(axis=1)
    if bad.any():
        cells = first_of(mdata.obs_names[bad].to_numpy())
        raise ValueError(
            f"{argument}: {place} has values of modality {modality!r} that are not finite in cells {cells}. "
            "Remove these cells, or recompute the embedding."
        )
    if n_dimensions is not None and not 1 <= check_whole(f"{role}_dimensions", n_dimensions, 0) <= points.shape[1]:
        raise ValueError(
            f"{role}_dimensions={n_dimensions} must be between 1 and the {points.shape[1]} columns of {place}, "
            "or None for all of them."
        )
    return Embedding(points[:, :n_dimensions], place)


def _as_numbers(values: Any, argument: str, place: str) -> NDArray[np.float64]:
    """Return an entry of ``obsm`` as a dense matrix of floating-point numbers."""
    dense = values.toarray() if issparse(values) else np.asarray(values)
    if dense.ndim != 2 or dense.shape[1] == 0 or dense.dtype.kind not in "fiub":
        raise ValueError(
            f"{argument}: {place} must be numbers of shape (n_cells, n_features) with at least one feature; got "
            f"{dense.dtype} of shape {dense.shape}."
        )
    return dense.astype(np.float64)
