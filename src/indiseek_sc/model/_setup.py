"""Registration of a MuData with the model, and checks of data that are given later."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import MuData
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck

from indiseek_sc._checks import check_number
from indiseek_sc._keys import ROLES
from indiseek_sc._text import choices, listing
from indiseek_sc.data import (
    MAX_MISSING,
    MODALITY_ARGUMENT,
    InputField,
    check_features,
    check_not_overwritten,
    check_not_swapped,
    check_paired,
    check_structure,
    complete_modalities,
    describe_kind,
    examine_values,
    exclude_named,
    exclude_recognised,
    find_counts,
    find_covariates,
    find_gaps,
    find_not_in_batches,
    locate_batch,
    locate_covariates,
    locate_source,
    make_fields,
    read_covariates,
    read_input,
    read_levels,
    relocate_source,
)
from indiseek_sc.nn import InputKind, get_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from indiseek_sc._keys import Role
    from indiseek_sc.data import Covariates, InputSource, RequestedKind, ValueScan
    from indiseek_sc.model._model import IndiSeek

logger = logging.getLogger("scvi.indiseek_sc")  # child of scvi's logger, which has a handler


FEWEST_OF_BATCH = 10
"""Median number of cells of a batch below which a warning is emitted."""

HINTS_FOR_OTHER_MODELS = {
    "labels_key": "No labels are read: give them to the functions of tl that compare representations with labels.",
    "layer": "Give rna_layer or adt_layer.",
    "protein_layer": "Give adt_layer.",
    "protein_expression_obsm_key": "Put the proteins into a modality of the MuData.",
    "size_factor_key": "The library size of a cell is the sum of its counts.",
}
"""Alternatives to arguments that the set-up of other scvi-tools models accepts."""


def check_further_arguments(kwargs: Mapping[str, Any], known: Iterable[str]) -> None:
    """Check that there are no unknown keyword arguments.

    Raises
    ------
    TypeError
        If there is one; the message suggests an alternative.
    """
    for name in kwargs:
        known = [argument for argument in known if argument not in {"kwargs", *kwargs}]
        raise TypeError(
            f"setup_mudata: unexpected keyword argument {name!r}. {HINTS_FOR_OTHER_MODELS.get(name) or choices(name, known)}"
        )


def register(mdata: MuData, setup_method_args: dict[str, Any]) -> AnnDataManager:
    """Check and register a MuData, and log the kind of values recognised in each modality.

    Parameters
    ----------
    mdata
        Data to register; nothing in it is changed if an error is raised.
    setup_method_args
        Record of the call of ``setup_mudata`` kept by scvi-tools; the recognised kinds of values
        are filled in.

    Returns
    -------
    Manager of the data.
    """
    arguments = setup_method_args["setup_args"]
    arguments["modalities"] = complete_modalities(arguments["modalities"], mdata)
    sources, covariates = _locate(mdata, arguments)
    if gaps := check_paired(mdata, {role: source.modality for role, source in sources.items()}):
        logger.info(f"mdata: not every cell has both modalities; {gaps}")
    batches = None if covariates.batch is None else read_levels(mdata, covariates.batch)
    named = arguments["exclude"]
    if named is not None:  # before the values are checked, which the named features may fail
        sources["adt"] = exclude_named(mdata, sources["adt"], named)
    if batches is not None:
        _check_batches(batches, str(covariates.batch))
        sources["adt"] = find_gaps(mdata, sources["adt"], batches)
    examined = {
        role: examine_values(mdata, source, arguments[f"{role}_input"], batches=batches)
        for role, source in sources.items()
    }
    left_out = f"{len(named)} named ({listing(named)})" if named else ""
    if named is None:
        kind, scan = examined["adt"]
        sources["adt"], scan, left_out = exclude_recognised(mdata, sources["adt"], scan)
        examined["adt"] = kind, scan
        left_out += "; exclude=() would keep them" if left_out else ""
    if left_out:
        logger.info(f"adt: left out of the representations: {left_out}.")
    if batches is not None and examined["adt"][0] == "counts":
        _warn_of_panels(mdata, sources["adt"], batches)
    if lacking := sources["adt"].named_gaps():
        listed = "; ".join(f"{batch}: {listing(proteins)}" for batch, proteins in lacking.items())
        logger.info(f"adt: proteins that are NaN in all cells of a batch count as not measured there ({listed}).")
    for role, source in sources.items():
        _report(mdata, source, arguments[f"{role}_input"], *examined[role])
    kinds = {role: kind for role, (kind, _) in examined.items()}
    # The recorded arguments are what was recognised instead of what was requested ("auto").
    arguments |= {f"{role}_input": kind for role, kind in kinds.items()}
    arguments["exclude"] = sources["adt"].find_left_out(mdata)
    return _register(mdata, sources, kinds, covariates, setup_method_args)


def _check_batches(batches: pd.Series, key: str) -> None:
    """Check that batches have enough cells for their effects to be estimated.

    Raises
    ------
    ValueError
        If at least half of the batches have a single cell.

    Warns
    -----
    UserWarning
        If at least half of the batches have fewer than ``FEWEST_OF_BATCH`` cells.
    """
    sizes = batches.value_counts()
    sizes = sizes[sizes > 0]
    median = sizes.median()
    counted = f"batch_key={key!r} has {sizes.size:,} batches for {sizes.sum():,} cells"
    if sizes.size > 1 and median < 2:
        raise ValueError(f"{counted}, most of them with a single cell. Name the column of the batches.")
    if median < FEWEST_OF_BATCH:
        warnings.warn(
            f"{counted}, half of them with at most {median:g}. Effects of so small batches cannot be estimated.",
            UserWarning,
            stacklevel=2,
        )


def _warn_of_panels(mdata: MuData, source: InputSource, batches: pd.Series) -> None:
    """Warn of proteins that are 0 in all cells of some batches only and identify the batch."""
    if found := find_not_in_batches(mdata, source, batches):
        names = list(dict.fromkeys(name for lacking in found.values() for name in lacking))
        listed = "; ".join(f"{batch}: {listing(lacking)}" for batch, lacking in found.items())
        warnings.warn(
            f"{source}: {len(names):,} {source.feature_word} are 0 in all cells of a batch but not of others, as if they were not in its "
            f"panel ({listed}). If so, leave them out: exclude={names + source.find_left_out(mdata)}; or set them to NaN in these "
            "cells, which marks them as not measured.",
            UserWarning,
            stacklevel=2,
        )


def _register(
    mdata: MuData,
    sources: Mapping[Role, InputSource],
    kinds: Mapping[Role, InputKind],
    covariates: Covariates,
    setup_method_args: dict[str, Any],
    **kwargs: Any,
) -> AnnDataManager:
    manager = AnnDataManager(
        fields=[
            *(InputField(source, kinds[role]) for role, source in sources.items()),
            # Covariates come last, since only they write to the data.
            *make_fields(covariates),
        ],
        setup_method_args=setup_method_args,
        # Cells are matched by name when they are read, and may lack a modality.
        validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
    )
    manager.register_fields(mdata, **kwargs)
    return manager


def _locate(mdata: MuData, arguments: Mapping[str, Any]) -> tuple[dict[Role, InputSource], Covariates]:
    """Check the structure of a MuData, and find the inputs and covariates of the arguments."""
    names = arguments["modalities"]
    modalities = {role: names[MODALITY_ARGUMENT[role]] for role in ROLES}
    check_structure(mdata, modalities)
    sources = {
        role: locate_source(mdata, role, modalities[role], arguments[f"{role}_layer"], arguments[f"{role}_obsm_key"])
        for role in ROLES
    }
    check_not_overwritten(sources)
    if arguments["check_sizes"]:
        check_not_swapped(mdata, sources)
    batch = locate_batch(mdata, arguments["batch_key"], names.get("batch_key"))
    covariates = locate_covariates(
        mdata, batch, arguments["categorical_covariate_keys"], arguments["continuous_covariate_keys"]
    )
    return sources, covariates


def is_view(mdata: MuData) -> bool:
    """Return whether a MuData or one of its modalities is a view of other data."""
    return isinstance(mdata, MuData) and (mdata.is_view or any(adata.is_view for adata in mdata.mod.values()))


def check_query(
    model: IndiSeek,
    mdata: MuData,
    roles: Sequence[Role] = ROLES,
    *,
    max_missing: float = MAX_MISSING,
    is_sample_enough: bool = False,
    is_quiet: bool = False,
) -> None:
    """Check that a model can read modalities of a MuData.

    Parameters
    ----------
    model
        Model that reads the data.
    mdata
        Data to check.
    roles
        Modalities to check.
    max_missing
        Largest share of features in use that may be missing.
    is_sample_enough
        Examine the values of a sample of cells only.
    is_quiet
        Do not log missing features.

    Raises
    ------
    TypeError, ValueError
        If features, values or covariates are not as the model requires
        (:func:`~indiseek_sc.data.check_features`).
    """
    check_number("max_missing", max_missing)
    registry = model.registry_
    inputs = {role: read_input(registry, role) for role in roles}
    check_structure(mdata, {role: source.modality for role, (source, _) in inputs.items()})
    for role, (source, state) in inputs.items():
        relocate_source(mdata, source)
        in_use, excluded = find_features_in_use(model, role), state.get("excluded", ())
        check_features(mdata, source, excluded, in_use, max_missing, is_quiet=is_quiet)
    read_covariates(mdata, find_covariates(registry))
    for source, state in inputs.values():
        examine_values(mdata, source, state["kind"], is_sample_enough=is_sample_enough)


def find_features_in_use(model: IndiSeek, role: Role) -> np.ndarray:
    """Return a mask of the features that the encoders read, shape ``(n_features,)``.

    Of RNA, these are the highly variable genes.
    """
    transform = model.module.transforms[role]
    is_used = np.zeros(transform.n_input, dtype=bool)
    is_used[transform.features.cpu().numpy()] = True
    return is_used


def register_query(mdata: MuData, registry: Mapping[str, Any]) -> AnnDataManager:
    """Register a checked MuData by the registry of a model; modalities may be missing."""
    inputs = {role: read_input(registry, role) for role in ROLES}
    return _register(
        mdata,
        {role: source for role, (source, _) in inputs.items()},
        {role: state["kind"] for role, (_, state) in inputs.items()},
        find_covariates(registry),
        {name: registry[name] for name in ("model_name", "setup_args")},
        source_registry=registry,
    )


def _report(mdata: MuData, source: InputSource, requested: RequestedKind, kind: InputKind, scan: ValueScan) -> None:
    """Log how an input is interpreted and why, and which cells and features contain only zeros."""
    word = source.feature_word
    what = {"counts": "counts", "normalized": "normalised values", "representation": "a representation"}[kind]
    logger.info(
        f"{source.role}: {what} in {source} ({mdata.n_obs:,} cells, {scan.n_nonzero_per_column.size:,} {word}; "
        f"{describe_kind(source, requested, kind, scan)}): {get_recipe(source.role, kind)}."
    )
    if kind == "representation":
        return
    if kind == "normalized":
        for place, use in find_counts(mdata, source).items():
            logger.info(f"{source.role}: there are counts in {place}; to use them, {use}.")
    if scan.empty_columns.size:
        names = source.get_feature_names(mdata)[scan.empty_columns]
        logger.info(f"{source.role}: {names.size:,} {word} are 0 in all cells: {listing(names)}.")
    if scan.empty_rows.size:
        cells = mdata.obs_names[scan.empty_rows]
        logger.warning(f"{source.role}: {cells.size:,} cells are 0 in all {word}: {listing(cells)}.")
