"""Lookup of columns of ``obs`` that a user names, such as batches, labels, colours and weights."""

from __future__ import annotations

import numbers
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

from indiseek_sc._text import listing, suggest_similar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData

_N_SHOWN = 20
"""Number of columns that a message lists before it gives the total."""


@dataclass(frozen=True)
class ObsColumn:
    """A column of ``obs``.

    Parameters
    ----------
    key
        Name of the column.
    modality
        The modality whose ``obs`` contains it; None for the ``obs`` of the MuData.
    """

    key: str
    modality: str | None = None

    @property
    def name(self) -> str:
        """Name by which a user refers to the column."""
        return self.key if self.modality is None else f"{self.modality}:{self.key}"

    def __str__(self) -> str:
        holder = "mdata" if self.modality is None else f"mdata[{self.modality!r}]"
        return f"{holder}.obs[{self.key!r}]"

    def get_values(self, mdata: MuData, cells: pd.Index | None = None) -> pd.Series:
        """Return the values of ``cells`` (all by default), missing where ``obs`` lacks the cell."""
        cells = mdata.obs_names if cells is None else cells
        values = (mdata if self.modality is None else mdata.mod[self.modality]).obs[self.key]
        if values.index.equals(cells):
            return values.copy()
        if not values.index.is_unique:
            repeated = values.index[values.index.duplicated()].unique()
            raise ValueError(
                f"{self}: {repeated.size:,} names of cells occur more than once: {listing(repeated)}. "
                "Make them unique in every modality, for instance by their batch, and build the MuData again."
            )
        if values.dtype.kind in "iub":  # keep integers and booleans where cells are missing
            values = values.convert_dtypes()
        return values.reindex(cells)


def check_mdata(mdata: object, argument: str = "mdata") -> None:
    """Raise a TypeError if ``mdata``, given as ``argument``, is not a MuData."""
    if not isinstance(mdata, MuData):
        raise TypeError(
            f"{argument} must be a MuData, but is {type(mdata).__name__}. Give the MuData with both modalities to "
            f"which model.write_latents({argument}) wrote."
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
        Arrays with one row per row of ``obs``, without the masks that MuData keeps under the names
        of its modalities.
    uns
        Unstructured annotations.
    """
    with warnings.catch_warnings():
        # Expected: names shared by genes and proteins, and changes of update() in mudata 0.4.
        warnings.filterwarnings("ignore", module="mudata")
        made = MuData(dict(parts))
        if not made.obs_names.equals(obs.index):
            made = made[obs.index].copy()
    for column in obs.columns.difference(made.obs.columns, sort=False):
        made.obs[column] = obs[column]
    for key, value in obsm.items():
        made.obsm[key] = value
    made.uns.update(uns or {})
    return made


def get_latent(mdata: MuData, key: str, name: str) -> np.ndarray:
    """Return an entry of ``obsm``, or raise an error that describes it as ``name``."""
    if key not in mdata.obsm:
        raise KeyError(
            f"mdata.obsm[{key!r}], the {name}, is missing; mdata.obsm contains {sorted(mdata.obsm)}. "
            "Call model.write_latents(mdata) first."
        )
    return np.asarray(mdata.obsm[key])


def locate_obs(mdata: MuData, key: str, argument: str) -> list[ObsColumn]:
    """Find the columns that a name refers to: one, or those of several modalities.

    ``"rna:cell_type"`` is the column ``cell_type`` of the modality ``rna``, even if MuData has a
    copy under the longer name. Other names are looked up in ``mdata.obs``, then in each modality.

    Parameters
    ----------
    mdata
        The data.
    key
        Name of the column, with or without the modality as prefix.
    argument
        Name of the argument through which ``key`` was given, for error messages.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If ``key`` is not a single name.
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
        raise KeyError(
            f"{argument}={key!r} is not a column of any obs. {_list_columns(mdata)}{suggest_similar(key, names)}"
        )
    return found


def find_obs(mdata: MuData, key: str, argument: str, cells: pd.Index | None = None) -> pd.Series:
    """Return the column ``key`` of ``obs``, with one value for each cell.

    The column is located by :func:`locate_obs`. If several modalities contain it, they must agree
    on the cells that they share; missing values of one modality are taken from the next.

    Parameters
    ----------
    mdata
        The data, which are not changed.
    key
        Name of the column, with or without the modality as prefix.
    argument
        Name of the argument through which ``key`` was given, for error messages.
    cells
        Names of the requested cells; by default those of ``mdata``.

    Returns
    -------
    Values indexed by cell names; missing where no ``obs`` with the column contains the cell.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If ``key`` is not a single name, or modalities disagree about it.
    """
    first, *others = locate_obs(mdata, key, argument)
    merged = first.get_values(mdata, cells)
    for column in others:
        # Modalities may have different sets of categories, so values are compared.
        left, right = merged.astype(object), column.get_values(mdata, cells).astype(object)
        both = (left.notna() & right.notna()).to_numpy()
        differ = merged.index[both][(left[both] != right[both]).to_numpy(dtype=bool)]
        if len(differ):
            raise ValueError(
                f"{argument}={key!r}: modalities {first.modality!r} and {column.modality!r} disagree about "
                f"{_some(differ, 5)}. Name one of them: {first.name!r} or {column.name!r}; or write the correct values to "
                f"mdata.obs[{key!r}]."
            )
        if merged.isna().any():
            merged = left.where(left.notna(), right)
    return merged.rename(key)


def find_labels(mdata: MuData, key: str, argument: str) -> pd.Series:
    """Return the column ``key`` as categories, see :func:`find_obs` and :func:`as_categories`."""
    return as_categories(find_obs(mdata, key, argument))


def as_categories(values: pd.Series) -> pd.Series:
    """Return values as categories named by strings; 1, 1.0 and "1" are the same category.

    Missing values stay missing. Only categories that occur are kept, in their given order, or else
    in numerical or alphabetical order.
    """
    values = values.cat.remove_unused_categories() if isinstance(values.dtype, pd.CategoricalDtype) else values
    codes, found = pd.factorize(values)
    names = np.array([name_of(value) for value in found], dtype=object)
    if isinstance(values.dtype, pd.CategoricalDtype):
        order: Iterable[Any] = map(name_of, values.cat.categories)
    else:
        order = names[np.argsort(np.asarray(found))] if pd.api.types.is_numeric_dtype(values) else sorted(names)
    text = np.where(codes < 0, None, names[codes]) if len(names) else codes.astype(object)
    return pd.Series(pd.Categorical(text, categories=list(dict.fromkeys(order))), index=values.index, name=values.name)


def name_of(value: Any) -> str:
    """Return the name of a category; whole numbers are written without a decimal point."""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and float(value).is_integer():
        return str(int(float(value)))
    return str(value)


def _not_one_name(mdata: MuData, key: Any, argument: str) -> str:
    given = list(key) if isinstance(key, (list, tuple, set, np.ndarray, pd.Index)) else []
    remedy = _list_columns(mdata)
    if len(given) == 1:
        remedy = f"Give the name alone: {argument}={given[0]!r}."
    elif given and all(isinstance(name, str) for name in given):
        try:
            columns = [locate_obs(mdata, name, argument)[0] for name in given]
        except KeyError as error:
            return str(error.args[0])
        joined = " + '_' + ".join(f"{column}.astype(str)" for column in columns)
        name = "_".join(column.key for column in columns)
        remedy = f"Combine them into one: mdata.obs[{name!r}] = {joined}; then {argument}={name!r}."
        if argument == "batch_key":
            remedy += (
                f" Or give the others as covariates: batch_key={given[0]!r}, categorical_covariate_keys={given[1:]!r}."
            )
    return f"{argument} must be the name of one column, but is {key!r}. {remedy}"


def _list_columns(mdata: MuData) -> str:
    there = {"mdata.obs": mdata.obs.columns} | {f"mdata[{name!r}].obs": mdata[name].obs.columns for name in mdata.mod}
    places = "; ".join(
        f"{place}: {_some((name for name in columns if '_scvi_' not in name), _N_SHOWN) or 'nothing'}"
        for place, columns in there.items()
    )
    return f"Available columns: {places}."


def _some(names: Iterable[str], n_shown: int) -> str:
    """Return the first names as text, and the total number if there are more."""
    listed = [str(name) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > n_shown else ""
    return ", ".join(listed[:n_shown]) + more
