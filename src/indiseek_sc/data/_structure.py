"""Checks of the structure of a MuData: names, order and pairing of cells; modality sizes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from mudata import MuData

from indiseek_sc import _keys
from indiseek_sc._keys import ROLES, Role
from indiseek_sc._text import N_SHOWN, choices, listing
from indiseek_sc.data._source import FEATURES, MODALITY_ARGUMENT, InputSource

logger = logging.getLogger("scvi.indiseek_sc")

LARGEST_PANEL = 500
"""Largest number of features of an antibody panel."""


def check_structure(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    """Check names of cells and features, and the pairing of cells between modalities.

    Parameters
    ----------
    mdata
        The data.
    modalities
        Names of modalities, by role.

    Raises
    ------
    TypeError
        If ``mdata`` is not a MuData.
    ValueError
        If a modality is missing, an object is a view, names are not unique, the order of cells
        differs between modalities with all cells, or a modality has the name of an ``obsm`` entry
        that the model writes.
    """
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"mdata must be a MuData, but is {type(mdata).__name__}. "
            "Combine two AnnData objects by mudata.MuData({'rna': rna, 'adt': adt}); divide one that has both modalities "
            "by indiseek_sc.io.split_anndata(adata)."
        )
    if mdata.axis != 0:
        raise ValueError("mdata: its modalities share features (axis=1). Build it with mudata.MuData(..., axis=0).")
    for role, modality in modalities.items():
        if modality not in mdata.mod:
            existing = choices(modality, list(mdata.mod))
            raise ValueError(f"modalities[{MODALITY_ARGUMENT[role]!r}]: no modality {modality!r} in mdata. {existing}")
    _check_is_actual(mdata, modalities)
    _check_written_keys(mdata, modalities)
    for role, modality in modalities.items():
        check_names(mdata, modality, FEATURES[role])
    for other in mdata.mod.keys() - set(modalities.values()):  # repeated cells would be rows of mdata
        remedy = f"remove it: del mdata.mod[{other!r}]"
        _check_unique(mdata.mod[other].obs_names, other, "cells", "obs_names", remedy)
    _bring_up_to_date(mdata)
    if all(mdata.mod[modality].n_obs == mdata.n_obs for modality in modalities.values()):
        _check_order(mdata, modalities.values())


def _check_is_actual(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    views = [f"mdata[{modality!r}]" for modality in modalities.values() if mdata.mod[modality].is_view]
    if mdata.is_view or views:
        what = "mdata" if mdata.is_view else " and ".join(views)
        raise ValueError(f"mdata: {what} is a view of other data. Copy it: mdata = mdata.copy()")


def _check_written_keys(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    """Check that no representation would overwrite a mask of cells in ``obsm[modality]``."""
    for key in get_written_keys(modalities):
        if key in mdata.mod:
            raise ValueError(
                f"mdata: the modality {key!r} has the name of an obsm entry that the model writes. Rename it: "
                f"mdata = mudata.MuData({{'NEW' if name == {key!r} else name: mod for name, mod in mdata.mod.items()}})"
            )


def get_written_keys(modalities: Mapping[Role, str]) -> list[str]:
    """Return the keys of ``obsm`` entries that a model writes."""
    return [
        _keys.JOINT,
        *(name(modality) for modality in modalities.values() for name in (_keys.shared, _keys.specific)),
    ]


def check_names(mdata: MuData, modality: str, word: str) -> None:
    """Check that names of cells and features of a modality are unique."""
    adata = mdata.mod[modality]
    remedy = "make them unique in every modality, for instance by their batch, and build the MuData again"
    _check_unique(adata.obs_names, modality, "cells", "obs_names", remedy)
    remedy = f"mdata[{modality!r}].var_names_make_unique(); mdata.update()"
    _check_unique(adata.var_names, modality, word, "var_names", remedy)


def _check_unique(names: pd.Index, modality: str, word: str, attribute: str, remedy: str) -> None:
    if names.is_unique:
        return
    repeated = names[names.duplicated()].unique()
    raise ValueError(
        f"mdata[{modality!r}].{attribute}: {repeated.size:,} names of {word} occur more than once: "
        f"{listing(repeated)}. Remedy: {remedy}"
    )


def _bring_up_to_date(mdata: MuData) -> None:
    """Update a MuData if a modality was filtered or removed without a call of ``update``.

    An outdated MuData cannot be subset. The update is made only if it keeps all cells.

    Raises
    ------
    ValueError
        If the update would change the cells.
    """
    stale = [name for name, adata in mdata.mod.items() if not _is_current(adata.obs_names, mdata, name)]
    if not stale and mdata.obs_names.is_unique:
        return
    if not set().union(*(adata.obs_names for adata in mdata.mod.values())) == set(mdata.obs_names):
        name = next(iter(stale), next(iter(mdata.mod)))
        n_cells = mdata.mod[name].n_obs
        what = f"has {n_cells:,} cells" if n_cells != mdata.n_obs else "has other cell names"
        raise ValueError(
            f"mdata: mdata[{name!r}] {what}, but mdata was last updated with {mdata.n_obs:,} cells of other names. "
            "Remedy: mdata.update()"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about columns that MuData will no longer copy
        mdata.update()
    logger.info("mdata was updated, since cells or modalities had been removed.")


def _is_current(names: pd.Index, mdata: MuData, modality: str) -> bool:
    """Return whether the cell mapping of a MuData is up to date for a modality."""
    place = (
        np.asarray(mdata.obsmap[modality]).ravel().astype(np.int64)
    )  # starts at 1; 0 for cells that the modality lacks
    has = place > 0
    return int(has.sum()) == names.size and bool((names[place[has] - 1] == mdata.obs_names[has]).all())


def _check_order(mdata: MuData, modalities: Iterable[str]) -> None:
    """Check the order of cells, since other software pairs cells of modalities by rows."""
    for modality in modalities:
        names = mdata.mod[modality].obs_names
        if mdata.obs_names.equals(names):
            continue
        moved = np.flatnonzero(mdata.obs_names != names)
        pairs = [f"row {i}: {mdata.obs_names[i]!r} against {names[i]!r}" for i in moved[:N_SHOWN]]
        raise ValueError(
            f"mdata[{modality!r}].obs_names: {moved.size:,} cells are in another order than in mdata.obs_names "
            f"({'; '.join(pairs)}), so rows would be paired wrongly. Remedy: mdata = mdata[mdata.obs_names].copy()"
        )


def check_paired(mdata: MuData, modalities: Mapping[Role, str]) -> str:
    """Check that some cells have all modalities, and describe cells that lack one.

    Returns
    -------
    A sentence; empty if no cell lacks a modality.

    Raises
    ------
    ValueError
        If no cell has all modalities.
    """
    has = {name: mdata.obs_names.isin(mdata.mod[name].obs_names) for name in modalities.values()}
    n_paired = int(np.logical_and.reduce(list(has.values())).sum())
    if not n_paired:
        if empty := [name for name, of in has.items() if not of.any()]:
            raise ValueError(f"mdata[{empty[0]!r}] has no cells. The model needs cells with both modalities.")
        calls = "; ".join(f"in mdata[{name!r}] {listing(mdata.mod[name].obs_names[:2])}" for name in has)
        raise ValueError(
            f"mdata: no cell has both modalities. Cells are matched by name, and names are {calls}: "
            "use the same name for a cell in both, and build the MuData again."
        )
    gaps = [
        f"{(~of).sum():,} lack {name!r}: {listing(mdata.obs_names[~of])}" for name, of in has.items() if not of.all()
    ]
    return f"{'; '.join(gaps)}. The model is trained on the {n_paired:,} cells with both." if gaps else ""


def check_not_swapped(mdata: MuData, sources: Mapping[Role, InputSource]) -> None:
    """Check that RNA is not smaller than ADT, which suggests swapped modalities.

    Raises
    ------
    ValueError
        If there are fewer genes than proteins, and few enough for an antibody panel.
    """
    if any(source.attribute == "obsm" for source in sources.values()):
        return
    rna, adt = (sources[role].modality for role in ROLES)
    n_genes, n_proteins = mdata.mod[rna].n_vars, mdata.mod[adt].n_vars
    if n_genes < n_proteins and n_genes <= LARGEST_PANEL:
        raise ValueError(
            f"modalities: {rna!r}, given as RNA, has {n_genes:,} features and {adt!r}, given as ADT, has "
            f"{n_proteins:,}, so they seem swapped. If so: modalities={{'rna_layer': {adt!r}, 'adt_layer': {rna!r}}}; "
            "if not: check_sizes=False"
        )


def check_not_overwritten(sources: Mapping[Role, InputSource]) -> None:
    """Check that no input is an ``obsm`` entry that the model writes.

    Raises
    ------
    ValueError
        If an input is such an entry.
    """
    written = get_written_keys({role: source.modality for role, source in sources.items()})
    for role, source in sources.items():
        if source.is_top_level and source.key in written:
            raise ValueError(
                f"{role}_obsm_key={source.key!r}: the model writes this obsm entry, so its input would be overwritten. "
                f"Copy it under another name: mdata.obsm['my_latents'] = mdata.obsm[{source.key!r}].copy()"
            )
