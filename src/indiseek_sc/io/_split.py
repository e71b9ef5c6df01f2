"""From one AnnData with both genes and antibodies to a MuData."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from indiseek_sc._keys import ROLES
from indiseek_sc._recognise import are_peaks, is_named_after_chromatin, role_of
from indiseek_sc._text import choices, listing

if TYPE_CHECKING:
    from indiseek_sc._keys import Role

PROTEINS = "protein_expression"
"""``obsm``: where scvi-tools and others keep proteins in an AnnData, with names in ``uns["protein_names"]`` if need be."""

NAME_IN_FILE = "name_in_file"
"""``var``: names before they were made unique."""

_OTHER_TYPES = {"peaks": "atac", "multiplexingcapture": "hto", "crisprguidecapture": "crispr"}


def split_anndata(adata: AnnData, *, rna: str | None = None, adt: str | None = None) -> MuData:
    """Make a MuData with ``"rna"`` and ``"adt"`` of an AnnData that holds both.

    Proteins are the features that ``var["feature_types"]`` says, or else the entry of ``obsm`` that is named after
    proteins. Features of other types become modalities of their own, such as ``"atac"`` and ``"hto"``.

    Parameters
    ----------
    adata
        Cells with genes and proteins, shape ``(n_cells, n_features)``; it is not changed.
    rna
        Type of the features that are RNA; found if not given.
    adt
        Entry of ``obsm``, or type of the features, that are proteins; found if not given.

    Raises
    ------
    ValueError
        If proteins or RNA are not found, or several could be meant; the message lists what there is.
    """
    types = _find_types(adata)
    kinds = list(dict.fromkeys(types))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*names are not unique"
        )  # of one modality: told below; of two: as it should be
        warnings.filterwarnings("ignore", message="Cannot join columns")
        warnings.filterwarnings("ignore", category=FutureWarning)
        if adt in adata.obsm or (adt is None and not any(role_of(kind) == "adt" for kind in kinds)):
            parts = _split_obsm(adata, _choose_entry(adata, kinds) if adt is None else adt)
        else:
            parts = _split_types(adata, types, kinds, {"rna": rna, "adt": adt})
        for name, part in parts.items():
            _make_unique(part, name)
        return MuData(parts)


def _find_types(adata: AnnData) -> np.ndarray:
    """Return the type of each feature, shape ``(n_features,)``; empty text where nothing is said."""
    column = next((name for name in ("feature_types", "feature_type") if name in adata.var), None)
    return np.full(adata.n_vars, "") if column is None else adata.var[column].astype(str).to_numpy()


def _choose_entry(adata: AnnData, kinds: list[str]) -> str:
    """Return the one entry of ``obsm`` that holds proteins, by its name."""
    embedding = re.compile(r"pca|umap|tsne|lsi|wnn|scvi|harmony|draw_graph|^x_indiseek")

    def is_of_proteins(name: str) -> bool:
        words = re.split(r"[^a-z]+", name.lower())
        return not embedding.search(name.lower()) and any(role_of(word) == "adt" for word in words)

    candidates = [name for name in adata.obsm if is_of_proteins(name)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ValueError(f"several entries of obsm could be the proteins: {listing(candidates)}. Say which: adt='NAME'")
    named = [kind for kind in kinds if kind]
    here = f"types of features: {listing(named) or 'none'}; obsm: {listing(adata.obsm) or 'none'}"
    held = "it holds accessible chromatin beside RNA, but " if any(map(is_named_after_chromatin, kinds)) else ""
    if are_peaks(adata.var_names):
        held = "its features are accessible chromatin, and "
    raise ValueError(
        f"{held}no proteins were found ({here}). CITE-seq data need antibodies: features of type 'Antibody Capture', "
        f"or an entry of obsm, "
        "which adt='NAME' names. Two AnnData objects are put together by mudata.MuData({'rna': rna, 'adt': adt})."
    )


def _split_obsm(adata: AnnData, key: str) -> dict[str, AnnData]:
    values = adata.obsm[key]
    if isinstance(values, pd.DataFrame):
        names, values = [str(name) for name in values.columns], values.to_numpy()
    else:
        names = _names_of_columns(adata, key, values)
    rna = adata.copy()
    del rna.obsm[key]
    proteins = AnnData(values, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=names))
    return {"rna": rna, "adt": proteins}


def _names_of_columns(adata: AnnData, key: str, values: Any) -> list[str]:
    for place in (f"{key}_names", "protein_names"):
        if place in adata.uns and np.size(adata.uns[place]) == values.shape[1]:
            return [str(name) for name in np.ravel(adata.uns[place])]
    warnings.warn(
        f"obsm[{key!r}] has no names of proteins, so they are called protein_0, protein_1 and so on. Put the names "
        f"into "
        f"uns['protein_names'], or make the entry a DataFrame.",
        stacklevel=5,
    )
    return [f"protein_{number}" for number in range(values.shape[1])]


def _split_types(
    adata: AnnData, types: np.ndarray, kinds: list[str], given: dict[Role, str | None]
) -> dict[str, AnnData]:
    chosen: dict[str, str] = {}
    for role in sorted(ROLES, key=lambda role: given[role] is None):  # what the user named comes first
        wanted = given[role]
        found = [kind for kind in kinds if (role_of(kind) == role if wanted is None else kind == wanted)]
        if len(found) != 1:
            if wanted is not None:
                existing = [kind for kind in [*kinds, *(adata.obsm if role == "adt" else [])] if kind]
                raise ValueError(
                    f"{role}={wanted!r} is no type of features{' and no entry of obsm' if role == 'adt' else ''}. "
                    f"{choices(wanted, existing)}"
                )
            word = "several types" if found else "no type"
            raise ValueError(f"{word} of features could be {role}: {listing(found or kinds)}. Say which: {role}='TYPE'")
        chosen[found[0]] = role
    parts = {}
    for kind in kinds:
        plain = re.sub(r"[^a-z0-9]", "", kind.lower())
        name = chosen.get(kind) or _OTHER_TYPES.get(plain) or re.sub(r"\W+", "_", kind.lower()) or "other"
        parts[name] = adata[:, types == kind].copy()
        if chosen.get(kind) != "rna":  # what was said of cells, and made of all features, is said once
            parts[name] = AnnData(
                parts[name].X, obs=parts[name].obs[[]], var=parts[name].var, layers=dict(parts[name].layers)
            )
    return {name: parts[name] for name in sorted(parts, key=lambda name: [*ROLES, name].index(name))}


def _make_unique(part: AnnData, modality: str) -> None:
    """Make names of features unique, keep what they were, and say so."""
    names = part.var_names
    if names.is_unique:
        return
    repeated = names[names.duplicated()].unique()
    part.var[NAME_IN_FILE] = names.to_numpy()
    part.var_names_make_unique()
    warnings.warn(
        f"{modality}: {repeated.size:,} names occur more than once, such as {listing(repeated)}; '-1' and so on were "
        f"appended, and "
        f"var[{NAME_IN_FILE!r}] keeps the names of the file.",
        stacklevel=4,
    )
