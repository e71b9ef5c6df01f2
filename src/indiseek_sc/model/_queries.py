"""Mapping of query data to a trained model (scArches); public functions are class methods."""

from __future__ import annotations

import copy
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys
from indiseek_sc._lookup import check_mdata, with_modalities
from indiseek_sc._text import choices, listing
from indiseek_sc.data import (
    MAX_MISSING,
    MatchedMatrix,
    add_batches,
    check_features,
    find_covariates,
    find_missing,
    fit_added_offset,
    read_input,
    read_levels,
)
from indiseek_sc.model._cells import find_cells, get_design, get_matrix, read_features, require
from indiseek_sc.model._setup import find_features_in_use, is_view
from indiseek_sc.model._shared import some_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.module import Independence

logger = logging.getLogger("scvi.indiseek_sc")


def prepare_query_mudata(
    cls: type[IndiSeek],
    mdata: MuData,
    reference_model: str | os.PathLike[str] | IndiSeek,
    return_reference_var_names: bool = False,
) -> MuData | dict[str, pd.Index]:
    """Return a copy of query data with the features of a model, in the order of the model.

    Methods of the model do not require this, since they match features by name; it is useful for
    other joint analyses of query and reference. Missing features are columns of zeros, marked in
    ``var["indiseek_is_missing"]``, and the model treats them as not measured.

    Parameters
    ----------
    mdata
        Cells with one or both modalities of the model. Other modalities are not changed.
    reference_model
        Model, or folder of a saved model.
    return_reference_var_names
        Return the names of the features of the model by modality instead.

    Returns
    -------
    MuData with ``obs``, ``obsm`` and ``uns`` of the cells. In each modality that the model reads
    from ``X`` or a layer, ``X``, layers and ``var`` contain only the features of the model.

    Raises
    ------
    TypeError
        If ``mdata`` is not a MuData.
    ValueError
        If ``mdata`` has no modality of the model, or none of the features of a modality.

    Examples
    --------
    >>> query = IndiSeek.prepare_query_mudata(mdata, model)
    >>> query["adt"].var_names.equals(pd.Index(model.get_var_names()["adt"]))
    True
    """
    reference = _open(cls, reference_model)
    names = {name: pd.Index(features) for name, features in reference.get_var_names().items()}
    if return_reference_var_names:
        return names
    roles = _find_roles(reference, mdata)
    parts = dict(mdata.mod)
    for role in roles:
        source, state = read_input(reference.registry_, role)
        if source.attribute != "obsm":
            check_features(mdata, source, state.get("excluded", ()), find_features_in_use(reference, role))
            parts[source.modality] = _align(mdata.mod[source.modality], names[source.modality])
    return with_modalities(
        mdata, {name: part.copy() if part is mdata.mod[name] else part for name, part in parts.items()}
    )


def _align(adata: AnnData, names: pd.Index) -> AnnData:
    """Return a modality with the features of these names, in their order."""
    columns = adata.var_names.astype(str).get_indexer(names)
    var = adata.var.reindex(names)
    was_padded = adata.var.get(_keys.PADDED, pd.Series(False, adata.var_names)).to_numpy(dtype=bool)
    var[_keys.PADDED] = (columns < 0) | was_padded[columns]

    def put_in_order(values: Any) -> Any:
        return None if values is None else MatchedMatrix(values, columns=columns)[:]

    layers = {key: put_in_order(values) for key, values in adata.layers.items() if key is not None}
    aligned = AnnData(put_in_order(adata.X), adata.obs.copy(), var, layers=layers, obsm=dict(adata.obsm))
    aligned.uns.update(adata.uns)
    return aligned


def load_query_data(
    cls: type[IndiSeek],
    mdata: MuData,
    reference_model: str | os.PathLike[str] | IndiSeek,
    *,
    max_missing: float = MAX_MISSING,
    accelerator: str = "auto",
    device: int | str = "auto",
    independence: Independence | None = None,
) -> IndiSeek:
    """Return a model for cells of batches that are new to the reference.

    The additive effect of each new batch on the features is estimated in closed form, by comparing
    its cells with cell states of the reference (:func:`~indiseek_sc.data.fit_added_offset`), and
    subtracted. Nothing is trained, and representations of the reference cells are bitwise
    unchanged. Decoders were not trained on the new batches; they treat their cells as belonging to
    no particular batch, as the joint representation does for all cells.

    Parameters
    ----------
    mdata
        Cells with one or both modalities of the model, and the batch column with which the
        reference was set up. It need not be set up.
    reference_model
        Trained model, which is not changed, or folder of a saved model.
    max_missing
        As in :meth:`get_latent_representation`.
    accelerator, device, independence
        As in :meth:`load`, for a saved model; otherwise those of ``reference_model`` are used.

    Returns
    -------
    Trained model with the batches of reference and query, and with ``mdata`` as its data. It can be
    saved.

    Raises
    ------
    TypeError
        If ``mdata`` is not a MuData.
    ValueError
        If ``mdata`` is a view, has no modality of the model, or its features, values or batches
        cannot be read.
    RuntimeError
        If the reference is not trained.

    Examples
    --------
    >>> query = mdata[:100].copy()
    >>> for name in ("rna", "adt"):
    ...     query[name].obs["batch"] = "new batch"
    >>> query.obs["batch"] = "new batch"
    >>> query_model = IndiSeek.load_query_data(query, model)
    >>> query_model.get_latent_representation().shape[0]
    100
    """
    reference = _open(cls, reference_model, accelerator=accelerator, device=device, independence=independence)
    require(reference, "shared")
    roles = _find_roles(reference, mdata)
    if is_view(mdata):
        raise ValueError("mdata: it is a view of other data. Copy it first: mdata = mdata.copy()")
    covariates = find_covariates(reference.registry_)
    known = () if covariates.batch is None else covariates.levels[covariates.batch]
    added: list[str] = []
    if covariates.batch is None:
        logger.info("The reference was set up without batch_key, so batch effects are not corrected.")
    else:
        batches = read_levels(mdata, covariates.batch)
        added = [name for name in batches.cat.categories if name not in set(known)]
    model = _extend(reference, added)
    mdata = model._validate_anndata(mdata, roles=roles, max_missing=max_missing)
    for column, name in enumerate(added, start=reference.module.design.n_columns):
        _estimate_offset(model, mdata, roles, column, name)
    model._adata, model._adata_manager = mdata, model.get_anndata_manager(mdata, required=True)
    return model


def _open(cls: type[IndiSeek], reference_model: Any, **kwargs: Any) -> IndiSeek:
    """Return a model, loaded if it is given as a folder."""
    if isinstance(reference_model, (str, os.PathLike)):
        return cls.load(reference_model, adata=False, **kwargs)
    if not hasattr(reference_model, "get_var_names"):
        raise TypeError(f"reference_model must be a model or the folder of a saved one, but is {reference_model!r}.")
    return reference_model


def _find_roles(reference: IndiSeek, mdata: MuData) -> tuple[Role, ...]:
    """Return the modalities of the model that the data contain."""
    check_mdata(mdata)
    roles = tuple(role for role, name in reference.modalities.items() if name in mdata.mod)
    if not roles:
        first, *_ = reference.modalities.values()
        raise ValueError(
            f"mdata: it has no modality of the model ({listing(reference.modalities.values())}). {choices(first, list(mdata.mod))}"
        )
    return roles


def _extend(reference: IndiSeek, added: Sequence[str]) -> IndiSeek:
    """Return a copy of a model, without data, with additional batches."""
    registry = add_batches(reference.registry_, added)
    model = type(reference)(registry=registry, **reference.init_params_["non_kwargs"])
    for name, value in vars(reference).items():
        if name.endswith("_") and not name.startswith("_") and name not in ("registry_", "init_params_"):
            setattr(model, name, copy.copy(value))
    state, n = dict(reference.module.state_dict()), reference.module.design.n_columns
    for name, own in model.module.state_dict().items():
        if name.endswith((".overall", ".of_states")):
            state[name] = torch.cat([state[name], own.narrow(-2, n, own.shape[-2] - n).to(state[name])], dim=-2)
    model.module.load_state_dict(state)
    model.to_device(reference.device)
    model.module.eval()
    return model


def _estimate_offset(model: IndiSeek, mdata: MuData, roles: Sequence[Role], column: int, name: str) -> None:
    """Estimate and set the additive effect of one batch.

    It is estimated from cells with all modalities or, if the batch has none, from those of each
    modality.
    """
    module = model.module
    if not module.architecture.batch_offsets:
        logger.info(
            "batch_key: the reference was created with batch_offsets=False, so the effect of "
            f"{name!r} is not subtracted."
        )
        return
    if any(module.covariate_offsets[role].states.isinf().all() for role in roles):
        raise ValueError("reference_model: it was trained by a version that stored no cell states. Train it again.")
    is_in_batch = (get_design(model, mdata, np.arange(mdata.n_obs))[:, column] > 0).cpu().numpy()
    is_paired = (is_in_batch & find_cells(model, mdata, roles)).any()
    n_cells = 0
    for group in [roles] if is_paired else [(role,) for role in roles]:
        rows = np.flatnonzero(is_in_batch & find_cells(model, mdata, group))
        if not rows.size:
            continue
        n_cells += rows.size
        rows = some_rows(torch.from_numpy(rows)).numpy()
        features = [read_features(model, mdata, role, rows).cpu().numpy() for role in group]
        states = [module.covariate_offsets[role].states.cpu().numpy() for role in group]
        is_kept = np.isfinite(states[0]).all(axis=1)
        found = fit_added_offset(features, [of_role[is_kept] for of_role in states])
        for role, offset in zip(group, found, strict=True):
            if (
                module.transforms[role].components is None
                and (missing := find_missing(get_matrix(model, mdata, role))) is not None
            ):
                offset[missing[module.transforms[role].features.cpu().numpy()]] = 0.0
            module.covariate_offsets[role].overall[column] = torch.from_numpy(offset)
    logger.info(
        f"batch_key: {name!r} is new to the reference; its additive effect was estimated from {n_cells:,} cells."
    )
