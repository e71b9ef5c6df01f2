"""Keyword arguments that the model has in common with models of scvi-tools have the same names."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from scvi.model import TOTALVI

from indiseek_sc import IndiSeek

COMMON = {
    "setup_mudata": {
        "mdata",
        "rna_layer",
        "batch_key",
        "categorical_covariate_keys",
        "continuous_covariate_keys",
        "modalities",
    },
    "train": {
        "max_epochs",
        "accelerator",
        "devices",
        "train_size",
        "validation_size",
        "batch_size",
        "early_stopping",
        "plan_kwargs",
    },
    "get_latent_representation": {"indices"},
    "save": {"dir_path", "prefix", "overwrite", "save_anndata"},
    "load": {"dir_path", "adata", "accelerator", "device", "prefix"},
    "load_registry": {"dir_path", "prefix"},
    "view_setup_args": {"dir_path", "prefix"},
    "get_var_names": {"legacy_mudata_format"},
    "load_query_data": {"reference_model", "accelerator", "device"},
    "prepare_query_mudata": {"mdata", "reference_model", "return_reference_var_names"},
}
"""Arguments by method that both have."""

DIFFERENT = {
    "setup_mudata": {
        "protein_layer": "named adt_layer, after the modality",
        "panel_key": "panels are recognised by proteins that are NaN in a batch (batch_key)",
        "size_factor_key": "the library size of a cell is the sum of its counts",
    },
    "train": {
        "lr": "in plan_kwargs, by stage (learning_rate, specific_learning_rate, ...)",
        "check_val_every_n_epoch": "accepted in **trainer_kwargs",
        "shuffle_set_split": "cells are always divided at random; held_out names them explicitly",
        "external_indexing": "held_out names the held-out cells",
        "reduce_lr_on_plateau": "learning rates follow a fixed schedule",
        "n_steps_kl_warmup": "there is no Kullback-Leibler term",
        "n_epochs_kl_warmup": "there is no Kullback-Leibler term",
        "adversarial_classifier": "independence is an argument of the model (independence)",
        "datasplitter_kwargs": "all training cells are kept on the device, without a data loader",
    },
    "get_latent_representation": {
        "adata": "named mdata, since only a MuData is accepted",
        "batch_size": "as many cells are encoded at a time as memory allows",
        "give_mean": "representations are not distributions",
        "mc_samples": "representations are not distributions",
        "return_dist": "representations are not distributions",
        "dataloader": "cells are read from a MuData only",
    },
    "save": {
        "save_kwargs": "weights are always saved in the same format",
        "legacy_mudata_format": "there is no legacy format",
        "datamodule": "data modules are not supported",
    },
    "load": {
        "backup_url": "models are not downloaded",
        "datamodule": "data modules are not supported",
        "allowed_classes_names_list": "only the class of the model is accepted",
    },
    "load_registry": {},
    "view_setup_args": {},
    "get_var_names": {},
    "load_query_data": {
        "adata": "named mdata, since only a MuData is accepted",
        "registry": "the registry is that of reference_model",
        "inplace_subset_query_vars": "features are matched by name, without changing the data",
        "unfrozen": "nothing is trained on query data",
        "freeze_dropout": "nothing is trained on query data",
        "freeze_expression": "nothing is trained on query data",
        "freeze_decoder_first_layer": "nothing is trained on query data",
        "freeze_batchnorm_encoder": "nothing is trained on query data",
        "freeze_batchnorm_decoder": "nothing is trained on query data",
        "freeze_classifier": "nothing is trained on query data",
        "transfer_batch": "effects of new batches are always estimated",
        "datamodule": "data modules are not supported",
    },
    "prepare_query_mudata": {"inplace": "a copy is returned"},
}
"""Arguments by method that only TOTALVI has, with the reason or the alternative."""

LATEST_COMPARED = "1.4"
"""Release of scvi-tools whose arguments are all listed above."""


def find_keywords(method) -> set[str]:
    """Return the names of the arguments of a method, without variable keyword arguments."""
    parameters = inspect.signature(method).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self", "model"}


@pytest.mark.parametrize("method", COMMON)
def test_common_arguments_have_the_same_names(method):
    own, others = (find_keywords(getattr(cls, method)) for cls in (IndiSeek, TOTALVI))
    assert COMMON[method] <= own & others


@pytest.mark.parametrize("method", DIFFERENT)
def test_documented_differences_are_not_accepted(method):
    assert not find_keywords(getattr(IndiSeek, method)) & DIFFERENT[method].keys()


@pytest.mark.skipif(
    not version("scvi-tools").startswith(f"{LATEST_COMPARED}."),
    reason=f"the lists are complete for scvi-tools {LATEST_COMPARED}",
)
@pytest.mark.parametrize("method", COMMON)
def test_all_differences_are_documented(method):
    others = find_keywords(getattr(TOTALVI, method))
    assert others == COMMON[method] | DIFFERENT[method].keys()


def test_the_order_of_the_common_arguments_is_the_same():
    """Positional arguments of saving and loading have the order of scvi-tools."""
    for method in ("save", "load", "load_registry", "view_setup_args", "prepare_query_mudata"):
        order = [
            [name for name in inspect.signature(getattr(cls, method)).parameters if name in COMMON[method]]
            for cls in (IndiSeek, TOTALVI)
        ]
        assert order[0] == order[1], method
