"""Batches and other covariates of cells: lookup and validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc._checks import check_several
from indiseek_sc._lookup import as_categories, find_obs, locate_obs
from indiseek_sc._text import choices, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mudata import MuData


@dataclass(frozen=True)
class Covariates:
    """Covariates of a model.

    Parameters
    ----------
    batch
        Name of the column of batches; None for a single batch.
    levels
        Levels of each categorical covariate, in the order of their indices; the batch, if any,
        comes first.
    values
        Names of continuous covariates.
    n_added
        Number of batches, at the end, that were added after training.
    """

    batch: str | None
    levels: Mapping[str, Sequence[str]]
    values: Sequence[str] = ()
    n_added: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there are no covariates."""
        return not (self.levels or self.values)

    @property
    def others(self) -> dict[str, list[str]]:
        """Names of covariates other than the batch, by argument of the set-up."""
        return {
            "categorical_covariate_keys": [name for name in self.levels if name != self.batch],
            "continuous_covariate_keys": list(self.values),
        }

    @property
    def learned_batches(self) -> list[str]:
        """Batches that the model is trained on."""
        batches = [] if self.batch is None else list(self.levels[self.batch])
        return batches[: len(batches) - self.n_added]

    @property
    def n_levels(self) -> list[int]:
        """Numbers of levels in training; first, the number of batches, which is at least 1."""
        batches = [] if self.batch is not None else [1]
        numbers = [len(levels) - self.n_added * (name == self.batch) for name, levels in self.levels.items()]
        return batches + numbers


def locate_batch(mdata: MuData, batch_key: str | None, modality: str | None) -> str | None:
    """Return the full name of the column of batches, see :func:`indiseek_sc._lookup.find_obs`.

    Parameters
    ----------
    mdata
        The data.
    batch_key
        Name of the column, with or without the prefix ``"<modality>:"``.
    modality
        The modality that must contain it, if the user named one.

    Raises
    ------
    ValueError
        If there is no such column, or modalities disagree about it.
    """
    if batch_key is None:
        return None
    if modality is not None and modality not in mdata.mod:
        raise ValueError(
            f"modalities['batch_key']: no modality {modality!r} in mdata. {choices(str(modality), list(mdata.mod))}"
        )
    if modality is not None and isinstance(batch_key, str):
        column = batch_key.removeprefix(f"{modality}:")
        if column not in mdata.mod[modality].obs:
            raise ValueError(
                f"batch_key={batch_key!r}: there is no such column (mdata[{modality!r}].obs[{column!r}]). "
                f"{choices(column, [name for name in mdata.mod[modality].obs if '_scvi_' not in name])}"
            )
        return f"{modality}:{column}"
    return _locate(mdata, batch_key, "batch_key")


def _locate(mdata: MuData, key: str, argument: str) -> str:
    try:
        find_obs(mdata, key, argument)
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    return str(key)


def locate_covariates(
    mdata: MuData,
    batch: str | None,
    categorical_covariate_keys: Iterable[str] | None,
    continuous_covariate_keys: Iterable[str] | None,
) -> Covariates:
    """Find the columns named in the set-up, and the levels of categorical ones.

    Parameters
    ----------
    mdata
        The data.
    batch
        Name returned by :func:`locate_batch`.
    categorical_covariate_keys, continuous_covariate_keys
        Names given by the user.

    Raises
    ------
    ValueError
        If a column does not exist, is named twice, lacks values of cells, or is continuous but not
        numeric.
    """
    categories, values = (
        [_locate(mdata, key, argument) for key in check_several(argument, () if given is None else given)]
        for argument, given in (
            ("categorical_covariate_keys", categorical_covariate_keys),
            ("continuous_covariate_keys", continuous_covariate_keys),
        )
    )
    names = [*([] if batch is None else [batch]), *categories, *values]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(
            f"batch_key, categorical_covariate_keys and continuous_covariate_keys name {twice[0]!r} more than once. Name it in one of them."
        )
    levels = {name: list(read_levels(mdata, name, "categorical_covariate_keys").cat.categories) for name in categories}
    if batch is not None:
        levels = {batch: list(read_levels(mdata, batch).cat.categories)} | levels
    for name in values:
        _read_values(mdata, name, mdata.obs_names)
    return Covariates(batch, levels, values)


def read_covariates(mdata: MuData, covariates: Covariates, cells: pd.Index | None = None) -> np.ndarray:
    """Return the covariates of cells in the encoding of the model.

    Parameters
    ----------
    mdata
        The data. If they lack the modality in a name, the column is looked up without this prefix.
    covariates
        Covariates of the model.
    cells
        Names of the requested cells; all by default.

    Returns
    -------
    Indices of levels of categorical covariates, followed by values of continuous covariates, shape
    ``(n_cells, n_categories + n_values)``. The first column is the batch, 0 without batches.

    Raises
    ------
    ValueError
        If a column does not exist, a cell has no value, or a level is unknown.
    """
    cells = mdata.obs_names if cells is None else cells
    columns = [] if covariates.batch is not None else [np.zeros(len(cells))]
    for name, levels in covariates.levels.items():
        argument = "batch_key" if name == covariates.batch else "categorical_covariate_keys"
        columns.append(read_levels(mdata, name, argument, cells, levels).cat.codes.to_numpy(np.float64))
    columns += [_read_values(mdata, name, cells) for name in covariates.values]
    return np.stack(columns, axis=1)


def read_levels(
    mdata: MuData,
    name: str,
    argument: str = "batch_key",
    cells: pd.Index | None = None,
    known: Sequence[str] | np.ndarray | None = None,
) -> pd.Series:
    """Return the level of a categorical covariate, such as the batch, of each cell.

    Parameters
    ----------
    mdata
        The data.
    name
        Name returned by :func:`locate_batch`.
    argument
        Argument of the set-up that named it.
    cells
        Names of the requested cells; all by default.
    known
        Levels of the model, which become the categories; any by default.

    Raises
    ------
    ValueError
        If the column does not exist, or a cell has no level or an unknown one.
    """
    values, place = _read(mdata, name, argument, cells)
    levels, word = as_categories(values), "batch" if argument == "batch_key" else "level"
    if known is None:
        return levels
    unknown = [level for level in levels.cat.categories if level not in set(known)]
    if unknown:
        plural = "batches" if word == "batch" else "levels"
        remedy = (
            "Estimate their offsets: model = IndiSeek.load_query_data(mdata, model); or leave these cells out, or set up and train with them."
            if word == "batch"
            else "Leave these cells out, or set up and train with them."
        )
        raise ValueError(
            f"{argument}: {int(levels.isin(unknown).sum()):,} cells of {place} are of {plural} unknown to the "
            f"model: {listing(unknown)}. Known: {listing(known)}. {remedy}"
        )
    return levels.cat.set_categories(list(known))


def _read_values(mdata: MuData, name: str, cells: pd.Index) -> np.ndarray:
    """Return the values of a continuous covariate, shape ``(n_cells,)``."""
    argument = "continuous_covariate_keys"
    found, place = _read(mdata, name, argument, cells)
    given = found.astype(object)
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    wrong = found.index if found.dtype.kind == "b" else found.index[~np.isfinite(numbers)]
    if wrong.size:
        raise ValueError(
            f"{argument}: {place} is not a finite number for {wrong.size:,} cells: {given[wrong[0]]!r} for {listing(wrong)}. "
            "Correct the values, or name a categorical column in categorical_covariate_keys."
        )
    return numbers.to_numpy()


def _read(mdata: MuData, name: str, argument: str, cells: pd.Index | None) -> tuple[pd.Series, str]:
    """Return the column of a covariate, with a value for each cell, and its location."""
    place = name
    try:
        place = " and ".join(map(str, locate_obs(mdata, name, argument)))
        values = find_obs(mdata, name, argument, cells)
    except KeyError as error:
        short = _read_by_short_name(mdata, name, argument, cells)
        if short is None:
            what = "a batch" if argument == "batch_key" else "a covariate"
            raise ValueError(f"The model was set up with {what}, but {error.args[0]} Add the column.") from None
        values = short
    if values.isna().any() and (rest := _read_by_short_name(mdata, name, argument, cells)) is not None:
        values = values.astype(object).where(values.notna(), rest.astype(object))
    missing = values.index[values.isna()]
    if missing.size:
        what = "batch" if argument == "batch_key" else "value"
        raise ValueError(
            f"{argument}: {missing.size:,} cells have no {what} in {place}: {listing(missing)}. "
            "Fill it in, or remove the cells."
        )
    return values, place


def _read_by_short_name(mdata: MuData, name: str, argument: str, cells: pd.Index | None) -> pd.Series | None:
    """Return the column without the modality as prefix, if it exists."""
    try:
        return find_obs(mdata, name.partition(":")[2], argument, cells)
    except KeyError:
        return None
