"""The input side: checks and registration of a MuData, and fitting of feature transforms."""

from __future__ import annotations

from indiseek_sc.data._fields import InputField, read_batch, read_input
from indiseek_sc.data._fit_batch_offsets import fit_batch_offsets
from indiseek_sc.data._fit_transforms import apply_transform, fit_transform, read_coordinates, read_normalized
from indiseek_sc.data._matrix import iterate_rows
from indiseek_sc.data._one_modality import ModalityCells, read_modality
from indiseek_sc.data._source import InputSource

__all__ = [
    "InputField",
    "InputSource",
    "ModalityCells",
    "apply_transform",
    "fit_batch_offsets",
    "fit_transform",
    "iterate_rows",
    "read_batch",
    "read_coordinates",
    "read_input",
    "read_modality",
    "read_normalized",
]
