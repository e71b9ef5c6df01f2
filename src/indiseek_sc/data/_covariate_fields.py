"""Registration of covariates of cells with scvi-tools, and their retrieval from a registry."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data.fields import BaseAnnDataField

from indiseek_sc._lookup import name_of
from indiseek_sc.data._covariates import Covariates, read_covariates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData


class _CovariateField(BaseAnnDataField):
    """Base class of fields for covariates of one kind.

    Parameters
    ----------
    covariates
        Covariates of the model. They were validated before registration, so that errors leave the
        data unchanged.
    """

    is_empty = False

    def __init__(self, covariates: Covariates) -> None:
        super().__init__()
        self.covariates = covariates

    @property
    def attr_key(self) -> str:
        """Key under which the field is written."""
        return f"_scvi_{self.registry_key}"

    def validate_field(self, adata: MuData) -> None:
        """Do nothing, since covariates were validated before."""

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Register the field in other data, see :meth:`register_field`."""
        return {**state_registry, **self.register_field(adata_target)}

    def view_state_registry(self, state_registry: dict[str, Any]) -> None:
        """Do nothing beyond the summary of scvi-tools."""


class BatchField(_CovariateField):
    """Field for the batch of each cell.

    Unlike the field of scvi-tools, it accepts mixed numbers and text, and includes only batches
    that occur.
    """

    registry_key = REGISTRY_KEYS.BATCH_KEY
    attr_name = "obs"

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Write the index of the batch of each cell, and return the names of batches."""
        batch = self.covariates.batch
        adata.obs[self.attr_key] = read_covariates(adata, self.covariates)[:, 0].astype(np.int64)
        if batch is None:  # as in scvi-tools
            return {"categorical_mapping": np.zeros(1, dtype=np.int64), "original_key": self.attr_key}
        return {"categorical_mapping": np.array(self.covariates.levels[batch], dtype=object), "original_key": batch}

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``n_batch``."""
        return {"n_batch": len(state_registry["categorical_mapping"])}


class CategoriesField(_CovariateField):
    """Field for the levels of categorical covariates."""

    registry_key = REGISTRY_KEYS.CAT_COVS_KEY
    attr_name = "obsm"

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Write indices of the levels of each cell, and return names of covariates and levels."""
        levels = {name: self.covariates.levels[name] for name in self.covariates.others["categorical_covariate_keys"]}
        adata.obsm[self.attr_key] = read_covariates(adata, self.covariates)[:, 1 : 1 + len(levels)].astype(np.int64)
        return {
            "field_keys": list(levels),
            "mappings": {name: np.array(x, dtype=object) for name, x in levels.items()},
            "n_cats_per_key": [len(x) for x in levels.values()],
        }

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return the number of covariates, under the name used by scvi-tools."""
        return {"n_extra_categorical_covs": len(state_registry["field_keys"])}


class ValuesField(_CovariateField):
    """Field for the values of continuous covariates."""

    registry_key = REGISTRY_KEYS.CONT_COVS_KEY
    attr_name = "obsm"

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Write the values of each cell, and return the names of the covariates."""
        n_values = len(self.covariates.values)
        adata.obsm[self.attr_key] = read_covariates(adata, self.covariates)[:, -n_values:].astype(np.float32)
        return {"columns": list(self.covariates.values)}

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return the number of covariates, under the name used by scvi-tools."""
        return {"n_extra_continuous_covs": len(state_registry["columns"])}


def make_fields(covariates: Covariates) -> list[BaseAnnDataField]:
    """Return the fields that write covariates to the data."""
    fields: list[BaseAnnDataField] = [BatchField(covariates)]
    if covariates.others["categorical_covariate_keys"]:
        fields.append(CategoriesField(covariates))
    if covariates.values:
        fields.append(ValuesField(covariates))
    return fields


def find_covariates(registry: Mapping[str, Any]) -> Covariates:
    """Return the covariates of a registered model."""
    fields = registry["field_registries"]
    place, state = (fields[REGISTRY_KEYS.BATCH_KEY][name] for name in ("data_registry", "state_registry"))
    key, modality = state["original_key"], place.get("mod_key")  # earlier versions stored "mod_key"
    batch, levels = None, {}
    if key != place["attr_key"]:  # without batch_key, a column of zeros was registered
        batch = key if modality is None else f"{modality}:{key}"
        levels[batch] = [name_of(value) for value in state["categorical_mapping"]]
    if REGISTRY_KEYS.CAT_COVS_KEY in fields:
        of_others = fields[REGISTRY_KEYS.CAT_COVS_KEY]["state_registry"]
        levels |= {name: [name_of(x) for x in of_others["mappings"][name]] for name in of_others["field_keys"]}
    values: Sequence[str] = ()
    if REGISTRY_KEYS.CONT_COVS_KEY in fields:
        values = list(fields[REGISTRY_KEYS.CONT_COVS_KEY]["state_registry"]["columns"])
    return Covariates(batch, levels, values, int(state.get("n_added", 0)))


def add_batches(registry: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a registry with additional batches at the end, which the model was not trained on."""
    extended: dict[str, Any] = deepcopy(dict(registry))
    known = find_covariates(registry)
    if names and known.batch is not None:
        field = extended["field_registries"][REGISTRY_KEYS.BATCH_KEY]
        every = np.array([*known.levels[known.batch], *names], dtype=object)
        field["state_registry"] |= {"categorical_mapping": every, "n_added": known.n_added + len(names)}
        field["summary_stats"] = {"n_batch": len(every)}
    return extended
