"""Conversion of an AnnData with genes and antibodies to a MuData."""

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
"""Entry of ``obsm`` with proteins in scvi-tools and other packages.

Names of proteins that are not in a DataFrame are read from ``uns["protein_names"]``.
"""

NAME_IN_FILE = "name_in_file"
"""Column of ``var`` with the names before they were made unique."""

_OTHER_TYPES = {"peaks": "atac", "multiplexingcapture": "hto", "crisprguidecapture": "crispr"}
"""Names of modalities for feature types other than RNA and proteins."""


def split_anndata(adata: AnnData, *, rna: str | None = None, adt: str | None = None) -> MuData:
    """Split an AnnData with genes and proteins into a MuData with ``"rna"`` and ``"adt"``.

    Proteins are the features marked in ``var["feature_types"]``, or else the entry of ``obsm``
    whose name indicates proteins. Features of other types become separate modalities, such as
    ``"atac"`` and ``"hto"``.

    Parameters
    ----------
    adata
        Cells with genes and proteins, shape ``(n_cells, n_features)``; it is not changed.
    rna
        Feature type of RNA; recognised by its name if None.
    adt
        Entry of ``obsm``, or feature type, of proteins; recognised by its name if None.

    Raises
    ------
    ValueError
        If proteins or RNA are not found or are ambiguous; the message lists the candidates.

    Examples
    --------
    >>> adata = mdata["rna"].copy()
    >>> adata.obsm["protein_expression"] = mdata["adt"].to_df()
    >>> list(isk.io.split_anndata(adata).mod)
    ['rna', 'adt']
    """
    types = _find_types(adata)
    kinds = list(dict.fromkeys(types))
    with warnings.catch_warnings():
        # Repeated names within a modality are reported below; across modalities they are valid.
        warnings.filterwarnings("ignore", message=".*names are not unique")
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
    """Return the type of each feature, shape ``(n_features,)``; empty text if not recorded."""
    column = next((name for name in ("feature_types", "feature_type") if name in adata.var), None)
    return np.full(adata.n_vars, "") if column is None else adata.var[column].astype(str).to_numpy()


def _choose_entry(adata: AnnData, kinds: list[str]) -> str:
    """Return the name of the only entry of ``obsm`` that contains proteins."""
    embedding = re.compile(r"pca|umap|tsne|lsi|wnn|scvi|harmony|draw_graph|^x_indiseek")

    def is_of_proteins(name: str) -> bool:
        words = re.split(r"[^a-z]+", name.lower())
        return not embedding.search(name.lower()) and any(role_of(word) == "adt" for word in words)

    candidates = [name for name in adata.obsm if is_of_proteins(name)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ValueError(
            f"several entries of obsm could contain the proteins: {listing(candidates)}. Name one: adt='NAME'"
        )
    named = [kind for kind in kinds if kind]
    here = f"feature types: {listing(named) or 'none'}; obsm: {listing(adata.obsm) or 'none'}"
    prefix = "it contains accessible chromatin and RNA, but " if any(map(is_named_after_chromatin, kinds)) else ""
    if are_peaks(adata.var_names):
        prefix = "its features are accessible chromatin, and "
    raise ValueError(
        f"{prefix}no proteins were found ({here}). CITE-seq data need antibodies: features of type 'Antibody Capture', "
        f"or an entry of obsm "
        "named by adt='NAME'. Combine two AnnData objects with mudata.MuData({'rna': rna, 'adt': adt})."
    )


def _split_obsm(adata: AnnData, key: str) -> dict[str, AnnData]:
    """Split off the proteins in an entry of ``obsm``."""
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
    """Return names of proteins recorded in ``uns``, or else numbered names with a warning."""
    for place in (f"{key}_names", "protein_names"):
        if place in adata.uns and np.size(adata.uns[place]) == values.shape[1]:
            return [str(name) for name in np.ravel(adata.uns[place])]
    warnings.warn(
        f"obsm[{key!r}] has no names of proteins, so they are called protein_0, protein_1 and so on. Store the names "
        f"in uns['protein_names'], or use a DataFrame.",
        stacklevel=5,
    )
    return [f"protein_{number}" for number in range(values.shape[1])]


def _split_types(
    adata: AnnData, types: np.ndarray, kinds: list[str], given: dict[Role, str | None]
) -> dict[str, AnnData]:
    """Split features by their type."""
    chosen: dict[str, str] = {}
    # Types named by the user take precedence.
    for role in sorted(ROLES, key=lambda role: given[role] is None):
        wanted = given[role]
        found = [kind for kind in kinds if (role_of(kind) == role if wanted is None else kind == wanted)]
        if len(found) != 1:
            if wanted is not None:
                existing = [kind for kind in [*kinds, *(adata.obsm if role == "adt" else [])] if kind]
                raise ValueError(
                    f"{role}={wanted!r} is not a feature type{' or an entry of obsm' if role == 'adt' else ''}. "
                    f"{choices(wanted, existing)}"
                )
            count = "several feature types" if found else "no feature type"
            raise ValueError(f"{count} could be {role}: {listing(found or kinds)}. Name one: {role}='TYPE'")
        chosen[found[0]] = role
    parts = {}
    for kind in kinds:
        plain = re.sub(r"[^a-z0-9]", "", kind.lower())
        name = chosen.get(kind) or _OTHER_TYPES.get(plain) or re.sub(r"\W+", "_", kind.lower()) or "other"
        parts[name] = adata[:, types == kind].copy()
        if chosen.get(kind) != "rna":  # annotations of cells are kept in the RNA modality only
            parts[name] = AnnData(
                parts[name].X, obs=parts[name].obs[[]], var=parts[name].var, layers=dict(parts[name].layers)
            )
    return {name: parts[name] for name in sorted(parts, key=lambda name: [*ROLES, name].index(name))}


def _make_unique(part: AnnData, modality: str) -> None:
    """Make names of features unique with a warning, and keep the original names."""
    names = part.var_names
    if names.is_unique:
        return
    repeated = names[names.duplicated()].unique()
    part.var[NAME_IN_FILE] = names.to_numpy()
    part.var_names_make_unique()
    warnings.warn(
        f"{modality}: {repeated.size:,} names occur more than once, such as {listing(repeated)}; '-1' and so on were "
        f"appended, and var[{NAME_IN_FILE!r}] keeps the names of the file.",
        stacklevel=4,
    )
