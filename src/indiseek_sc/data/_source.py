"""Location of the values of each modality in a MuData."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from mudata import MuData

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._keys import ROLES, Role
from indiseek_sc._recognise import find_modalities, is_named_after_chromatin
from indiseek_sc._text import choices
from indiseek_sc.data._matrix import MatchedMatrix

MODALITY_ARGUMENT: dict[Role, str] = {"rna": "rna_layer", "adt": "adt_layer"}
"""Keys of ``modalities``; as in scvi-tools, arguments of the set-up are mapped to modalities."""

DEFAULT_MODALITIES: dict[str, str] = {MODALITY_ARGUMENT[role]: role for role in ROLES}
"""Default names of modalities."""

FEATURES: dict[Role, str] = {"rna": "genes", "adt": "proteins"}
"""Names of features in messages, by role."""


@dataclass(frozen=True)
class InputSource:
    """Location of the values of a modality.

    Parameters
    ----------
    role
        Role of the modality.
    modality
        Name of the modality.
    attribute
        Attribute that contains the values.
    key
        Name of the layer or of the ``obsm`` entry.
    is_top_level
        Whether the values are in ``obsm`` of the MuData itself.
    features
        Names of the features to read, in this order; all stored features by default.
    gaps
        Names of features that batches did not measure, whose values are NaN, by batch.
    """

    role: Role
    modality: str
    attribute: Literal["X", "layers", "obsm"]
    key: str | None = None
    is_top_level: bool = False
    features: tuple[str, ...] | None = None
    gaps: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        holder = "mdata" if self.is_top_level else f"mdata[{self.modality!r}]"
        return f"{holder}.{self.attribute}" + ("" if self.key is None else f"[{self.key!r}]")

    @property
    def feature_word(self) -> str:
        """Name of the columns in messages."""
        if self.attribute == "obsm":
            return "dimensions"
        return "features" if is_named_after_chromatin(self.modality) else FEATURES[self.role]

    def get_stored(self, mdata: MuData) -> Any:
        """Return the stored values of all features."""
        holder = getattr(mdata if self.is_top_level else mdata.mod[self.modality], self.attribute)
        return holder if self.key is None else holder[self.key]

    def get_values(self, mdata: MuData, cells: pd.Index | None = None) -> Any:
        """Return the values, shape ``(n_cells, n_features)``, matched by names.

        Stored values are returned if no matching is needed. Missing features are read as 0.

        Parameters
        ----------
        mdata
            The data.
        cells
            Names of the cells; those of :meth:`get_cell_names` by default.
        """
        rows = columns = None
        if cells is not None and not self.get_cell_names(mdata).equals(cells):
            rows = self.get_cell_names(mdata).get_indexer(cells)
        if self.features is not None:
            columns = self._find_columns(mdata, self.features)
        values = self.get_stored(mdata)
        if rows is None and columns is None and not self.gaps:
            return values
        return MatchedMatrix(values, rows, columns, self.find_gaps() if self.gaps else None)

    def named_gaps(self) -> dict[str, list[str]]:
        """Return ``gaps`` restricted to the features that are read."""
        read = set(self.features or ())
        found = {batch: [name for name in lacking if name in read] for batch, lacking in self.gaps.items()}
        return {batch: lacking for batch, lacking in found.items() if lacking}

    def find_gaps(self, batch: str | None = None) -> np.ndarray:
        """Return the mask of features that ``batch``, or any batch, lacks, ``(n_features,)``."""
        lacking = [name for of_batch, names in self.gaps.items() if batch in (None, of_batch) for name in names]
        return np.isin(self.features or (), lacking)

    def _find_columns(self, mdata: MuData, features: tuple[str, ...]) -> np.ndarray | None:
        """Return columns of features, -1 for missing ones; None if the stored order is right."""
        names, is_padded = self.get_stored_names(mdata), self.find_padded(mdata)
        if np.array_equal(names, features) and not is_padded.any():
            return None
        columns = pd.Index(names).get_indexer(features)
        return np.where((columns >= 0) & ~is_padded[columns], columns, -1)

    def find_padded(self, mdata: MuData) -> np.ndarray:
        """Return the mask of stored features that were not measured, ``(n_stored_features,)``."""
        var = None if self.attribute == "obsm" else mdata.mod[self.modality].var
        if var is None or _keys.PADDED not in var:
            return np.zeros(self.get_stored_names(mdata).size, dtype=bool)
        return var[_keys.PADDED].to_numpy(dtype=bool)

    def get_cell_names(self, mdata: MuData) -> pd.Index:
        """Return the names of cells of the modality, ``(n_cells,)``, a subset of all cells."""
        return mdata.obs_names if self.is_top_level else mdata.mod[self.modality].obs_names

    def get_feature_names(self, mdata: MuData) -> np.ndarray:
        """Return the names of the features to read, shape ``(n_features,)``.

        Columns of arrays without names are numbered.
        """
        return self.get_stored_names(mdata) if self.features is None else np.array(self.features)

    def find_left_out(self, mdata: MuData) -> list[str]:
        """Return the names of stored features that are not read."""
        read = set(self.get_feature_names(mdata).tolist())
        return [name for name in self.get_stored_names(mdata).tolist() if name not in read]

    def get_stored_names(self, mdata: MuData) -> np.ndarray:
        """Return the names of all stored features."""
        if self.attribute != "obsm":
            return mdata.mod[self.modality].var_names.to_numpy().astype(str)
        values = self.get_stored(mdata)
        names = values.columns if isinstance(values, pd.DataFrame) else range(values.shape[1])
        return np.array([str(name) for name in names])


def complete_modalities(modalities: Mapping[str, str] | None, mdata: MuData) -> dict[str, str]:
    """Complete the names of modalities with those found in the data.

    Parameters
    ----------
    modalities
        Names given by the user, by argument of the set-up.
    mdata
        The data.

    Raises
    ------
    ValueError
        If a key is not an argument of the set-up, both roles have the same modality, or a modality
        is not found.
    """
    completed = _read_modalities(modalities)
    allowed = [*DEFAULT_MODALITIES, "batch_key"]
    if unknown := [key for key in completed if key not in allowed]:
        raise ValueError(
            f"modalities: unknown key {unknown[0]!r}. It maps arguments of the set-up to modality names, such as "
            f"{DEFAULT_MODALITIES}. {choices(unknown[0], allowed)}"
        )
    if isinstance(mdata, MuData) and mdata.axis == 0:  # other types are rejected by check_structure
        given = {role: completed.get(MODALITY_ARGUMENT[role]) for role in ROLES}
        found = find_modalities(mdata, given, "modalities={{'{role}_layer': 'NAME'}}")
        completed = {**{MODALITY_ARGUMENT[role]: name for role, name in found.items()}, **completed}
    completed = {**DEFAULT_MODALITIES, **completed}
    if completed["rna_layer"] == completed["adt_layer"]:
        raise ValueError(
            f"modalities: {completed['rna_layer']!r} is given as both RNA ('rna_layer') and ADT ('adt_layer'). "
            "Name two different modalities."
        )
    return completed


def _read_modalities(modalities: Mapping[str, str] | None) -> dict[str, str]:
    """Return names by argument; the argument names of TOTALVI are accepted too."""
    if modalities is not None and not isinstance(modalities, Mapping):
        raise ValueError(
            f"modalities must map arguments of the set-up to modality names, such as {DEFAULT_MODALITIES}, but is {modalities!r}."
        )
    given: dict[str, str] = {}
    for key, name in (modalities or {}).items():
        argument = "adt_layer" if key == "protein_layer" else key
        if not isinstance(name, str):
            raise ValueError(f"modalities[{key!r}] must be one name, but is {name!r}.")
        if given.setdefault(argument, str(name)) != name:
            raise ValueError(
                f"modalities: 'protein_layer' means 'adt_layer'; {given[argument]!r} and {name!r} are given."
            )
    return given


def locate_source(mdata: MuData, role: Role, modality: str, layer: str | None, obsm_key: str | None) -> InputSource:
    """Find the values named by the user.

    Parameters
    ----------
    mdata
        The data, which contain ``modality``.
    role
        Role of the modality, for argument names in errors.
    modality
        Name of the modality.
    layer
        Layer of the modality.
    obsm_key
        Entry of ``obsm`` of the modality, or else of the MuData.

    Raises
    ------
    ValueError
        If both a layer and an ``obsm`` entry are given, or the values do not exist.
    """
    adata = mdata.mod[modality]
    layers = [name for name in adata.layers if name is not None]  # anndata 0.13 lists X under None
    if obsm_key is not None:
        if layer is not None:
            raise ValueError(f"{role}_layer and {role}_obsm_key are both given. Give the one that contains the values.")
        return _locate_representation(mdata, role, modality, obsm_key)
    if layer is not None:
        if not isinstance(layer, str):
            check_name(f"{role}_layer", layer, layers)
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
    """Check that a MuData has values in the same location as at set-up.

    Raises
    ------
    ValueError
        If the location differs.
    """
    is_obsm = source.attribute == "obsm"
    layer, obsm_key = (None, source.key) if is_obsm else (source.key, None)
    found = locate_source(mdata, source.role, source.modality, layer, obsm_key)
    if found != replace(source, features=None, gaps={}):
        raise ValueError(
            f"{source.role}_obsm_key={source.key!r}: it must be in {source}, as when the model was set up, "
            f"but is in {found}."
        )
    return source


def _locate_representation(mdata: MuData, role: Role, modality: str, key: str) -> InputSource:
    # MuData stores masks of cells under the names of modalities.
    top_level = [name for name in mdata.obsm if name not in mdata.mod]
    if not isinstance(key, str):
        check_name(f"{role}_obsm_key", key, sorted({*mdata.mod[modality].obsm, *top_level}))
    is_top_level = key not in mdata.mod[modality].obsm
    if not is_top_level or key in top_level:
        source = InputSource(role, modality, "obsm", key, is_top_level=is_top_level)
        values = source.get_values(mdata)
        if getattr(values, "ndim", None) != 2:
            shape = getattr(values, "shape", None)
            what = f"is of type {type(values).__name__}" if shape is None else f"has the shape {tuple(shape)}"
            holder = str(source).removesuffix(f"[{key!r}]")
            raise ValueError(
                f"{role}_obsm_key={key!r}: {source} must be a matrix of cells by dimensions, but {what}. Reshape it: "
                f"{holder}[{f'{key}_flat'!r}] = {source}.reshape(len({source}), -1); then {role}_obsm_key={f'{key}_flat'!r}."
            )
        return source
    existing = sorted({*mdata.mod[modality].obsm, *top_level})
    raise ValueError(
        f"{role}_obsm_key={key!r}: neither mdata[{modality!r}].obsm nor mdata.obsm has such an entry. "
        f"{choices(key, existing)}"
    )
