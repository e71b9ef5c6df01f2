"""Input data: validation and registration of a MuData, and fitting of feature transforms."""

from __future__ import annotations

from indiseek_sc.data._covariate_fields import add_batches, find_covariates, make_fields
from indiseek_sc.data._covariates import Covariates, locate_batch, locate_covariates, read_covariates, read_levels
from indiseek_sc.data._exclude import exclude_named, exclude_recognised, find_gaps, find_not_in_batches
from indiseek_sc.data._fields import (
    MAX_MISSING,
    REGISTRY_KEY,
    InputField,
    ModalityCells,
    check_features,
    read_input,
    read_modality,
)
from indiseek_sc.data._fit_transforms import apply_transform, fit_transform, read_normalized, read_standardized
from indiseek_sc.data._matrix import (
    MatchedMatrix,
    as_readable,
    as_row_major,
    find_missing,
    iterate_blocks,
    iterate_rows,
    sum_of_each_row,
)
from indiseek_sc.data._offsets import fit_added_offset, fit_offsets
from indiseek_sc.data._scan import ValueScan
from indiseek_sc.data._source import (
    MODALITY_ARGUMENT,
    InputSource,
    complete_modalities,
    locate_source,
    relocate_source,
)
from indiseek_sc.data._structure import check_not_overwritten, check_not_swapped, check_paired, check_structure
from indiseek_sc.data._values import RequestedKind, describe_kind, examine_values, find_counts

__all__ = [
    "MAX_MISSING",
    "MODALITY_ARGUMENT",
    "REGISTRY_KEY",
    "Covariates",
    "InputField",
    "InputSource",
    "MatchedMatrix",
    "ModalityCells",
    "RequestedKind",
    "ValueScan",
    "add_batches",
    "apply_transform",
    "as_readable",
    "as_row_major",
    "check_features",
    "check_not_overwritten",
    "check_not_swapped",
    "check_paired",
    "check_structure",
    "complete_modalities",
    "examine_values",
    "exclude_named",
    "exclude_recognised",
    "find_counts",
    "find_covariates",
    "find_gaps",
    "find_missing",
    "find_not_in_batches",
    "fit_added_offset",
    "fit_offsets",
    "fit_transform",
    "iterate_blocks",
    "iterate_rows",
    "locate_batch",
    "locate_covariates",
    "locate_source",
    "make_fields",
    "read_standardized",
    "read_covariates",
    "read_input",
    "read_levels",
    "read_modality",
    "read_normalized",
    "relocate_source",
    "sum_of_each_row",
    "describe_kind",
]
