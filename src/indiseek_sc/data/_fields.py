"""How a modality is registered with scvi-tools, and reading of one modality by the registry of a model."""

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
from indiseek_sc.data._source import InputSource, check_names, relocate_source
from indiseek_sc.data._values import examine_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from indiseek_sc._keys import Role
    from indiseek_sc.nn import InputKind

logger = logging.getLogger("scvi.indiseek_sc")

REGISTRY_KEY: dict[Role, str] = {"rna": REGISTRY_KEYS.X_KEY, "adt": "adt"}
"""The names of the tensors of each role in a minibatch of scvi-tools."""


class InputField(BaseAnnDataField):
    """The values of one modality, wherever they lie, with their kind and the names of their features.

    Unlike the fields of scvi-tools it knows features by their names, so that those of other data may lie in another order, remembers
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
            "n_cells": self.source.get_cell_names(adata).size,
            "column_names": self.source.get_feature_names(adata),
            "excluded": self.source.find_left_out(adata),
            "gaps": self.source.named_gaps(),
        }

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Return the same for other data: what the model knows stays, and the data are matched with it where they are read."""
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``n_vars`` and ``n_cells`` (of the first set-up) for RNA, ``n_adt`` for ADT."""
        n_features = len(state_registry["column_names"])
        if self.source.role == "adt":
            return {"n_adt": n_features}
        return {"n_vars": n_features, "n_cells": state_registry["n_cells"]}

    def view_state_registry(self, state_registry: dict[str, Any]) -> None:
        """Nothing beyond the summary of scvi-tools."""


MAX_MISSING = 0.2
"""Share of the features in use that other data may lack, if nothing else is said."""


def check_features(
    mdata: MuData,
    source: InputSource,
    excluded: Sequence[str] = (),
    is_used: np.ndarray | None = None,
    max_missing: float = 1.0,
    *,
    is_quiet: bool = False,
) -> None:
    """Refuse data that lack too many features of a model; say which are missing, and which are not read.

    Parameters
    ----------
    mdata
        The data.
    source
        Where the values are, and the features that the model reads.
    excluded
        Names of features that are left out of the model.
    is_used
        Which features representations are made of, shape ``(n_features,)``; all if not given.
    max_missing
        Share of these that may be missing; never all.
    is_quiet
        Say nothing unless there are too many.

    Raises
    ------
    ValueError
        If more are missing, or a representation has other dimensions.
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
            f"{source}: the {word} are not those that the model was set up with; it has {names.size:,}, and the model reads "
            f"{expected.size:,}. Make the representation again as for the model."
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
            f"{listing(expected[is_missing])}. They count as average in each cell.",
            UserWarning,
            stacklevel=2,
        )


def _remedy(modality: str, names: np.ndarray, extra: np.ndarray, share: float) -> str:
    if share < 1:
        return (
            "Name them as model.get_var_names() does if they are there under other names"
            + (f", such as {listing(extra[:2])}" if extra.size else "")
            + f"; or allow more where they are read: max_missing={np.ceil(share * 100) / 100:g}."
        )
    return (
        f"Here they are called such as {listing(names[:2])}: write the names that model.get_var_names()[{modality!r}] has to "
        f"mdata[{modality!r}].var_names, and call mdata.update()."
    )


def read_input(registry: Mapping[str, Any], role: Role) -> tuple[InputSource, dict[str, Any]]:
    """Return where a registered model takes its input from, and what :meth:`InputField.register_field` noted of it."""
    field = registry["field_registries"][REGISTRY_KEY[role]]
    place, state = field["data_registry"], field["state_registry"]
    is_top_level = "mod_key" not in place
    features = tuple(str(name) for name in state["column_names"])
    gaps = state.get("gaps", {})  # models of before had none
    source = InputSource(role, state["modality"], place["attr_name"], place["attr_key"], is_top_level, features, gaps)
    return source, state


@dataclass(frozen=True)
class ModalityCells:
    """The cells of one modality, all of them, in its own order.

    Parameters
    ----------
    values
        Raw values, shape ``(n_cells, n_features)``, as they are stored.
    names
        Name of each cell.
    covariates
        Covariates of each cell as :func:`~indiseek_sc.data.read_covariates` returns them, shape ``(n_cells, n_covariates)``.
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
    """Find the values of one role in data that a registered model shall read, which need not be set up.

    Parameters
    ----------
    mdata
        The data. Values must be where they were when the model was set up, and are matched by the names of features; of the other
        modality nothing is read.
    registry
        The registry of the model.
    role
        Whose values.
    is_used, max_missing
        As :func:`check_features` takes them.
    is_sample_enough
        Look at some of the cells only for values that cannot be used.

    Raises
    ------
    TypeError
        If it is no MuData.
    ValueError
        If the modality is missing, cells or features occur twice, too many features are missing, or values or batches are not
        as the model needs them.
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
