"""From the cells of a MuData to tensors on the device, and what a model remembers of the cells that it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from indiseek_sc._checks import check_name
from indiseek_sc._text import listing
from indiseek_sc.data import (
    apply_transform,
    as_readable,
    as_row_major,
    find_missing,
    iterate_blocks,
    read_input,
    sum_of_each_row,
)
from indiseek_sc.module import COVARIATE_KEYS
from indiseek_sc.train import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.module import IndiSeekModule

PARTS = ("train", "validation", "test")


def require(model: IndiSeek, stage: str) -> None:
    """Raise a RuntimeError unless a stage is trained."""
    if stage not in model.stages_:
        raise RuntimeError(
            f"The {stage} representations are not trained yet. Call model.train() first"
            + (f", or go on with model.train(stages=({stage!r},))." if model.stages_ else ".")
        )


def find_role(model: IndiSeek, modality: str | None, argument: str = "modality") -> Role:
    """Return the name within the module of a modality that the user named.

    Raises
    ------
    ValueError
        If the model has no such modality.
    """
    roles = {name: role for role, name in model.modalities.items()}
    return roles[check_name(argument, modality, roles)]


def as_rows(given: Any, cells: pd.Index, argument: str = "indices") -> np.ndarray:
    """Return row numbers as they are meant: numbers or names in any order, one of them, a mask, or what ``numpy.where`` returns.

    Parameters
    ----------
    given
        What the user gave; all rows if None. A mask with an index of names is of the cells of these names.
    cells
        Names of the cells.
    argument
        Name of the argument, for error messages.

    Returns
    -------
    Row numbers from 0, shape ``(n_rows,)``.

    Raises
    ------
    ValueError
        If a mask has another length, names are unknown, or numbers are not whole, or out of range.
    """
    if given is None:
        return np.arange(cells.size)
    try:
        rows = _as_array(given, cells)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{argument} must be one list of cells or a mask, but is {given!r}.") from error
    if rows.ndim > 1:
        raise ValueError(f"{argument} must be one list of cells or a mask, but has shape {rows.shape}.")
    if rows.dtype == bool:
        if rows.shape != (cells.size,):
            raise ValueError(f"{argument}: a mask needs one value a cell ({cells.size}), but has shape {rows.shape}.")
        return np.flatnonzero(rows)
    if rows.size == 0:
        return rows.astype(np.int64)
    if rows.dtype.kind in "UT":
        return _find_names(rows, cells, argument)
    if not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"{argument} must be whole row numbers, names of cells or a mask, but are of type {rows.dtype}."
        )
    n_cells = cells.size
    if rows.min() < -n_cells or rows.max() >= n_cells:
        raise ValueError(
            f"{argument} must lie below the number of cells, {n_cells}, but reach {rows.min()} to {rows.max()}."
        )
    rows = rows.astype(np.int64)
    return np.where(rows < 0, rows + n_cells, rows)


def _as_array(given: Any, cells: pd.Index) -> np.ndarray:
    """Return what a user gave as an array of numbers, names or truth values."""
    if isinstance(given, tuple) and len(given) == 1 and np.ndim(given[0]) == 1:
        given = given[0]  # what numpy.where returns for one axis
    if isinstance(given, pd.Series) and pd.api.types.is_bool_dtype(given.dtype):
        mask = given.to_numpy(dtype=bool, na_value=False)
        is_named = given.index.isin(cells).any() and not given.index.equals(cells)
        given = given.index[mask] if is_named else mask
    values = np.atleast_1d(np.asarray(given))
    return np.array(values.tolist()) if values.dtype == object else values


def _find_names(names: np.ndarray, cells: pd.Index, argument: str) -> np.ndarray:
    rows = cells.get_indexer(names)
    if (rows < 0).any():
        unknown = names[rows < 0]
        raise ValueError(
            f"{argument}: {unknown.size:,} names are of no cell: {listing(unknown.tolist())}. "
            f"Cells are called such as {listing(cells[:2])}."
        )
    return rows.astype(np.int64)


def get_matrix(model: IndiSeek, mdata: MuData, role: Role) -> Any:
    """Return the raw values of a modality that the model reads, a row for each cell of ``mdata``: of 0 where it lacks the modality."""
    return read_input(model.registry_, role)[0].get_values(mdata, mdata.obs_names)


def find_cells(model: IndiSeek, mdata: MuData, roles: Iterable[Role]) -> np.ndarray:
    """Return which cells have all of some modalities, shape ``(n_cells,)``."""
    has = np.ones(mdata.n_obs, dtype=bool)
    for role in roles:
        name = model.modalities[role]
        has &= mdata.obs_names.isin(mdata.mod[name].obs_names) if name in mdata.mod else False
    return has


def get_row_major(model: IndiSeek, mdata: MuData) -> dict[Role, Any]:
    """Return the raw values of all modalities for reading by rows; compressed columns, which are copied here, would be at each reading."""
    return {role: as_row_major(get_matrix(model, mdata, role)) for role in model.modalities}


def get_design(model: IndiSeek, mdata: MuData, rows: np.ndarray, module: IndiSeekModule | None = None) -> torch.Tensor:
    """Return the covariates of some cells of registered data, shape ``(n_rows, n_columns)``, by the model's module or another one."""
    module = model.module if module is None else module
    return module.design(get_covariates(model, mdata, rows).to(module.device))


def get_covariates(model: IndiSeek, mdata: MuData, rows: np.ndarray) -> torch.Tensor:
    """Return the covariates of some cells of registered data as a design takes them, shape ``(n_rows, n_covariates)``."""
    manager = model.get_anndata_manager(mdata, required=True)
    found = [
        np.asarray(manager.get_from_registry(key)).reshape(mdata.n_obs, -1)[rows]
        for key in COVARIATE_KEYS
        if key in manager.data_registry
    ]
    return torch.from_numpy(np.hstack(found).astype(np.float32))


def compute_features(
    module: IndiSeekModule, role: Role, matrix: Any, rows: np.ndarray, design: torch.Tensor
) -> torch.Tensor:
    """Turn raw values of some cells into what encoders read: features, less what the covariates of each cell add to them.

    Parameters
    ----------
    module
        Its transforms and offsets are fitted.
    role
        Which modality the values are of.
    matrix
        Raw values, shape ``(n_cells, n_input)``.
    rows
        Row numbers, shape ``(n_rows,)``.
    design
        Covariates of these rows, shape ``(n_rows, n_columns)``.

    Returns
    -------
    Shape ``(n_rows, n_output)``, on the device of the module.
    """
    transform = module.transforms[role]
    features = module.covariate_offsets[role](apply_transform(transform, matrix, rows), design)
    if transform.components is None and (is_missing := find_missing(matrix)) is not None:
        features[:, is_missing[transform.features.cpu().numpy()]] = 0.0  # the mean in any batch
    return features


def read_features(
    model: IndiSeek,
    mdata: MuData,
    role: Role,
    rows: np.ndarray,
    module: IndiSeekModule | None = None,
    matrix: Any = None,
) -> torch.Tensor:
    """Return the features of some cells of registered data, by the model's module or another one.

    ``matrix`` are the raw values where they are at hand, such as in compressed rows: compressed columns are turned at each call.

    Raises
    ------
    ValueError
        If a feature is not finite, since values changed after the set-up.
    """
    module = model.module if module is None else module
    design = get_design(model, mdata, rows, module)
    matrix = get_matrix(model, mdata, role) if matrix is None else matrix
    features = compute_features(module, role, matrix, rows, design)
    # The extremes are not finite where any value is not, and need no second tensor of all.
    if features.numel() and not torch.stack(torch.aminmax(features)).isfinite().all():
        cells = mdata.obs_names[rows[(~torch.isfinite(features).all(dim=1)).cpu().numpy()]]
        raise ValueError(
            f"mdata[{model.modalities[role]!r}]: the values of {cells.size:,} cells are not finite, or too large: "
            f"{listing(cells)}. They were changed after setup_mudata; fill them in, or leave these cells out."
        )
    return features


def sum_rows(matrix: Any) -> np.ndarray:
    """Return the sum of the absolute values of each cell, shape ``(n_cells,)``: what cells of one name are told apart by.

    Values as they are would not do: those that are centred within the cell have a sum of 0, but for rounding.
    """
    sums = np.zeros(matrix.shape[0])
    for row, _, block in iterate_blocks(as_readable(matrix)):
        sums[row : row + block.shape[0]] += sum_of_each_row(abs(block))
    return sums


def remember_cells(model: IndiSeek, mdata: MuData, split: Split) -> dict[str, Any]:
    """Return what a model keeps of the cells that it is trained on: by name, so that no order and no selection can mix them up."""
    rows = np.sort(np.concatenate([split.train, split.validation, split.test]))
    return {
        "cells": mdata.obs_names.to_numpy().astype(str)[rows],
        "part": pd.Categorical(split.as_column(mdata.n_obs)[rows], categories=PARTS).codes,
        "sums": {role: sum_rows(get_matrix(model, mdata, role))[rows] for role in model.modalities},
    }


def find_split(model: IndiSeek, mdata: MuData, known: Mapping[str, Any] | None = None) -> Split:
    """Return which cells of registered data the model was trained on, chose by and left alone; it knows nothing of the others.

    A cell is one of the model's own if it has the name of one, and its values of all modalities have the same sums: barcodes of
    different sequencing runs may coincide. ``known`` are the cells of another model, if not those of this one.
    """
    known = model.split_ if known is None else known
    place = pd.Index(known["cells"]).get_indexer(mdata.obs_names.astype(str))
    is_own = (place >= 0) & find_cells(model, mdata, model.modalities)
    for role, sums in known["sums"].items():
        if is_own.any():
            found = sum_rows(get_matrix(model, mdata, role))
            is_own[is_own] = np.isclose(found[is_own], sums[place[is_own]], rtol=1e-4)
    part = np.where(is_own, known["part"][place], -1)
    return Split(*(np.flatnonzero(part == number) for number in range(len(PARTS))))


def count_cells(model: IndiSeek) -> dict[str, int]:
    """Return how many cells of each part the model was trained with."""
    return dict(zip(PARTS, np.bincount(model.split_["part"], minlength=len(PARTS)).tolist(), strict=True))


def require_own_cells(model: IndiSeek, mdata: MuData, parts: Sequence[str], purpose: str) -> Split:
    """Return the split of registered data, which must hold all cells of some parts.

    Raises
    ------
    RuntimeError
        If it does not.
    """
    split, wanted = find_split(model, mdata), count_cells(model)
    lacking = {part: wanted[part] - getattr(split, part).size for part in parts}
    if any(lacking.values()):
        listed = " and ".join(f"{n:,} of {wanted[part]:,} {part} cells" for part, n in lacking.items() if n)
        raise RuntimeError(
            f"{purpose} needs the cells that the model was trained with, but the data lack {listed} (by name and values). "
            "Load the model beside them: load(..., adata=mdata)."
        )
    return split


def evaluation_parts(model: IndiSeek) -> tuple[str, ...]:
    """Return the parts that probes read: the test cells, or the validation cells where none were held out."""
    return PARTS if count_cells(model)["test"] else PARTS[:2]


def describe_settings(model: IndiSeek) -> Mapping[str, Any]:
    """Return all settings by the names that a user gives them, as values that can be written to a file."""
    first = model.module.modalities[0]
    return {
        **{name: value for name, value in model.settings.describe().items() if name != "lambda_"},
        "independence": "+".join(model.module.critics[first].critics),  # objects cannot be written to a file
        "lambda": model.lambda_,
        "seed": model.seed,
    }
