"""Registration of a modality with scvi-tools, and reading of a modality for a registered model."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data.fields import BaseAnnDataField

from indiseek_sc._text import choices, listing
from indiseek_sc.data._covariate_fields import find_covariates
from indiseek_sc.data._covariates import read_covariates
from indiseek_sc.data._source import InputSource, relocate_source
from indiseek_sc.data._structure import check_names
from indiseek_sc.data._values import examine_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from indiseek_sc._keys import Role
    from indiseek_sc.nn import InputKind

logger = logging.getLogger("scvi.indiseek_sc")

REGISTRY_KEY: dict[Role, str] = {"rna": REGISTRY_KEYS.X_KEY, "adt": "adt"}
"""Names of tensors in a minibatch of scvi-tools, by role."""


class InputField(BaseAnnDataField):
    """Field for the values of one modality, with their kind and names of features.

    Unlike fields of scvi-tools, it matches features by name, so that their order may differ in
    other data, records the number of cells at set-up, and does not change the data.

    Parameters
    ----------
    source
        Location of the values.
    kind
        Kind of the values.
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
        """The modality; None for the ``obsm`` of the MuData."""
        return None if self.source.is_top_level else self.source.modality

    @property
    def is_empty(self) -> bool:
        """Always False."""
        return False

    def validate_field(self, adata: MuData) -> None:
        """Do nothing: values were validated before, so that errors leave the data unchanged."""

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Return the description of the input that is stored with the model."""
        return {
            "modality": self.source.modality,
            "kind": self.kind,
            "n_cells": self.source.get_cell_names(adata).size,
            "column_names": self.source.get_feature_names(adata),
            "excluded": self.source.find_left_out(adata),
            "gaps": self.source.named_gaps(),
        }

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Return the same description; other data are matched with it when they are read."""
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``n_vars`` and ``n_cells`` (of the first set-up) for RNA, ``n_adt`` for ADT."""
        n_features = len(state_registry["column_names"])
        if self.source.role == "adt":
            return {"n_adt": n_features}
        return {"n_vars": n_features, "n_cells": state_registry["n_cells"]}

    def view_state_registry(self, state_registry: dict[str, Any]) -> None:
        """Do nothing beyond the summary of scvi-tools."""


MAX_MISSING = 0.2
"""Default fraction of the features in use that other data may lack."""


def check_features(
    mdata: MuData,
    source: InputSource,
    excluded: Sequence[str] = (),
    is_used: np.ndarray | None = None,
    max_missing: float = 1.0,
    *,
    is_quiet: bool = False,
) -> None:
    """Check that data have enough features of a model; warn of missing ones, and log unused ones.

    Parameters
    ----------
    mdata
        The data.
    source
        Location of the values, and the features of the model.
    excluded
        Names of features that the model excludes.
    is_used
        Mask of features that determine representations, shape ``(n_features,)``; all by default.
    max_missing
        Largest fraction of these features that may be missing. At least one must be present.
    is_quiet
        Whether to omit warnings and log messages.

    Raises
    ------
    ValueError
        If a larger fraction of the features is missing, or a representation has other dimensions.
    """
    names, expected = source.get_stored_names(mdata), source.get_feature_names(mdata)
    names = names[~np.isin(names, list(excluded)) & ~source.find_padded(mdata)]
    if np.array_equal(names, expected):
        return
    word = source.feature_word
    is_missing = ~np.isin(expected, names)
    extra = names[~np.isin(names, expected)]
    if source.attribute == "obsm" and (is_missing.any() or extra.size):
        raise ValueError(
            f"{source}: the {word} differ from those with which the model was set up: there are {names.size:,}, and "
            f"the model reads {expected.size:,}. Compute the representation as for the model."
        )
    is_lacking = is_missing if is_used is None else is_missing[is_used]
    share = float(is_lacking.mean())
    if share == 1 or share > max_missing:
        raise ValueError(
            f"{source}: of the {is_lacking.size:,} {word} that the model uses {is_lacking.sum():,} are missing ({share:.0%}, more "
            f"than max_missing={max_missing:g}): {listing((expected if is_used is None else expected[is_used])[is_lacking])}. "
            + _remedy(source.modality, names, extra, share)
        )
    if is_quiet:
        return
    if extra.size or not is_missing.any():
        rest = f"; not read: {listing(extra)}" if extra.size else ""
        there = expected.size - int(is_missing.sum())
        logger.info(f"{source.role}: {there:,} {word} of the model are found by name among {names.size:,}{rest}.")
    if is_missing.any():
        of = f", {is_lacking.sum():,} of them among the {is_lacking.size:,} in use ({share:.0%})"
        of = of if is_lacking.size < expected.size else f" ({share:.0%})"
        warnings.warn(
            f"{source}: {is_missing.sum():,} of the {expected.size:,} {word} of the model are missing{of}: "
            f"{listing(expected[is_missing])}. They are set to their means over training cells.",
            UserWarning,
            stacklevel=2,
        )


def _remedy(modality: str, names: np.ndarray, extra: np.ndarray, share: float) -> str:
    if share < 1:
        return (
            "If they are present under other names"
            + (f", such as {listing(extra[:2])}" if extra.size else "")
            + ", rename them as model.get_var_names() does"
            + f"; or allow more missing features: max_missing={np.ceil(share * 100) / 100:g}."
        )
    return (
        f"Here they have names such as {listing(names[:2])}: write the names of model.get_var_names()[{modality!r}] to "
        f"mdata[{modality!r}].var_names, and call mdata.update()."
    )


def read_input(registry: Mapping[str, Any], role: Role) -> tuple[InputSource, dict[str, Any]]:
    """Return the source of a registered model, and its :meth:`InputField.register_field` output."""
    field = registry["field_registries"][REGISTRY_KEY[role]]
    place, state = field["data_registry"], field["state_registry"]
    is_top_level = "mod_key" not in place
    features = tuple(str(name) for name in state["column_names"])
    gaps = state.get("gaps", {})  # absent in earlier versions
    source = InputSource(role, state["modality"], place["attr_name"], place["attr_key"], is_top_level, features, gaps)
    return source, state


@dataclass(frozen=True)
class ModalityCells:
    """All cells of one modality, in its own order.

    Parameters
    ----------
    values
        Raw values as stored, shape ``(n_cells, n_features)``.
    names
        Names of the cells.
    covariates
        Output of :func:`~indiseek_sc.data.read_covariates`, shape ``(n_cells, n_covariates)``.
    """

    values: Any
    names: pd.Index
    covariates: np.ndarray


def read_modality(
    mdata: MuData,
    registry: Mapping[str, Any],
    role: Role,
    *,
    is_used: np.ndarray | None = None,
    max_missing: float = MAX_MISSING,
    is_sample_enough: bool = False,
) -> ModalityCells:
    """Read one modality for a registered model from data that need not be set up.

    Parameters
    ----------
    mdata
        The data. Values must be in the same location as at set-up; features are matched by name.
        The other modality is not read.
    registry
        The registry of the model.
    role
        Role of the modality.
    is_used, max_missing
        See :func:`check_features`.
    is_sample_enough
        Whether to validate the values of a sample of cells only.

    Raises
    ------
    TypeError
        If ``mdata`` is not a MuData.
    ValueError
        If the modality is missing, names of cells or features are not unique, too many features are
        missing, or values or batches are invalid.
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
    check_names(mdata, source.modality, source.feature_word)
    check_features(mdata, source, state.get("excluded", ()), is_used, max_missing, is_quiet=is_sample_enough)
    examine_values(mdata, source, state["kind"], is_sample_enough=is_sample_enough)
    covariates = read_covariates(mdata, find_covariates(registry), names)
    return ModalityCells(source.get_values(mdata), names, covariates)
