"""Representations of training data or of new cells. Functions are methods of the model."""

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
from indiseek_sc._fingerprint import Place, find_changed, is_recorded, record_inputs
from indiseek_sc._keys import ROLES
from indiseek_sc._settings import settings
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


def get_latent_representation(
    model: IndiSeek,
    mdata: MuData | None = None,
    *,
    kind: Kind = "joint",
    modality: str | None = None,
    indices: Sequence[int] | Sequence[str] | np.ndarray | pd.Series | None = None,
    max_missing: float = MAX_MISSING,
) -> np.ndarray:
    """Return a latent representation of cells.

    Parameters
    ----------
    mdata
        Cells to encode; the data of the model if not given. Features are matched by name: unknown
        features are ignored, and missing features are replaced by their means. The representation
        of one modality does not need the other one.
    kind
        ``"shared"`` (what both modalities measure), ``"specific"`` (what only one modality
        measures), or ``"joint"`` (both representations of both modalities combined, for neighbours
        and clusters).
    modality
        Modality of the representation, by its name in the MuData. Needed for shared and specific
        representations.
    indices
        Row numbers or names of the cells in any order, or a mask; all cells if not given.
    max_missing
        Largest share of the features in use that ``mdata`` may lack. For RNA counts these are the
        highly variable genes.

    Returns
    -------
    Representation, float32, shape ``(n_cells, n_dimensions)``, rows in the order of ``indices``.
    Cells that lack a modality that the representation depends on are NaN. The dimensions of a
    shared representation are ordered by how strongly they are shared; each dimension of a specific
    representation has unit variance in the training cells.

    Raises
    ------
    ValueError
        If the modality or the kind is unknown, or ``mdata`` lacks a required modality or too many
        features, or contains invalid values or unknown batches.
    RuntimeError
        If the stage that produces the representation is not trained.
    MemoryError
        If memory does not suffice even for a few cells at a time.

    Examples
    --------
    >>> joint = model.get_latent_representation()
    >>> joint.shape[0]
    600
    >>> specific = model.get_latent_representation(kind="specific", modality="rna", indices=[0, 1])
    >>> specific.shape[0]
    2
    """
    check_name("kind", kind, get_args(Kind))
    if kind == "joint":
        if modality is not None:
            raise ValueError(
                "modality: the joint representation combines both modalities; leave modality out, or choose another kind."
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
    """Return the features of a modality as decoded from its two representations.

    Parameters
    ----------
    mdata
        As in :meth:`get_latent_representation`.
    modality
        Modality to reconstruct, by its name in the MuData.
    indices, max_missing
        As in :meth:`get_latent_representation`.

    Returns
    -------
    Features decoded from the specific and the shared representation of the modality and the
    covariates, shape ``(n_cells, n_features)``: principal components of RNA, scaled log-ratios of
    proteins; see :meth:`get_features`.

    Examples
    --------
    >>> decoded = model.get_reconstruction(modality="adt")
    >>> decoded.shape == model.get_features(modality="adt").shape
    True
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
    """Return the features that the model encodes, in the space of :meth:`get_reconstruction`.

    Parameters
    ----------
    mdata
        As in :meth:`get_latent_representation`.
    modality
        Modality of the features, by its name in the MuData.
    indices, max_missing
        As in :meth:`get_latent_representation`.

    Returns
    -------
    Features, shape ``(n_cells, n_features)``: the principal components in use, or scaled
    log-ratios. Estimated effects of covariates are subtracted. Cells that lack the modality are
    NaN.

    Raises
    ------
    ValueError
        As in :meth:`get_latent_representation`.
    RuntimeError
        If the shared representations are not trained.

    Examples
    --------
    >>> features = model.get_features(modality="adt", indices=[0, 1, 2])
    >>> features.shape[0]
    3
    """
    role = find_role(model, modality)
    require(model, "shared")
    mdata = model._validate_anndata(mdata, roles=(role,), max_missing=max_missing)
    rows = as_rows(indices, mdata.obs_names)
    features = read_features(model, mdata, role, rows)[:, model.module.transforms[role].used].cpu().numpy()
    features[~find_cells(model, mdata, (role,))[rows]] = np.nan
    return features


def write_latents(model: IndiSeek, mdata: MuData | None = None, *, max_missing: float = MAX_MISSING) -> None:
    """Write all representations to ``mdata.obsm``.

    Adds ``X_indiseek`` (joint), ``X_indiseek_shared_<modality>`` and
    ``X_indiseek_specific_<modality>`` to ``obsm`` and the settings of the model to
    ``uns["indiseek"]``. Existing UMAPs of other representations are listed in
    ``uns["indiseek_maps_made_of"]``. If the data contain cells that the model was trained with,
    ``obs["indiseek_split"]`` contains the part of each of these cells (``"train"``,
    ``"validation"`` or ``"test"``) and is missing for other cells.

    If cells lack a modality, the representations that depend on it are NaN, and
    ``obs["indiseek_has_<modality>"]`` marks the cells that have it. Neighbours and UMAPs need cells
    without NaN: ``mdata[mdata.obs["indiseek_has_<modality>"]].copy()``.

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

    Examples
    --------
    >>> model.write_latents(mdata)
    >>> [key for key in mdata.obsm if key.startswith("X_indiseek_s")]  # doctest: +ELLIPSIS
    ['X_indiseek_shared_rna', ...]
    """
    require(model, "specific")
    if mdata is not None and is_view(mdata):
        raise ValueError(
            "mdata: this is a view of other data, to which representations cannot be written. "
            "Copy it first: mdata = mdata.copy()"
        )
    given = mdata if isinstance(mdata, MuData) else model.adata
    present = tuple(role for role, name in model.modalities.items() if given is None or name in given.mod)
    mdata = model._validate_anndata(mdata, roles=present or ROLES, max_missing=max_missing)
    wanted = list_latents(model, present)
    # Compute everything before anything is written, in case of an error.
    latents = encode_all(model, mdata, np.arange(mdata.n_obs), list(wanted.values()))
    split, covariates = find_split(model, mdata), find_covariates(model.registry_)
    _write_masks(model, mdata)
    _write_latents(mdata, dict(zip(wanted, latents, strict=True)))
    mdata.uns[_keys.SETTINGS] = {
        "modalities": dict(model.modalities),
        "batch_key": covariates.batch or "",  # None cannot be written to a file
        "inputs": {role: _describe_input(model, role) for role in model.modalities},
        "version": version("indiseek_sc"),
        "settings": describe_settings(model),
    }
    for argument, names in covariates.others.items():
        if names:  # an empty list cannot be written to a file either
            mdata.uns[_keys.SETTINGS][argument] = names
    if any(getattr(split, part).size for part in PARTS):
        mdata.obs[_keys.SPLIT] = pd.Categorical(split.as_column(mdata.n_obs), categories=PARTS)
    elif _keys.SPLIT in mdata.obs:
        del mdata.obs[_keys.SPLIT]  # written with representations of another model


def _describe_input(model: IndiSeek, role: Role) -> dict[str, str]:
    """Return the location and kind of the values of a modality, which functions of `tl` read."""
    source, state = read_input(model.registry_, role)
    return {"attribute": source.attribute, "key": source.key or "", "kind": state["kind"]}


def _write_masks(model: IndiSeek, mdata: MuData) -> None:
    """Write masks of the cells that have each modality, if some cells lack one."""
    has = {_keys.has(name): find_cells(model, mdata, (role,)) for role, name in model.modalities.items()}
    is_complete = all(mask.all() for mask in has.values())
    for key, mask in has.items():
        if not is_complete:
            mdata.obs[key] = mask
        elif key in mdata.obs:
            del mdata.obs[key]
    if not is_complete:
        counts = "; ".join(f"{mask.sum():,} (obs[{key!r}])" for key, mask in has.items())
        logger.info(
            f"Of {mdata.n_obs:,} cells not all have both modalities: {counts}. Representations that need a missing "
            "modality are NaN."
        )


def list_latents(model: IndiSeek, roles: Sequence[Role] = ROLES) -> dict[str, tuple[str, Role | None]]:
    """Return kind and role of the representations to write, by key in ``obsm``.

    Kind and role are as in :func:`encode_all`.
    """
    keys: dict[str, tuple[str, Role | None]] = {_keys.JOINT: ("joint", None)} if len(roles) == len(ROLES) else {}
    for kind, key_of in (("shared", _keys.shared), ("specific", _keys.specific)):
        keys |= {key_of(model.modalities[role]): (kind, role) for role in roles}
    return keys


def _write_latents(mdata: MuData, latents: dict[str, np.ndarray]) -> None:
    """Write representations, and record existing UMAPs, which scanpy does not mark as outdated."""
    is_unchanged = all(
        key in mdata.obsm
        and np.shape(mdata.obsm[key]) == latent.shape
        and np.allclose(mdata.obsm[key], latent, atol=1e-5, equal_nan=True)
        for key, latent in latents.items()
    )
    for key, latent in latents.items():
        mdata.obsm[key] = latent
    if is_unchanged:
        return
    maps = ["X_umap" if key == _keys.JOINT else f"{key}_umap" for key in latents]
    maps = [key for key in maps if key in mdata.obsm]
    if maps or is_recorded(mdata, _keys.EARLIER_UMAPS):
        record_inputs(mdata, _keys.EARLIER_UMAPS, [Place("obsm", key) for key in maps])
    outdated = [f"obsm[{key!r}]" for key in maps]
    outdated += [f"uns[{key!r}]" for key in _keys.RESULTS if find_changed(mdata, key)]
    use_rep = mdata.uns.get("neighbors", {}).get("params", {}).get("use_rep")
    outdated += ["uns['neighbors']"] if use_rep in latents else []
    if outdated:
        logger.info(
            f"The representations changed. Compute again what depends on the previous ones: {', '.join(outdated)}."
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
    """Return several representations of cells of registered data.

    All are computed in one pass, from the features of the required modalities only.
    Representations of cells that lack a required modality are NaN.

    Parameters
    ----------
    model
        The model.
    mdata
        The registered data.
    rows
        Row numbers of the cells, shape ``(n_rows,)``.
    wanted
        Kind and role of each representation; the role of the joint representation is None.

    Returns
    -------
    One array for each item of ``wanted``, shape ``(n_rows, n_dimensions)``.
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
    for part, found in take_parts(encode, rows.size, settings.cells_at_once):
        latents = latents or [np.empty((rows.size, some.shape[1]), np.float32) for some in found]
        for latent, some in zip(latents, found, strict=True):
            latent[part] = some
    for latent, (_, role) in zip(latents, wanted, strict=True):
        latent[~find_cells(model, mdata, model.modalities if role is None else (role,))[rows]] = np.nan
    return latents


def encode_by_name(model: IndiSeek, *kinds: str) -> dict[str, dict[str, np.ndarray]]:
    """Return representations of the model's data by kind and by name of the modality.

    Rows are the cells that have all modalities.
    """
    mdata = model._validate_anndata()
    rows = np.flatnonzero(find_cells(model, mdata, model.modalities))
    wanted: list[tuple[str, Role | None]] = [(kind, role) for kind in kinds for role in model.modalities]
    latents = dict(zip(wanted, encode_all(model, mdata, rows, wanted), strict=True))
    return {kind: {name: latents[kind, role] for role, name in model.modalities.items()} for kind in kinds}
