"""Checks of a MuData as a whole: the modalities, their cells, their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mudata import MuData

from indiseek_sc import _keys
from indiseek_sc._keys import ROLES, Role
from indiseek_sc.data._source import FEATURES, MODALITY_ARGUMENT, InputSource
from indiseek_sc.data._text import N_SHOWN, choices, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

LARGEST_PANEL = 500
"""More features than this are not taken for a panel of antibodies."""


def check_structure(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    """Refuse a MuData whose two modalities do not hold the same cells in the same order.

    Parameters
    ----------
    mdata
        The data.
    modalities
        The name of the modality that plays each role.

    Raises
    ------
    TypeError
        If it is no MuData.
    ValueError
        If a modality is missing, an object is a view, names occur twice, cells lack a modality or lie in another order,
        or a modality has the name of an ``obsm`` entry that the model writes.
    """
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"mdata must be a MuData, but is {type(mdata).__name__}. "
            "Put two AnnData objects together by mudata.MuData({'rna': rna, 'adt': adt})."
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
        adata = mdata.mod[modality]
        _check_unique(adata.obs_names, modality, "cells", "obs_names", "mdata")
        _check_unique(adata.var_names, modality, FEATURES[role], "var_names", f"mdata[{modality!r}]")
    _check_paired(mdata, modalities)


def _check_is_actual(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    views = [f"mdata[{modality!r}]" for modality in modalities.values() if mdata.mod[modality].is_view]
    if mdata.is_view or views:
        what = "mdata" if mdata.is_view else " and ".join(views)
        raise ValueError(f"mdata: {what} is a view of other data. Make it an object of its own: mdata = mdata.copy()")


def _check_written_keys(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    """MuData keeps under ``obsm[modality]`` which cells it has; writing codes there would break the pairing."""
    for key in get_written_keys(modalities):
        if key in mdata.mod:
            raise ValueError(
                f"mdata: the modality {key!r} has the name of an obsm entry that the model writes. Rename it: "
                f"mdata = mudata.MuData({{'NEW' if name == {key!r} else name: mod for name, mod in mdata.mod.items()}})"
            )


def get_written_keys(modalities: Mapping[Role, str]) -> list[str]:
    """Return the ``obsm`` entries that a model of these modalities writes."""
    return [
        _keys.JOINT,
        *(name(modality) for modality in modalities.values() for name in (_keys.shared, _keys.specific)),
    ]


def _check_unique(names: pd.Index, modality: str, word: str, attribute: str, holder: str) -> None:
    if names.is_unique:
        return
    repeated = names[names.duplicated()].unique()
    remedy = (
        f"{holder}.var_names_make_unique(); mdata.update()"
        if attribute == "var_names"
        else "name them apart in every modality, for instance by their batch, and build the MuData again"
    )
    raise ValueError(
        f"mdata[{modality!r}].{attribute}: {repeated.size:,} names of {word} occur more than once: "
        f"{listing(repeated)}. Remedy: {remedy}"
    )


def _check_paired(mdata: MuData, modalities: Mapping[Role, str]) -> None:
    rna, adt = (modalities[role] for role in ROLES)
    names = {modality: mdata.mod[modality].obs_names for modality in (rna, adt)}
    lone = {modality: mdata.obs_names.difference(names[modality], sort=False) for modality in (rna, adt)}
    if lone[rna].size or lone[adt].size:
        gaps = [f"{cells.size:,} lack {modality!r}: {listing(cells)}" for modality, cells in lone.items() if cells.size]
        raise ValueError(
            f"mdata: not every cell has both modalities; {'; '.join(gaps)}. "
            "Cells with one modality are not supported yet. Keep those with both: "
            f"mdata = mdata[mdata[{rna!r}].obs_names.intersection(mdata[{adt!r}].obs_names)].copy()"
        )
    for modality in (rna, adt):
        if mdata.obs_names.equals(names[modality]):
            continue
        if mdata.n_obs != names[modality].size:
            raise ValueError(
                f"mdata: mdata[{modality!r}] has {names[modality].size:,} cells, but mdata was last updated with "
                f"{mdata.n_obs:,}. Remedy: mdata.update()"
            )
        moved = np.flatnonzero(mdata.obs_names != names[modality])
        pairs = [f"row {i}: {mdata.obs_names[i]!r} against {names[modality][i]!r}" for i in moved[:N_SHOWN]]
        raise ValueError(
            f"mdata[{modality!r}].obs_names: {moved.size:,} cells lie in another order than in mdata.obs_names "
            f"({'; '.join(pairs)}), so rows would be paired wrongly. Remedy: mdata = mdata[mdata.obs_names].copy()"
        )


def check_not_swapped(mdata: MuData, sources: Mapping[Role, InputSource]) -> None:
    """Refuse a small RNA modality beside a larger ADT modality: most likely each was given as the other.

    Raises
    ------
    ValueError
        If there are fewer genes than proteins, and few enough to be a panel of antibodies.
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
    """Refuse to read from an ``obsm`` entry that the model writes.

    Raises
    ------
    ValueError
        If an input is one of the entries that a model writes.
    """
    written = get_written_keys({role: source.modality for role, source in sources.items()})
    for role, source in sources.items():
        if source.is_top_level and source.key in written:
            raise ValueError(
                f"{role}_obsm_key={source.key!r}: the model writes this obsm entry, so its input would be overwritten. "
                f"Copy it under another name: mdata.obsm['my_codes'] = mdata.obsm[{source.key!r}].copy()"
            )
