"""Reading cells of a MuData as tensors, and the record of the cells that a model was trained on."""

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
"""Parts of the split, in the order of their codes in the record of the cells."""


def require(model: IndiSeek, stage: str) -> None:
    """Raise a RuntimeError if a stage is not trained."""
    if stage not in model.stages_:
        raise RuntimeError(
            f"The {stage} representations are not trained yet. Call model.train() first"
            + (f", or model.train(stages=({stage!r},))." if model.stages_ else ".")
        )


def find_role(model: IndiSeek, modality: str | None, argument: str = "modality") -> Role:
    """Return the role of a modality, given by its name in the MuData.

    Raises
    ------
    ValueError
        If the model has no such modality.
    """
    roles = {name: role for role, name in model.modalities.items()}
    return roles[check_name(argument, modality, roles)]


def as_rows(given: Any, cells: pd.Index, argument: str = "indices") -> np.ndarray:
    """Return row numbers for row numbers, names or a mask as given by the user.

    Parameters
    ----------
    given
        Row numbers or names in any order, a single one of them, a mask, or the result of
        ``numpy.where``; all rows if None. A mask that is a Series is aligned by its index of cell
        names.
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
        If a mask has a wrong length, a name is unknown, or a number is not an integer or out of
        range.
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
            raise ValueError(f"{argument}: a mask needs one value per cell ({cells.size}), but has shape {rows.shape}.")
        return np.flatnonzero(rows)
    if rows.size == 0:
        return rows.astype(np.int64)
    if rows.dtype.kind in "UT":
        return _find_names(rows, cells, argument)
    if not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"{argument} must be row numbers (integers), names of cells or a mask, but are of type {rows.dtype}."
        )
    n_cells = cells.size
    if rows.min() < -n_cells or rows.max() >= n_cells:
        raise ValueError(
            f"{argument} must lie below the number of cells, {n_cells}, but reach {rows.min()} to {rows.max()}."
        )
    rows = rows.astype(np.int64)
    return np.where(rows < 0, rows + n_cells, rows)


def _as_array(given: Any, cells: pd.Index) -> np.ndarray:
    """Return the given rows as an array of numbers, names or booleans."""
    if isinstance(given, tuple) and len(given) == 1 and np.ndim(given[0]) == 1:
        given = given[0]  # result of numpy.where for one axis
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
            f"{argument}: {unknown.size:,} names are not names of cells: {listing(unknown.tolist())}. "
            f"Names of cells are, for example, {listing(cells[:2])}."
        )
    return rows.astype(np.int64)


def get_matrix(model: IndiSeek, mdata: MuData, role: Role) -> Any:
    """Return the raw values of a modality, one row for each cell of ``mdata``.

    Rows of cells without the modality are 0.
    """
    return read_input(model.registry_, role)[0].get_values(mdata, mdata.obs_names)


def find_cells(model: IndiSeek, mdata: MuData, roles: Iterable[Role]) -> np.ndarray:
    """Return a mask of the cells that have all given modalities, shape ``(n_cells,)``."""
    has = np.ones(mdata.n_obs, dtype=bool)
    for role in roles:
        name = model.modalities[role]
        has &= mdata.obs_names.isin(mdata.mod[name].obs_names) if name in mdata.mod else False
    return has


def get_row_major(model: IndiSeek, mdata: MuData) -> dict[Role, Any]:
    """Return the raw values of all modalities in a form that can be read by rows.

    Matrices in compressed columns are converted here, once instead of at each access.
    """
    return {role: as_row_major(get_matrix(model, mdata, role)) for role in model.modalities}


def get_design(model: IndiSeek, mdata: MuData, rows: np.ndarray, module: IndiSeekModule | None = None) -> torch.Tensor:
    """Return the design matrix of cells of registered data, shape ``(n_rows, n_columns)``.

    ``module`` is the model's module if not given.
    """
    module = model.module if module is None else module
    return module.design(get_covariates(model, mdata, rows).to(module.device))


def get_covariates(model: IndiSeek, mdata: MuData, rows: np.ndarray) -> torch.Tensor:
    """Return the covariates of cells of registered data, shape ``(n_rows, n_covariates)``.

    They are the input of the module's ``design``: indices of levels, and values.
    """
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
    """Compute the input of the encoders from raw values: features minus covariate offsets.

    Parameters
    ----------
    module
        Module with fitted transforms and offsets.
    role
        Role of the modality.
    matrix
        Raw values, shape ``(n_cells, n_input)``.
    rows
        Row numbers, shape ``(n_rows,)``.
    design
        Design matrix of these rows, shape ``(n_rows, n_columns)``.

    Returns
    -------
    Features, shape ``(n_rows, n_output)``, on the device of the module.
    """
    transform = module.transforms[role]
    features = module.covariate_offsets[role](apply_transform(transform, matrix, rows), design)
    if transform.components is None and (is_missing := find_missing(matrix)) is not None:
        features[:, is_missing[transform.features.cpu().numpy()]] = 0.0  # the mean in each batch
    return features


def read_features(
    model: IndiSeek,
    mdata: MuData,
    role: Role,
    rows: np.ndarray,
    module: IndiSeekModule | None = None,
    matrix: Any = None,
) -> torch.Tensor:
    """Return the features of cells of registered data.

    Parameters
    ----------
    model
        The model.
    mdata
        The registered data.
    role
        Role of the modality.
    rows
        Row numbers, shape ``(n_rows,)``.
    module
        Module that computes the features; the model's module if not given.
    matrix
        Raw values of all cells, in a form that can be read by rows; read from ``mdata`` if not
        given, which converts compressed columns at each call.

    Returns
    -------
    Features, shape ``(n_rows, n_output)``, on the device of the module.

    Raises
    ------
    ValueError
        If a feature is not finite because values were changed after the set-up.
    """
    module = model.module if module is None else module
    design = get_design(model, mdata, rows, module)
    matrix = get_matrix(model, mdata, role) if matrix is None else matrix
    features = compute_features(module, role, matrix, rows, design)
    # Minimum and maximum are finite only if all values are; they need no second large tensor.
    if features.numel() and not torch.stack(torch.aminmax(features)).isfinite().all():
        cells = mdata.obs_names[rows[(~torch.isfinite(features).all(dim=1)).cpu().numpy()]]
        raise ValueError(
            f"mdata[{model.modalities[role]!r}]: the values of {cells.size:,} cells are not finite, or too large: "
            f"{listing(cells)}. They were changed after setup_mudata; replace them, or leave these cells out."
        )
    return features


def sum_rows(matrix: Any) -> np.ndarray:
    """Return the sum of the absolute values of each cell, shape ``(n_cells,)``.

    Sums distinguish cells with equal names. Absolute values are needed since values centred within
    the cell add up to 0, except for rounding.
    """
    sums = np.zeros(matrix.shape[0])
    for row, _, block in iterate_blocks(as_readable(matrix)):
        sums[row : row + block.shape[0]] += sum_of_each_row(abs(block))
    return sums


def remember_cells(model: IndiSeek, mdata: MuData, split: Split) -> dict[str, Any]:
    """Return a record of the cells that a model is trained on: names, parts and sums of values.

    Cells are identified by name, so that data in another order, or a subset, can be given later.
    """
    rows = np.sort(np.concatenate([split.train, split.validation, split.test]))
    return {
        "cells": mdata.obs_names.to_numpy().astype(str)[rows],
        "part": pd.Categorical(split.as_column(mdata.n_obs)[rows], categories=PARTS).codes,
        "sums": {role: sum_rows(get_matrix(model, mdata, role))[rows] for role in model.modalities},
    }


def find_split(model: IndiSeek, mdata: MuData, known: Mapping[str, Any] | None = None) -> Split:
    """Return the training, validation and test cells of a model among those of registered data.

    A cell is identified by its name and by the sums of its values in all modalities, since barcodes
    of different sequencing runs may coincide. Cells that the model was not trained with are in no
    part.

    Parameters
    ----------
    model
        The model.
    mdata
        The registered data.
    known
        Record returned by :func:`remember_cells`; that of ``model`` if not given.
    """
    known = model.split_ if known is None else known
    position = pd.Index(known["cells"]).get_indexer(mdata.obs_names.astype(str))
    is_own = (position >= 0) & find_cells(model, mdata, model.modalities)
    for role, sums in known["sums"].items():
        if is_own.any():
            found = sum_rows(get_matrix(model, mdata, role))
            is_own[is_own] = np.isclose(found[is_own], sums[position[is_own]], rtol=1e-4)
    part = np.where(is_own, known["part"][position], -1)
    return Split(*(np.flatnonzero(part == number) for number in range(len(PARTS))))


def count_cells(model: IndiSeek) -> dict[str, int]:
    """Return the numbers of training, validation and test cells of the model."""
    return dict(zip(PARTS, np.bincount(model.split_["part"], minlength=len(PARTS)).tolist(), strict=True))


def require_own_cells(model: IndiSeek, mdata: MuData, parts: Sequence[str], purpose: str) -> Split:
    """Return the split of registered data, which must contain all cells of the given parts.

    Raises
    ------
    RuntimeError
        If cells are missing.
    """
    split, wanted = find_split(model, mdata), count_cells(model)
    lacking = {part: wanted[part] - getattr(split, part).size for part in parts}
    if any(lacking.values()):
        listed = " and ".join(f"{n:,} of {wanted[part]:,} {part} cells" for part, n in lacking.items() if n)
        raise RuntimeError(
            f"{purpose} needs the cells that the model was trained with, but the data lack {listed} (by name and values). "
            "Load the model with these cells: load(..., adata=mdata)."
        )
    return split


def evaluation_parts(model: IndiSeek) -> tuple[str, ...]:
    """Return the parts that an evaluation needs; test cells only if cells were held out."""
    return PARTS if count_cells(model)["test"] else PARTS[:2]


def describe_settings(model: IndiSeek) -> Mapping[str, Any]:
    """Return all settings by the names of the arguments, as values that a file can hold."""
    first = model.module.modalities[0]
    return {
        **{name: value for name, value in model.settings.describe().items() if name != "lambda_"},
        **model.train_settings_,
        "independence": "+".join(model.module.critics[first].critics),  # names, not objects
        "lambda": model.lambda_,
        "seed": model.seed,
    }
