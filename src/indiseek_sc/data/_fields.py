"""How a modality is registered with scvi-tools, and reading of one modality by the registry of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data.fields import BaseAnnDataField

from indiseek_sc._lookup import name_of
from indiseek_sc._text import N_SHOWN, choices, listing
from indiseek_sc.data._batch import read_batches
from indiseek_sc.data._source import InputSource, relocate_source
from indiseek_sc.data._values import examine_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.nn import InputKind

REGISTRY_KEY: dict[Role, str] = {"rna": REGISTRY_KEYS.X_KEY, "adt": "adt"}
"""The names of the tensors of each role in a minibatch of scvi-tools."""


class InputField(BaseAnnDataField):
    """The values of one modality, wherever they lie, with their kind and the names of their features.

    Unlike the fields of scvi-tools it compares names and their order when another data set takes its place, remembers
    how many cells the model was set up with, and changes nothing in the data.

    Parameters
    ----------
    source
        Where the values are.
    kind
        What they are.
    """

    def __init__(self, source: InputSource, kind: InputKind) -> None:
        super().__init__()
        self.source = source
        self.kind = kind

    @property
    def registry_key(self) -> str:
        """Name of the tensor in a minibatch."""
        return REGISTRY_KEY[self.source.role]

    @property
    def attr_name(self) -> str:
        """``X``, ``layers`` or ``obsm``."""
        return self.source.attribute

    @property
    def attr_key(self) -> str | None:
        """Name of the layer or of the ``obsm`` entry."""
        return self.source.key

    @property
    def mod_key(self) -> str | None:
        """The modality; none for the ``obsm`` of the MuData."""
        return None if self.source.is_top_level else self.source.modality

    @property
    def is_empty(self) -> bool:
        """Never."""
        return False

    def validate_field(self, adata: MuData) -> None:
        """Nothing: the checks ran before registration, when an error still finds the data unchanged."""

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Return what is to be known about the input without the data."""
        return {
            "modality": self.source.modality,
            "kind": self.kind,
            "n_cells": adata.n_obs,
            "column_names": self.source.get_feature_names(adata),
            "excluded": list(self.source.excluded),
        }

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Return the same for other data, whose features must be the same ones in the same order."""
        check_features(adata_target, self.source, state_registry["column_names"])
        return {**self.register_field(adata_target), "n_cells": state_registry["n_cells"]}

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``n_vars`` and ``n_cells`` (of the first set-up) for RNA, ``n_adt`` for ADT."""
        n_features = len(state_registry["column_names"])
        if self.source.role == "adt":
            return {"n_adt": n_features}
        return {"n_vars": n_features, "n_cells": state_registry["n_cells"]}

    def view_state_registry(self, state_registry: dict[str, Any]) -> None:
        """Nothing beyond the summary of scvi-tools."""


class BatchField(BaseAnnDataField):
    """The batch of each cell, by a name that :func:`indiseek_sc.data.read_batches` takes.

    Unlike that of scvi-tools it takes numbers and text side by side, and batches alone that occur.

    Parameters
    ----------
    name
        What batches are called; none for a single batch.
    """

    registry_key = REGISTRY_KEYS.BATCH_KEY
    attr_name = "obs"
    attr_key = f"_scvi_{REGISTRY_KEYS.BATCH_KEY}"
    is_empty = False

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.name = name

    def validate_field(self, adata: MuData) -> None:
        """Nothing: the checks ran before registration, when an error still finds the data unchanged."""

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Write the number of each cell's batch to the data, and return the names of the batches."""
        return self._write(adata, None)

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Do the same for other data, whose batches must be among those of the model."""
        return self._write(adata_target, [name_of(value) for value in state_registry["categorical_mapping"]])

    def _write(self, mdata: MuData, known: list[str] | None) -> dict[str, Any]:
        if self.name is None:  # as scvi-tools notes it
            codes, names, key = np.zeros(mdata.n_obs, dtype=np.int64), np.zeros(1, dtype=np.int64), self.attr_key
        else:
            batches = read_batches(mdata, self.name, known=known)
            codes, names, key = batches.cat.codes.to_numpy(np.int64), batches.cat.categories.to_numpy(), self.name
        mdata.obs[self.attr_key] = codes
        return {"categorical_mapping": names, "original_key": key}

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``n_batch``."""
        return {"n_batch": len(state_registry["categorical_mapping"])}

    def view_state_registry(self, state_registry: dict[str, Any]) -> None:
        """Nothing beyond the summary of scvi-tools."""


def check_features(mdata: MuData, source: InputSource, expected: np.ndarray) -> None:
    """Refuse features that are not those of the model, in the model's order.

    Parameters
    ----------
    mdata
        The data.
    source
        Where the values are.
    expected
        Names of the model's features, shape ``(n_features,)``.

    Raises
    ------
    ValueError
        If names are missing, too many, or in another order.
    """
    names = source.get_feature_names(mdata)
    if np.array_equal(names, expected):
        return
    word, modality = source.feature_word, source.modality
    problems = []
    missing = expected[~np.isin(expected, names)]
    extra = names[~np.isin(names, expected)]
    if missing.size:
        problems.append(f"{missing.size:,} are missing: {listing(missing)}")
    if extra.size:
        problems.append(f"{extra.size:,} are unknown to the model: {listing(extra)}")
    if not problems:
        moved = np.flatnonzero(names != expected)
        pairs = "; ".join(f"column {i}: {str(names[i])!r} in place of {str(expected[i])!r}" for i in moved[:N_SHOWN])
        problems.append(f"{moved.size:,} lie in another order ({pairs})")
    raise ValueError(
        f"{source}: the {word} are not those that the model was set up with; {'; '.join(problems)}. "
        + _remedy(source, modality, is_complete=missing.size == 0)
    )


def _remedy(source: InputSource, modality: str, *, is_complete: bool) -> str:
    if not is_complete:
        return f"The model needs each of its {source.feature_word}: use data that has them."
    if source.attribute == "obsm":
        return "Make the representation again as for the model."
    return (
        f"Put them in the model's order: mdata.mod[{modality!r}] = "
        f"mdata[{modality!r}][:, model.get_var_names()[{modality!r}]].copy(); mdata.update() "
        "(a saved model opens without data by load(..., adata=False))"
    )


def read_input(registry: Mapping[str, Any], role: Role) -> tuple[InputSource, dict[str, Any]]:
    """Return where a registered model takes its input from, and what :meth:`InputField.register_field` noted of it."""
    field = registry["field_registries"][REGISTRY_KEY[role]]
    place, state = field["data_registry"], field["state_registry"]
    is_top_level = "mod_key" not in place
    excluded = tuple(state.get("excluded", ()))  # models of before have none
    source = InputSource(role, state["modality"], place["attr_name"], place["attr_key"], is_top_level, excluded)
    return source, state


def read_batch(registry: Mapping[str, Any]) -> tuple[str | None, np.ndarray]:
    """Return the name by which a registered model reads batches, if it was given any, and theirs in the order of the codes."""
    field = registry["field_registries"][REGISTRY_KEYS.BATCH_KEY]
    place, state = field["data_registry"], field["state_registry"]
    key, modality = state["original_key"], place.get("mod_key")  # models of before note the modality by itself
    names = np.array([name_of(value) for value in state["categorical_mapping"]])
    # Without a batch_key, a column of zeros is written and noted as the original.
    if key == place["attr_key"]:
        return None, names
    return key if modality is None else f"{modality}:{key}", names


@dataclass(frozen=True)
class ModalityCells:
    """The cells of one modality, all of them, in its own order.

    Parameters
    ----------
    values
        Raw values, shape ``(n_cells, n_features)``, as they are stored.
    names
        Name of each cell.
    batch
        Number of each cell's batch among those of the model, shape ``(n_cells,)``; 0 where the model knows of none.
    """

    values: Any
    names: pd.Index
    batch: np.ndarray


def read_modality(
    mdata: MuData, registry: Mapping[str, Any], role: Role, *, is_sample_enough: bool = False
) -> ModalityCells:
    """Find the values of one role in data that a registered model shall read, which need not be set up.

    Parameters
    ----------
    mdata
        The data. It must hold the features that the model was set up with, where it was told to look for them; of the other
        modality nothing is read.
    registry
        The registry of the model.
    role
        Whose values.
    is_sample_enough
        Look at some of the cells only for values that cannot be used.

    Raises
    ------
    TypeError
        If it is no MuData.
    ValueError
        If the modality is missing, cells occur twice, features, values or batches are not as the model needs them.
    """
    source, state = read_input(registry, role)
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"mdata must be a MuData, but is {type(mdata).__name__}. "
            f"Wrap a single AnnData: mudata.MuData({{{source.modality!r}: adata}})."
        )
    if source.modality not in mdata.mod:
        raise ValueError(
            f"mdata: there is no modality {source.modality!r} to read. {choices(source.modality, list(mdata.mod))}"
        )
    source = relocate_source(mdata, source)
    names = source.get_cell_names(mdata)
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        raise ValueError(
            f"mdata[{source.modality!r}].obs_names: {repeated.size:,} names of cells occur more than once: "
            f"{listing(repeated)}. Name them apart, for instance by their batch."
        )
    check_features(mdata, source, state["column_names"])
    examine_values(mdata, source, state["kind"], is_sample_enough=is_sample_enough)
    batch, known = read_batch(registry)
    codes = (
        np.zeros(names.size, dtype=np.int64)
        if batch is None
        else read_batches(mdata, batch, names, known).cat.codes.to_numpy(np.int64)
    )
    return ModalityCells(source.get_values(mdata), names, codes)
