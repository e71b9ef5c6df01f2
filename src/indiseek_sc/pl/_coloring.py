"""How a column of observations becomes colours of cells."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize, to_rgba, to_rgba_array

from indiseek_sc import _keys
from indiseek_sc._lookup import find_obs
from indiseek_sc.pl._style import DIVERGING, MISSING, PALETTE, display_name, modality_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Coloring:
    """Colours of cells, and what is needed to explain them.

    Attributes
    ----------
    title
        Name of the column.
    rgba
        One colour a cell, shape ``(n_cells, 4)``.
    missing
        Cells without a value, shape ``(n_cells,)``; they are grey.
    categories
        Category of each cell; nothing for numbers.
    legend
        Colour of each category that occurs; nothing for numbers.
    scale
        Of a colour bar; nothing for categories.
    ends
        What low and high numbers mean, where that is known.
    """

    title: str
    rgba: NDArray[np.float64]
    missing: NDArray[np.bool_]
    categories: pd.Categorical | None = None
    legend: Mapping[str, tuple[float, ...]] | None = None
    scale: ScalarMappable | None = None
    ends: tuple[str, str] | None = None


def coloring(mdata: MuData, key: str | None, palette: Mapping[str, str] | None) -> Coloring:
    """Colours for the observation column ``key``, or one colour for all cells without it.

    Raises
    ------
    KeyError
        If there is no such column.
    """
    if key is None:
        return Coloring("", np.tile(to_rgba(PALETTE[0]), (mdata.n_obs, 1)), np.zeros(mdata.n_obs, dtype=bool))
    if key == _keys.THETA and key not in mdata.obs:
        raise KeyError(
            f"mdata.obs[{key!r}] is missing. Call indiseek_sc.tl.modality_importance(mdata, label_key=...) first."
        )
    values = find_obs(mdata, key, "color")
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return _of_numbers(mdata, values, key) if numeric else _of_categories(mdata, values, key, palette)


def _of_categories(mdata: MuData, values: pd.Series, key: str, palette: Mapping[str, str] | None) -> Coloring:
    categories = pd.Categorical(values)
    names = [str(name) for name in categories.categories]
    if len(names) > len(PALETTE):
        warnings.warn(
            f"color={key!r} has {len(names)} categories, but there are only {len(PALETTE)} colours: they repeat. "
            "Pass palette=... or draw a coarser column.",
            stacklevel=4,
        )
    colors = {name: to_rgba(color) for name, color in zip(names, itertools.cycle(PALETTE), strict=False)}
    chosen = _noted_palette(mdata, key) | dict(palette or {})
    colors |= {name: to_rgba(chosen[name]) for name in names if name in chosen}
    missing = categories.codes < 0
    # A missing category has code -1: the last row.
    rgba = to_rgba_array([*colors.values(), to_rgba(MISSING)])[categories.codes]
    legend = {names[code]: colors[names[code]] for code in np.unique(categories.codes[~missing])}
    return Coloring(key, rgba, missing, categories.rename_categories(names), legend)


def _of_numbers(mdata: MuData, values: pd.Series, key: str) -> Coloring:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    missing = ~np.isfinite(numbers)
    known = numbers[~missing]
    # A few extreme cells must not take the colours from all others.
    low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
    if key == _keys.THETA or (low < 0 < high):
        scale = ScalarMappable(CenteredNorm(0, max(-low, high) or 1.0), DIVERGING)
    else:
        scale = ScalarMappable(Normalize(low, high if high > low else low + 1), colormaps["viridis"])
    rgba = scale.to_rgba(np.where(missing, 0, numbers))
    rgba[missing] = to_rgba(MISSING)
    if key != _keys.THETA:
        return Coloring(key, rgba, missing, scale=scale)
    names = modality_names(mdata)
    ends = (f"{display_name(names['adt'])}\nresolves better", f"{display_name(names['rna'])}\nresolves better")
    return Coloring("θ", rgba, missing, scale=scale, ends=ends)


def _noted_palette(mdata: MuData, key: str) -> dict[str, str]:
    """Colours that scanpy noted beside the column ``key``, in ``mdata`` or in a modality."""
    places = [(mdata, key)] + [(mdata[name], key.removeprefix(f"{name}:")) for name in mdata.mod]
    for place, column in places:
        if column in place.obs and f"{column}_colors" in place.uns:
            names = pd.Categorical(place.obs[column]).categories
            return dict(zip(map(str, names), place.uns[f"{column}_colors"], strict=False))
    return {}
