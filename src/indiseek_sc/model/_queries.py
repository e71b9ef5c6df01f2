"""Data that a trained model shall read, in the manner of scvi-tools' scArches. Functions here are class methods of the model."""

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
    """Return a copy of data with the features of a model, in its order.

    No method needs it, since features are matched by name wherever a model reads. It is for what else is done with a query and the reference
    side by side. Features that are missing are columns of 0 and marked in ``var["indiseek_is_missing"]``; by this the model knows that
    they were not measured.

    Parameters
    ----------
    mdata
        Cells with one modality of the model or both. Other modalities stay as they are.
    reference_model
        The model, or the folder of a saved one.
    return_reference_var_names
        Return the names of the features of the model instead, by modality.

    Returns
    -------
    A MuData with ``obs``, ``obsm`` and ``uns`` of the cells; of each modality that the model reads from ``X`` or a layer, ``X``, layers and
    ``var`` are of the model's features alone.

    Raises
    ------
    TypeError
        If ``mdata`` is no MuData.
    ValueError
        If it has no modality of the model, or none of the features of one.
    """
    reference = _open(cls, reference_model)
    names = {name: pd.Index(features) for name, features in reference.get_var_names().items()}
    if return_reference_var_names:
        return names
    there = _find_roles(reference, mdata)
    parts = dict(mdata.mod)
    for role in there:
        source, state = read_input(reference.registry_, role)
        if source.attribute != "obsm":
            check_features(mdata, source, state.get("excluded", ()), find_features_in_use(reference, role))
            parts[source.modality] = _align(mdata.mod[source.modality], names[source.modality])
    return with_modalities(
        mdata, {name: part.copy() if part is mdata.mod[name] else part for name, part in parts.items()}
    )


def _align(adata: AnnData, names: pd.Index) -> AnnData:
    """Return cells with other features: those of these names, in their order."""
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
    """Return a model for cells of batches that the reference does not know.

    What such a batch adds to the features of its cells is estimated in closed form, by comparing them with the kinds of cells that the
    reference was trained on (:func:`~indiseek_sc.data.fit_added_offset`), and is taken out of them. Nothing is trained, and nothing else changes:
    representations of the reference's cells are the same to the bit. Decoders have learnt nothing of such a batch, and take its cells for those of no certain
    one, as the joint representation does.

    Parameters
    ----------
    mdata
        Cells with one modality of the model or both, and the column of batches that the reference was set up with. Needs no set-up.
    reference_model
        The trained model, which stays as it is, or the folder of a saved one.
    max_missing
        As in :meth:`get_latent_representation`.
    accelerator, device, independence
        As in :meth:`load`, for a saved model; otherwise those of ``reference_model``.

    Returns
    -------
    A trained model that knows the batches of both and has ``mdata`` for its data; it can be saved.

    Raises
    ------
    TypeError
        If ``mdata`` is no MuData.
    ValueError
        If it is a view, has no modality of the model, or features, values or batches that cannot be read.
    RuntimeError
        If the reference is not trained.

    Examples
    --------
    >>> query_model = IndiSeek.load_query_data(query, "model")
    >>> query_model.write_latents()
    """
    reference = _open(cls, reference_model, accelerator=accelerator, device=device, independence=independence)
    require(reference, "shared")
    there = _find_roles(reference, mdata)
    if is_view(mdata):
        raise ValueError("mdata: it is a view of other data. Make it an object of its own: mdata = mdata.copy()")
    covariates = find_covariates(reference.registry_)
    known = () if covariates.batch is None else covariates.levels[covariates.batch]
    added: list[str] = []
    if covariates.batch is None:
        logger.info("The reference was set up without batch_key, so nothing that batches add is taken out.")
    else:
        batches = read_levels(mdata, covariates.batch)
        added = [name for name in batches.cat.categories if name not in set(known)]
    model = _extend(reference, added)
    mdata = model._validate_anndata(mdata, roles=there, max_missing=max_missing)
    for column, name in enumerate(added, start=reference.module.design.n_columns):
        _estimate_offset(model, mdata, there, column, name)
    model._adata, model._adata_manager = mdata, model.get_anndata_manager(mdata, required=True)
    return model


def _open(cls: type[IndiSeek], reference_model: Any, **kwargs: Any) -> IndiSeek:
    if isinstance(reference_model, (str, os.PathLike)):
        return cls.load(reference_model, adata=False, **kwargs)
    if not hasattr(reference_model, "get_var_names"):
        raise TypeError(f"reference_model must be a model or the folder of a saved one, but is {reference_model!r}.")
    return reference_model


def _find_roles(reference: IndiSeek, mdata: MuData) -> tuple[Role, ...]:
    """Return the modalities of the model that data have."""
    check_mdata(mdata)
    there = tuple(role for role, name in reference.modalities.items() if name in mdata.mod)
    if not there:
        first, *_ = reference.modalities.values()
        raise ValueError(
            f"mdata: it has no modality of the model ({listing(reference.modalities.values())}). {choices(first, list(mdata.mod))}"
        )
    return there


def _extend(reference: IndiSeek, added: Sequence[str]) -> IndiSeek:
    """Return a copy of a model, without data, that knows more batches."""
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
    """Set what one batch adds; by cells with all modalities, or by those that there are of each."""
    module = model.module
    if not module.architecture.batch_offsets:
        logger.info(
            f"batch_key: the reference takes nothing out of batches (batch_offsets=False), so {name!r} keeps what it adds."
        )
        return
    if any(module.covariate_offsets[role].states.isinf().all() for role in roles):
        raise ValueError("reference_model: it was trained by a version that kept no kinds of cells. Train it again.")
    is_of = (get_design(model, mdata, np.arange(mdata.n_obs))[:, column] > 0).cpu().numpy()
    together = [roles] if (is_of & find_cells(model, mdata, roles)).any() else [(role,) for role in roles]
    n_cells = 0
    for some in together:
        rows = np.flatnonzero(is_of & find_cells(model, mdata, some))
        if not rows.size:
            continue
        n_cells += rows.size
        rows = some_rows(torch.from_numpy(rows)).numpy()
        features = [read_features(model, mdata, role, rows).cpu().numpy() for role in some]
        states = [module.covariate_offsets[role].states.cpu().numpy() for role in some]
        is_kept = np.isfinite(states[0]).all(axis=1)
        found = fit_added_offset(features, [of_role[is_kept] for of_role in states])
        for role, offset in zip(some, found, strict=True):
            if (
                module.transforms[role].components is None
                and (missing := find_missing(get_matrix(model, mdata, role))) is not None
            ):
                offset[missing[module.transforms[role].features.cpu().numpy()]] = 0.0
            module.covariate_offsets[role].overall[column] = torch.from_numpy(offset)
    logger.info(f"batch_key: the reference does not know {name!r}; what it adds is estimated by {n_cells:,} cells.")
