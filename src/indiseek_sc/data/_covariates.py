"""Batches and other covariates of cells: where they are stated, and whether they can be used."""

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
    """The covariates that a model takes into account.

    Parameters
    ----------
    batch
        The name by which batches are read; none if cells are of one batch.
    levels
        The levels of each categorical covariate by its name, in the order of their numbers: of the batch first, if there is one.
    values
        The names of continuous covariates.
    n_added
        How many of the batches, the last ones, were added after the training.
    """

    batch: str | None
    levels: Mapping[str, Sequence[str]]
    values: Sequence[str] = ()
    n_added: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not (self.levels or self.values)

    @property
    def others(self) -> dict[str, list[str]]:
        """The names of covariates other than the batch, by the argument of the set-up that names them."""
        return {
            "categorical_covariate_keys": [name for name in self.levels if name != self.batch],
            "continuous_covariate_keys": list(self.values),
        }

    @property
    def learned_batches(self) -> list[str]:
        """The batches that the model learns from."""
        batches = [] if self.batch is None else list(self.levels[self.batch])
        return batches[: len(batches) - self.n_added]

    @property
    def n_levels(self) -> list[int]:
        """Number of levels that the model learns from, the batch first, which has one if there is none."""
        batches = [] if self.batch is not None else [1]
        numbers = [len(levels) - self.n_added * (name == self.batch) for name, levels in self.levels.items()]
        return batches + numbers


def locate_batch(mdata: MuData, batch_key: str | None, modality: str | None) -> str | None:
    """Return the name by which batches are read from now on, see :func:`indiseek_sc._lookup.find_obs`.

    Parameters
    ----------
    mdata
        The data.
    batch_key
        Name of the column, with or without ``"<modality>:"`` before it.
    modality
        The modality that it must be in, if the user named one.

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
    """Find the columns that the arguments of the set-up name, and the levels of those that are categories.

    Parameters
    ----------
    mdata
        The data.
    batch
        What :func:`locate_batch` returned.
    categorical_covariate_keys, continuous_covariate_keys
        As the user gave them.

    Raises
    ------
    ValueError
        If there is no such column, one is named twice, a cell has no value, or a continuous one is not a number.
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
    """Return the covariates of cells as the model reads them.

    Parameters
    ----------
    mdata
        The data. Other data may lack the modality that a name begins with; then the rest of the name counts.
    covariates
        What the model takes into account.
    cells
        Names of the cells that are asked about; all if not given.

    Returns
    -------
    The numbers of the levels of all categories, and the values of continuous covariates beside it, shape
    ``(n_cells, n_categories + n_values)``. The first column is the batch, of zeros if there is none.

    Raises
    ------
    ValueError
        If there is no such column, a cell has no value, or a level is not known.
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
    """Return the batch of each cell, or its level of another category.

    Parameters
    ----------
    mdata
        The data.
    name
        As :func:`locate_batch` returned it.
    argument
        Which argument of the set-up named it.
    cells
        Names of the cells that are asked about; all if not given.
    known
        The levels of the model, which the categories are then; any if not given.

    Raises
    ------
    ValueError
        If there is no such column, or a cell has no level or an unknown one.
    """
    values, place = _read(mdata, name, argument, cells)
    levels, word = as_categories(values), "batch" if argument == "batch_key" else "level"
    if known is None:
        return levels
    unknown = [level for level in levels.cat.categories if level not in set(known)]
    if unknown:
        plural = "batches" if word == "batch" else "levels"
        remedy = (
            "Have what they add estimated: model = IndiSeek.load_query_data(mdata, model); or leave these cells out, or set up and train with them."
            if word == "batch"
            else "Leave these cells out, or set up and train with them."
        )
        raise ValueError(
            f"{argument}: {int(levels.isin(unknown).sum()):,} cells of {place} are of {plural} that the model does not "
            f"know: {listing(unknown)}. It knows: {listing(known)}. {remedy}"
        )
    return levels.cat.set_categories(list(known))


def _read_values(mdata: MuData, name: str, cells: pd.Index) -> np.ndarray:
    """The values of a continuous covariate, shape ``(n_cells,)``."""
    argument = "continuous_covariate_keys"
    found, place = _read(mdata, name, argument, cells)
    given = found.astype(object)
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    wrong = found.index if found.dtype.kind == "b" else found.index[~np.isfinite(numbers)]
    if wrong.size:
        raise ValueError(
            f"{argument}: {place} is no finite number for {wrong.size:,} cells: {given[wrong[0]]!r} for {listing(wrong)}. "
            "Correct the values, or name a column of levels in categorical_covariate_keys."
        )
    return numbers.to_numpy()


def _read(mdata: MuData, name: str, argument: str, cells: pd.Index | None) -> tuple[pd.Series, str]:
    """The column of a covariate, which has a value for each cell, and where it is."""
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
    """The column without the modality in front of its name, if there is one."""
    try:
        return find_obs(mdata, name.partition(":")[2], argument, cells)
    except KeyError:
        return None
