"""Where the values of a modality lie in a MuData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from indiseek_sc._keys import ROLES, Role
from indiseek_sc.data._text import choices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

MODALITY_ARGUMENT: dict[Role, str] = {"rna": "rna_layer", "adt": "adt_layer"}
"""The keys of ``modalities``: scvi-tools maps the arguments of the set-up, not roles, to modality names."""

DEFAULT_MODALITIES: dict[str, str] = {MODALITY_ARGUMENT[role]: role for role in ROLES}
"""The names that modalities have when the user says nothing."""

FEATURES: dict[Role, str] = {"rna": "genes", "adt": "proteins"}
"""What the features of a role are called in messages."""


@dataclass(frozen=True)
class InputSource:
    """The place of one modality's values.

    Parameters
    ----------
    role
        The part that the modality plays.
    modality
        The user's name of it.
    attribute
        Where the values are.
    key
        Name of the layer or of the ``obsm`` entry.
    is_top_level
        Whether ``obsm`` is that of the MuData itself.
    """

    role: Role
    modality: str
    attribute: Literal["X", "layers", "obsm"]
    key: str | None = None
    is_top_level: bool = False

    def __str__(self) -> str:
        holder = "mdata" if self.is_top_level else f"mdata[{self.modality!r}]"
        return f"{holder}.{self.attribute}" + ("" if self.key is None else f"[{self.key!r}]")

    @property
    def feature_word(self) -> str:
        """What the columns are called in messages."""
        return "dimensions" if self.attribute == "obsm" else FEATURES[self.role]

    def get_values(self, mdata: MuData) -> Any:
        """Return the values, shape ``(n_cells, n_features)``, as they are stored."""
        holder = getattr(mdata if self.is_top_level else mdata.mod[self.modality], self.attribute)
        return holder if self.key is None else holder[self.key]

    def get_cell_names(self, mdata: MuData) -> pd.Index:
        """Return the names of the rows, shape ``(n_cells,)``: those of the modality, which may be fewer than those of ``mdata``."""
        return mdata.obs_names if self.is_top_level else mdata.mod[self.modality].obs_names

    def get_feature_names(self, mdata: MuData) -> np.ndarray:
        """Return the names of the columns, shape ``(n_features,)``; numbers as text where an array has no names."""
        if self.attribute != "obsm":
            return mdata.mod[self.modality].var_names.to_numpy().astype(str)
        values = self.get_values(mdata)
        names = values.columns if isinstance(values, pd.DataFrame) else range(values.shape[1])
        return np.array([str(name) for name in names])


def complete_modalities(modalities: Mapping[str, str] | None) -> dict[str, str]:
    """Fill in the default modality names.

    Raises
    ------
    ValueError
        If a key is no argument of the set-up, or both roles are given to one modality.
    """
    completed = {**DEFAULT_MODALITIES, **(modalities or {})}
    allowed = [*DEFAULT_MODALITIES, "batch_key"]
    if unknown := [key for key in completed if key not in allowed]:
        raise ValueError(
            f"modalities: unknown key {unknown[0]!r}. It maps arguments of the set-up to modality names, such as "
            f"{DEFAULT_MODALITIES}. {choices(unknown[0], allowed)}"
        )
    if completed["rna_layer"] == completed["adt_layer"]:
        raise ValueError(
            f"modalities: {completed['rna_layer']!r} is given as both RNA ('rna_layer') and ADT ('adt_layer'). "
            "Name two different modalities."
        )
    return completed


def locate_source(mdata: MuData, role: Role, modality: str, layer: str | None, obsm_key: str | None) -> InputSource:
    """Find the values that the user named.

    Parameters
    ----------
    mdata
        The data, known to hold ``modality``.
    role
        The part that the modality plays; names the arguments in errors.
    modality
        Its name.
    layer
        Layer of the modality.
    obsm_key
        Entry of the modality's ``obsm``, or of the MuData's if the modality has none of that name.

    Raises
    ------
    ValueError
        If both a layer and an ``obsm`` entry are given, or what is given does not exist.
    """
    adata = mdata.mod[modality]
    layers = [name for name in adata.layers if name is not None]  # anndata 0.13 lists X there, under None
    if obsm_key is not None:
        if layer is not None:
            raise ValueError(f"{role}_layer and {role}_obsm_key are both given. Give the one that holds the values.")
        return _locate_representation(mdata, role, modality, obsm_key)
    if layer is not None:
        if layer not in layers:
            raise ValueError(f"{role}_layer={layer!r}: mdata[{modality!r}] has no such layer. {choices(layer, layers)}")
        return InputSource(role, modality, "layers", layer)
    if adata.X is None:
        raise ValueError(
            f"{role}_layer: mdata[{modality!r}].X is empty. Name a layer, or an obsm entry by {role}_obsm_key. "
            f"Layers: {layers}; obsm: {list(adata.obsm)}."
        )
    return InputSource(role, modality, "X")


def relocate_source(mdata: MuData, source: InputSource) -> InputSource:
    """Check that a MuData has values in the place where another one had them.

    Raises
    ------
    ValueError
        If it has not.
    """
    is_obsm = source.attribute == "obsm"
    layer, obsm_key = (None, source.key) if is_obsm else (source.key, None)
    found = locate_source(mdata, source.role, source.modality, layer, obsm_key)
    if found != source:
        raise ValueError(
            f"{source.role}_obsm_key={source.key!r}: it must be in {source}, as when the model was set up, "
            f"but is in {found}."
        )
    return found


def _locate_representation(mdata: MuData, role: Role, modality: str, key: str) -> InputSource:
    if key in mdata.mod[modality].obsm:
        return InputSource(role, modality, "obsm", key)
    # MuData keeps, under the name of each modality, a mask of the cells that the modality has.
    top_level = [name for name in mdata.obsm if name not in mdata.mod]
    if key in top_level:
        return InputSource(role, modality, "obsm", key, is_top_level=True)
    existing = sorted({*mdata.mod[modality].obsm, *top_level})
    raise ValueError(
        f"{role}_obsm_key={key!r}: neither mdata[{modality!r}].obsm nor mdata.obsm has such an entry. "
        f"{choices(key, existing)}"
    )
