"""What lies in a MuData beside its modalities: the one reader of columns that a user names (batches, labels, colours, weights), and a copy of it all."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

from indiseek_sc._text import listing, near_miss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData

_N_SHOWN = 20


@dataclass(frozen=True)
class ObsColumn:
    """A column of ``obs``.

    Parameters
    ----------
    key
        Its name there.
    modality
        The modality whose ``obs`` it is in; none for that of the MuData.
    """

    key: str
    modality: str | None = None

    @property
    def name(self) -> str:
        """What a user calls it."""
        return self.key if self.modality is None else f"{self.modality}:{self.key}"

    def __str__(self) -> str:
        holder = "mdata" if self.modality is None else f"mdata[{self.modality!r}]"
        return f"{holder}.obs[{self.key!r}]"

    def get_values(self, mdata: MuData, cells: pd.Index | None = None) -> pd.Series:
        """Return one value for each of ``cells``, by default all of ``mdata``; missing where there is no such cell."""
        cells = mdata.obs_names if cells is None else cells
        values = (mdata if self.modality is None else mdata.mod[self.modality]).obs[self.key]
        if values.index.equals(cells):
            return values.copy()
        if not values.index.is_unique:
            repeated = values.index[values.index.duplicated()].unique()
            raise ValueError(
                f"{self}: {repeated.size:,} names of cells occur more than once: {listing(repeated)}. "
                "Name them apart in every modality, for instance by their batch, and build the MuData again."
            )
        if values.dtype.kind in "iub":  # whole numbers and truth values stay what they are where cells are missing
            values = values.convert_dtypes()
        return values.reindex(cells)


def check_mdata(mdata: object, argument: str = "mdata") -> None:
    """Raise a TypeError unless ``mdata``, which was given as ``argument``, is a MuData."""
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"{argument} must be a MuData, but is {type(mdata).__name__}. Give the one with both modalities, to which "
            f"model.write_latents({argument}) wrote."
        )


def with_modalities(mdata: MuData, parts: Mapping[str, AnnData]) -> MuData:
    """Return a MuData with other modalities and the ``obs``, ``obsm`` and ``uns`` of ``mdata``.

    Parameters
    ----------
    mdata
        Source of ``obs``, ``obsm`` and ``uns``; it is not changed.
    parts
        Modalities by name, with the same cells.
    """
    return join_modalities(parts, mdata.obs, {k: x for k, x in mdata.obsm.items() if k not in mdata.mod}, mdata.uns)


def join_modalities(
    parts: Mapping[str, AnnData], obs: pd.DataFrame, obsm: Mapping[str, Any], uns: Mapping[str, Any] | None = None
) -> MuData:
    """Return a MuData of modalities and annotations of its cells.

    Parameters
    ----------
    parts
        Modalities by name.
    obs
        Columns of the cells, in the order that the MuData will have.
    obsm
        Arrays with one row per row of ``obs``, without the masks that MuData keeps under the names of
        its modalities.
    uns
        Unstructured annotations.
    """
    made = MuData(dict(parts))
    if not made.obs_names.equals(obs.index):
        made = made[obs.index].copy()
    for column in obs.columns.difference(made.obs.columns, sort=False):
        made.obs[column] = obs[column]
    for key, value in obsm.items():
        made.obsm[key] = value
    made.uns.update(uns or {})
    return made


def locate_obs(mdata: MuData, key: str, argument: str) -> list[ObsColumn]:
    """Find the columns that a name means: one, or those of this name of several modalities.

    ``"rna:cell_type"`` is the column ``cell_type`` of the modality ``rna``, whatever copy of it MuData keeps under the
    longer name. Another name is sought in ``mdata.obs``, then in the obs of each modality.

    Parameters
    ----------
    mdata
        Where to look.
    key
        Name of the column, with or without the modality in front of it.
    argument
        Name of the argument that ``key`` was given as, for error messages.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If ``key`` is not one name.
    """
    if not isinstance(key, str):
        raise ValueError(_not_one_name(mdata, key, argument))
    key = str(key)
    for name in mdata.mod:
        if key.startswith(f"{name}:") and (column := key.removeprefix(f"{name}:")) in mdata.mod[name].obs:
            return [ObsColumn(column, name)]
    if key in mdata.obs:
        return [ObsColumn(key)]
    found = [ObsColumn(key, name) for name in mdata.mod if key in mdata.mod[name].obs]
    if not found:
        names = [*mdata.obs, *(f"{name}:{column}" for name in mdata.mod for column in mdata.mod[name].obs)]
        raise KeyError(f"{argument}={key!r} is not a column of any obs. {_list_columns(mdata)}{near_miss(key, names)}")
    return found


def find_obs(mdata: MuData, key: str, argument: str, cells: pd.Index | None = None) -> pd.Series:
    """The observation column ``key``, one value a cell of ``mdata``.

    It is found as :func:`locate_obs` has it. A column that several modalities have must say the same in all of them
    wherever they hold the same cells; what one modality misses is taken from the next.

    Parameters
    ----------
    mdata
        Where to look; it is not changed.
    key
        Name of the column, with or without the modality in front of it.
    argument
        Name of the argument that ``key`` was given as, for error messages.
    cells
        Names of the cells to tell of; those of ``mdata`` if not given.

    Returns
    -------
    Values indexed by the names of the cells; missing where no obs that has the column holds the cell.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If ``key`` is not one name, or modalities disagree about it.
    """
    first, *others = locate_obs(mdata, key, argument)
    merged = first.get_values(mdata, cells)
    for column in others:
        # Categories of two modalities may differ in what they leave out; values are what counts.
        left, right = merged.astype(object), column.get_values(mdata, cells).astype(object)
        both = (left.notna() & right.notna()).to_numpy()
        differ = merged.index[both][(left[both] != right[both]).to_numpy(dtype=bool)]
        if len(differ):
            raise ValueError(
                f"{argument}={key!r}: modalities {first.modality!r} and {column.modality!r} disagree about "
                f"{_some(differ, 5)}. Name one of them: {first.name!r} or {column.name!r}; or write what is right to "
                f"mdata.obs[{key!r}]."
            )
        if merged.isna().any():
            merged = left.where(left.notna(), right)
    return merged.rename(key)


def find_labels(mdata: MuData, key: str, argument: str) -> pd.Series:
    """The column ``key`` as categories, see :func:`find_obs` and :func:`as_categories`."""
    return as_categories(find_obs(mdata, key, argument))


def as_categories(values: pd.Series) -> pd.Series:
    """Values as categories that are text, missing where they are missing: 1, 1.0 and "1" are the same.

    Categories are those that occur, in the order that they have, or else of numbers, or else of text.
    """
    values = values.cat.remove_unused_categories() if isinstance(values.dtype, pd.CategoricalDtype) else values
    latents, found = pd.factorize(values)
    names = np.array([name_of(value) for value in found], dtype=object)
    if isinstance(values.dtype, pd.CategoricalDtype):
        order: Iterable[Any] = map(name_of, values.cat.categories)
    else:
        order = names[np.argsort(np.asarray(found))] if pd.api.types.is_numeric_dtype(values) else sorted(names)
    text = np.where(latents < 0, None, names[latents]) if len(names) else latents.astype(object)
    return pd.Series(pd.Categorical(text, categories=list(dict.fromkeys(order))), index=values.index, name=values.name)


def name_of(value: Any) -> str:
    """Return what a category is called: a whole number has no point, whatever its type."""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and float(value).is_integer():
        return str(int(float(value)))
    return str(value)


def _not_one_name(mdata: MuData, key: Any, argument: str) -> str:
    given = list(key) if isinstance(key, (list, tuple, set, np.ndarray, pd.Index)) else []
    remedy = _list_columns(mdata)
    if len(given) == 1:
        remedy = f"Give it by itself: {argument}={given[0]!r}."
    elif given and all(isinstance(name, str) for name in given):
        try:
            columns = [locate_obs(mdata, name, argument)[0] for name in given]
        except KeyError as error:
            return str(error.args[0])
        joined = " + '_' + ".join(f"{column}.astype(str)" for column in columns)
        name = "_".join(column.key for column in columns)
        remedy = f"Make one of them: mdata.obs[{name!r}] = {joined}; then {argument}={name!r}."
        if argument == "batch_key":
            remedy += (
                f" Or name the others beside it: batch_key={given[0]!r}, categorical_covariate_keys={given[1:]!r}."
            )
    return f"{argument} must be the name of one column, but is {key!r}. {remedy}"


def _list_columns(mdata: MuData) -> str:
    there = {"mdata.obs": mdata.obs.columns} | {f"mdata[{name!r}].obs": mdata[name].obs.columns for name in mdata.mod}
    places = "; ".join(
        f"{place}: {_some((name for name in columns if '_scvi_' not in name), _N_SHOWN) or 'nothing'}"
        for place, columns in there.items()
    )
    return f"There is: {places}."


def _some(names: Iterable[str], n_shown: int) -> str:
    """The first of ``names``, and how many there are if that is not all."""
    listed = [str(name) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > n_shown else ""
    return ", ".join(listed[:n_shown]) + more
