"""Representations of cells, of the model's own data or any other with the same features. Functions here are methods of the model."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from mudata import MuData

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._fingerprint import Place, find_changed, is_noted, note_inputs
from indiseek_sc._keys import ROLES
from indiseek_sc.data import MAX_MISSING, as_row_major, check_paired, find_covariates, read_input
from indiseek_sc.model._cells import (
    PARTS,
    as_rows,
    describe_settings,
    find_cells,
    find_role,
    find_split,
    get_design,
    get_matrix,
    read_features,
    require,
)
from indiseek_sc.model._setup import is_view
from indiseek_sc.nn import take_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek

logger = logging.getLogger("scvi.indiseek_sc")

Kind = Literal["shared", "specific", "joint"]

CELLS_AT_ONCE = 16_384
"""Cells whose features are held at once while representations are computed."""


def get_latent_representation(
    model: IndiSeek,
    mdata: MuData | None = None,
    *,
    kind: Kind = "joint",
    modality: str | None = None,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    max_missing: float = MAX_MISSING,
) -> np.ndarray:
    """Return representations of cells.

    Parameters
    ----------
    mdata
        Cells to encode; the model's own data if not given. Features are matched by their names: others are not read, and those that
        are missing count as average in each cell. For the representation of one modality the other one need not be there.
    kind
        ``"shared"`` (what the other modality holds too), ``"specific"`` (what it does not), or ``"joint"`` (both of both
        modalities, made for neighbours and clusters).
    modality
        Whose representation, by the name in the MuData; needed for all but the joint representation.
    indices
        Row numbers or names of the cells in any order, or a mask; all if not given.
    max_missing
        Share of the features in use (of counts of RNA, the highly variable genes) that ``mdata`` may lack.

    Returns
    -------
    Representations, float32, shape ``(n_cells, n_dimensions)``, rows in the order of ``indices``; NaN of a cell that lacks a modality which the representation is made of. A shared representation has its directions
    in the order of how much they are shared; each dimension of a specific representation has unit variance in the training cells.

    Raises
    ------
    ValueError
        If the modality or the kind is unknown, or ``mdata`` lacks a modality that is needed, too many features, or holds values
        or batches that cannot be.
    RuntimeError
        If the stage that makes the representation was not trained.
    MemoryError
        If memory does not suffice even for a few cells at a time.
    """
    check_name("kind", kind, get_args(Kind))
    if kind == "joint":
        if modality is not None:
            raise ValueError(
                "modality: the joint representation is of both modalities; leave it out, or choose another kind."
            )
        return _encode(model, mdata, indices, "joint", None, max_missing)
    return _encode(model, mdata, indices, kind, find_role(model, modality), max_missing)


def get_reconstruction(
    model: IndiSeek,
    mdata: MuData | None = None,
    *,
    modality: str,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    max_missing: float = MAX_MISSING,
) -> np.ndarray:
    """Return what the two representations of a modality decode to.

    Parameters
    ----------
    mdata
        As in :meth:`get_latent_representation`.
    modality
        Which modality, by its name in the MuData.
    indices, max_missing
        As in :meth:`get_latent_representation`.

    Returns
    -------
    Features decoded from the specific and the shared representation of the modality and nothing else (but the covariates), shape
    ``(n_cells, n_features)``: principal components of RNA, scaled log-ratios of proteins; see :meth:`get_features`.
    """
    role = find_role(model, modality)
    decoded = _encode(model, mdata, indices, "reconstruction", role, max_missing)
    return decoded[:, model.module.transforms[role].used.cpu().numpy()]


def get_features(
    model: IndiSeek,
    mdata: MuData | None = None,
    *,
    modality: str,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    max_missing: float = MAX_MISSING,
) -> np.ndarray:
    """Return the features that the model works on, in the space of :meth:`get_reconstruction`.

    Parameters
    ----------
    mdata
        As in :meth:`get_latent_representation`.
    modality
        Which modality, by its name in the MuData.
    indices, max_missing
        As in :meth:`get_latent_representation`.

    Returns
    -------
    Shape ``(n_cells, n_features)``: principal components that were kept, or scaled log-ratios; without what the covariates of a cell add
    to them, if there are any. NaN of a cell that lacks the modality.
    """
    role = find_role(model, modality)
    require(model, "shared")
    mdata = model._validate_anndata(mdata, roles=(role,), max_missing=max_missing)
    rows = as_rows(indices, mdata.obs_names)
    features = read_features(model, mdata, role, rows)[:, model.module.transforms[role].used].cpu().numpy()
    features[~find_cells(model, mdata, (role,))[rows]] = np.nan
    return features


def write_latents(model: IndiSeek, mdata: MuData | None = None, *, max_missing: float = MAX_MISSING) -> None:
    """Write all representations to ``mdata.obsm``; the one method that writes.

    Adds ``X_indiseek`` (joint), ``X_indiseek_shared_<modality>`` and ``X_indiseek_specific_<modality>`` to ``obsm`` and the
    model's settings to ``uns["indiseek"]``; ``uns["indiseek_maps_made_of"]`` tells of the UMAPs that are there which are of other representations. Where the data hold cells that the model was trained with, ``obs["indiseek_split"]``
    says of each of them what it was used for, and is missing for the others.

    Where cells lack a modality, each has the representations that it can have and NaN for the others, and ``obs["indiseek_has_<modality>"]`` says which
    have it. Neighbours and maps need cells without NaN: ``mdata[mdata.obs["indiseek_has_<modality>"]].copy()``.

    Parameters
    ----------
    mdata, max_missing
        As in :meth:`get_latent_representation`; one modality is enough.

    Raises
    ------
    ValueError
        If ``mdata`` is a view, or cannot be read, as in :meth:`get_latent_representation`.
    RuntimeError
        If the specific representations are not trained.
    """
    require(model, "specific")
    if mdata is not None and is_view(mdata):
        raise ValueError(
            "mdata: it is a view of other data, to which representations cannot be written. "
            "Make it an object of its own: mdata = mdata.copy()"
        )
    given = mdata if isinstance(mdata, MuData) else model.adata
    there = tuple(role for role, name in model.modalities.items() if given is None or name in given.mod)
    mdata = model._validate_anndata(mdata, roles=there or ROLES, max_missing=max_missing)
    wanted = list_latents(model, there)
    # All of this before anything is written.
    latents = encode_all(model, mdata, np.arange(mdata.n_obs), list(wanted.values()))
    split, covariates = find_split(model, mdata), find_covariates(model.registry_)
    _write_masks(model, mdata)
    _write_latents(mdata, dict(zip(wanted, latents, strict=True)))
    mdata.uns[_keys.SETTINGS] = {
        "modalities": dict(model.modalities),
        "batch_key": covariates.batch or "",  # None does not survive a file
        "inputs": {role: _describe_input(model, role) for role in model.modalities},
        "version": version("indiseek_sc"),
        "settings": describe_settings(model),
    }
    for argument, names in covariates.others.items():
        if names:  # nor does an empty list
            mdata.uns[_keys.SETTINGS][argument] = names
    if any(getattr(split, part).size for part in PARTS):
        mdata.obs[_keys.SPLIT] = pd.Categorical(split.as_column(mdata.n_obs), categories=PARTS)
    elif _keys.SPLIT in mdata.obs:
        del mdata.obs[_keys.SPLIT]  # of representations of another model, which are gone


def _describe_input(model: IndiSeek, role: Role) -> dict[str, str]:
    """Where the values of a modality are, and what kind they are of, as tools read them again."""
    source, state = read_input(model.registry_, role)
    return {"attribute": source.attribute, "key": source.key or "", "kind": state["kind"]}


def _write_masks(model: IndiSeek, mdata: MuData) -> None:
    """Write which cells have each modality, where some lack one."""
    has = {_keys.has(name): find_cells(model, mdata, (role,)) for role, name in model.modalities.items()}
    is_whole = all(of.all() for of in has.values())
    for key, of in has.items():
        if not is_whole:
            mdata.obs[key] = of
        elif key in mdata.obs:
            del mdata.obs[key]
    if not is_whole:
        counts = "; ".join(f"{of.sum():,} (obs[{key!r}])" for key, of in has.items())
        logger.info(
            f"Of {mdata.n_obs:,} cells not all have both modalities: {counts}. Representations that a cell cannot have are NaN."
        )


def list_latents(model: IndiSeek, roles: Sequence[Role] = ROLES) -> dict[str, tuple[str, Role | None]]:
    """Return the representations that are written of some modalities, by their key in ``obsm``, as :func:`encode_all` takes them."""
    keys: dict[str, tuple[str, Role | None]] = {_keys.JOINT: ("joint", None)} if len(roles) == len(ROLES) else {}
    for kind, key_of in (("shared", _keys.shared), ("specific", _keys.specific)):
        keys |= {key_of(model.modalities[role]): (kind, role) for role in roles}
    return keys


def _write_latents(mdata: MuData, latents: dict[str, np.ndarray]) -> None:
    """Write representations, and note which UMAPs are not of them since they were there before; scanpy does not."""
    were_there = all(
        key in mdata.obsm
        and np.shape(mdata.obsm[key]) == latent.shape
        and np.allclose(mdata.obsm[key], latent, atol=1e-5, equal_nan=True)
        for key, latent in latents.items()
    )
    for key, latent in latents.items():
        mdata.obsm[key] = latent
    if were_there:
        return
    maps = ["X_umap" if key == _keys.JOINT else f"{key}_umap" for key in latents]
    maps = [key for key in maps if key in mdata.obsm]
    if maps or is_noted(mdata, _keys.MAPS_BEFORE):
        note_inputs(mdata, _keys.MAPS_BEFORE, [Place("obsm", key) for key in maps])
    former = [f"obsm[{key!r}]" for key in maps]
    former += [f"uns[{key!r}]" for key in _keys.RESULTS if find_changed(mdata, key)]
    use_rep = mdata.uns.get("neighbors", {}).get("params", {}).get("use_rep")
    former += ["uns['neighbors']"] if use_rep in latents else []
    if former:
        logger.info(
            f"The representations are new. What is there of former ones has to be made again: {', '.join(former)}."
        )


def _encode(
    model: IndiSeek, mdata: MuData | None, indices: Any, kind: str, role: Role | None, max_missing: float
) -> np.ndarray:
    require(model, "shared" if kind == "shared" else "specific")
    mdata = model._validate_anndata(mdata, roles=ROLES if role is None else (role,), max_missing=max_missing)
    if role is None:
        check_paired(mdata, model.modalities)
    return encode_all(model, mdata, as_rows(indices, mdata.obs_names), [(kind, role)])[0]


@torch.inference_mode()
def encode_all(
    model: IndiSeek, mdata: MuData, rows: np.ndarray, wanted: Sequence[tuple[str, Role | None]]
) -> list[np.ndarray]:
    """Return several representations of some cells of registered data, each by its kind and its modality (None for the joint one).

    All are computed in one pass, from features that are read once, of the modalities that are needed alone. A representation that a cell cannot have
    is NaN.
    """
    model.module.eval()
    named = {role for _, role in wanted}
    matrices = {
        role: as_row_major(get_matrix(model, mdata, role))
        for role in model.modalities
        if role in named or None in named
    }
    kinds = {kind for kind, _ in wanted}

    def encode(part: slice) -> list[np.ndarray]:
        some = rows[part]
        features = {role: read_features(model, mdata, role, some, matrix=x) for role, x in matrices.items()}
        described = model.module.describe(features, get_design(model, mdata, some), kinds)
        found = (described[kind] if role is None else described[kind][role] for kind, role in wanted)
        return [latent.cpu().numpy() for latent in found]

    latents: list[np.ndarray] = []
    for part, found in take_parts(encode, rows.size, CELLS_AT_ONCE):
        latents = latents or [np.empty((rows.size, some.shape[1]), np.float32) for some in found]
        for latent, some in zip(latents, found, strict=True):
            latent[part] = some
    for latent, (_, role) in zip(latents, wanted, strict=True):
        latent[~find_cells(model, mdata, model.modalities if role is None else (role,))[rows]] = np.nan
    return latents


def encode_by_name(model: IndiSeek, *kinds: str) -> dict[str, dict[str, np.ndarray]]:
    """Return representations of the cells of the model's own data that have all modalities, by kind and by the user's name of the modality."""
    mdata = model._validate_anndata()
    rows = np.flatnonzero(find_cells(model, mdata, model.modalities))
    wanted: list[tuple[str, Role | None]] = [(kind, role) for kind in kinds for role in model.modalities]
    latents = dict(zip(wanted, encode_all(model, mdata, rows, wanted), strict=True))
    return {kind: {name: latents[kind, role] for role, name in model.modalities.items()} for kind in kinds}
