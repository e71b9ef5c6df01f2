"""Colours of cells by an observation column."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Colormap, Normalize, is_color_like, to_rgba, to_rgba_array

from indiseek_sc import _keys
from indiseek_sc._lookup import as_categories, find_obs, locate_obs, name_of
from indiseek_sc._text import suggest_similar
from indiseek_sc.pl._style import DIVERGING, MISSING, PALETTE, display_name, modality_names, warn_if_stale

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Coloring:
    """Colours of cells, and the content of their legend or colour bar.

    Attributes
    ----------
    title
        Name of the column.
    rgba
        Colour of each cell, shape ``(n_cells, 4)``.
    missing
        Whether the value of a cell is missing, shape ``(n_cells,)``; such cells are grey.
    categories
        Category of each cell; None for numbers.
    legend
        Colour of each category; None for numbers.
    scale
        Colour scale of numbers; None for categories.
    ends
        Meaning of low and high numbers, if known.
    """

    title: str
    rgba: NDArray[np.float64]
    missing: NDArray[np.bool_]
    categories: pd.Categorical | None = None
    legend: Mapping[str, tuple[float, ...]] | None = None
    scale: ScalarMappable | None = None
    ends: tuple[str, str] | None = None


Palette = str | Sequence[Any] | Mapping[Any, Any] | Colormap
"""Colours of categories: name of a colormap, sequence of colours, or mapping from categories."""


def coloring(mdata: MuData, key: str | None, palette: Palette | None) -> Coloring:
    """Return colours of cells by an observation column, or a single colour without a column.

    Numbers are drawn with a colour bar, unless the column contains batches of a model or labels
    that were passed to a tool.

    Parameters
    ----------
    mdata
        The data.
    key
        Column of ``obs`` of the data or of a modality, or None.
    palette
        Colours of categories.

    Raises
    ------
    KeyError
        If the column is missing.
    ValueError
        If the palette is invalid.
    """
    if key is None:
        return Coloring("", np.tile(to_rgba(PALETTE[0]), (mdata.n_obs, 1)), np.zeros(mdata.n_obs, dtype=bool))
    if isinstance(key, str) and key in _keys.THETAS and key not in mdata.obs:
        raise KeyError(
            f"mdata.obs[{key!r}] is missing. Call indiseek_sc.tl.modality_importance(mdata, label_key=...) first."
        )
    if key in _keys.THETAS:
        warn_if_stale(mdata, _keys.IMPORTANCE, "modality_importance(mdata, label_key=...)")
    elif isinstance(key, str) and key.startswith(f"{_keys.CLUSTERS}_"):
        warn_if_stale(mdata, _keys.CLUSTERS, "compare_clusters(mdata, ...)")
    values = find_obs(mdata, key, "color")
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and not _are_categories(mdata, key):
        return _of_numbers(mdata, values, key)
    return _of_categories(mdata, as_categories(values), key, palette)


def _are_categories(mdata: MuData, key: str) -> bool:
    """Return whether a model uses the column as batches, or a tool uses it as labels."""
    noted = [mdata.uns.get(_keys.SETTINGS, {}).get("batch_key")]
    noted += [
        mdata.uns.get(f"{table}_params", {}).get("label_key")
        for table in (_keys.IMPORTANCE, _keys.CLUSTERS, _keys.RANK_CORRELATION)
    ]
    places = set()
    for name in noted:
        with suppress(KeyError, ValueError):
            places |= set(locate_obs(mdata, name, "color"))
    return not places.isdisjoint(locate_obs(mdata, key, "color"))


def _of_categories(mdata: MuData, values: pd.Series, key: str, palette: Palette | None) -> Coloring:
    names = list(values.cat.categories)
    colors = _choose_colors(mdata, key, names, palette)
    n_colors, is_chosen = len(set(colors.values())), palette is not None and not isinstance(palette, Mapping)
    if n_colors < len(names) and (is_chosen or len(names) > len(PALETTE)):
        warnings.warn(
            f"color={key!r} has {len(names)} categories, but there are only {n_colors} colours, which are repeated. "
            "Pass palette=... or draw a coarser column.",
            stacklevel=5,
        )
    missing = values.isna().to_numpy()
    # Missing values have code -1, which selects the last colour.
    rgba = to_rgba_array([*colors.values(), to_rgba(MISSING)])[values.cat.codes.to_numpy()]
    return Coloring(key, rgba, missing, pd.Categorical(values), colors)


def _choose_colors(
    mdata: MuData, key: str, names: Sequence[str], palette: Palette | None
) -> dict[str, tuple[float, ...]]:
    """Return a colour for each category, from the palette, from scanpy, or by default."""
    colors: dict[str, tuple[float, ...]] = dict(zip(names, map(to_rgba, itertools.cycle(PALETTE)), strict=False))
    if palette is None or isinstance(palette, Mapping):
        colors |= _scanpy_colors(mdata, key)
    if palette is not None:
        colors |= _read_palette(palette, names, "palette")
    return {name: colors[name] for name in names}


def _scanpy_colors(mdata: MuData, key: str) -> dict[str, tuple[float, ...]]:
    """Return the colours that scanpy stored, including those of categories without cells."""
    for column in locate_obs(mdata, key, "color"):
        holder = mdata if column.modality is None else mdata.mod[column.modality]
        noted = f"{column.key}_colors"
        if noted in holder.uns:
            values = holder.obs[column.key]
            of_all = values.cat.categories if hasattr(values, "cat") else as_categories(values).cat.categories
            place = f"{'mdata' if column.modality is None else f'mdata[{column.modality!r}]'}.uns[{noted!r}]"
            found = _read_palette(holder.uns[noted], [name_of(value) for value in of_all], place, repeat=False)
            return found
    return {}


def _read_palette(
    palette: Any, names: Sequence[str], argument: str, *, repeat: bool = True
) -> dict[str, tuple[float, ...]]:
    """Return the colours of a palette by category.

    Raises
    ------
    ValueError
        If the palette or one of its colours is invalid.
    """
    if isinstance(palette, str):
        if palette not in colormaps:
            raise ValueError(
                f"{argument}={palette!r} is not the name of a colormap. Pass the name of a matplotlib colormap such as 'tab20', a list of "
                f"colours, or a dictionary of colours by category.{suggest_similar(palette, list(colormaps))}"
            )
        palette = colormaps[palette]
    if isinstance(palette, Colormap):
        palette = palette(np.linspace(0, 1, max(len(names), 1)))  # as in scanpy
    if hasattr(palette, "by_key"):  # a cycler, which scanpy accepts as well
        palette = palette.by_key().get("color", [])
    if isinstance(palette, Mapping):
        pairs = [(name_of(name), color) for name, color in palette.items()]
    elif isinstance(palette, Sequence | np.ndarray | pd.Series | pd.Index) and len(palette):
        colors = list(palette)
        pairs = list(zip(names, itertools.cycle(colors) if repeat else colors, strict=False))
    else:
        raise ValueError(
            f"{argument} must be the name of a colormap, a list of colours or a dictionary of colours by category, but is "
            f"{palette!r}."
        )
    for name, color in pairs:
        if not is_color_like(color):
            raise ValueError(
                f"{argument}: {color!r}, for {name!r}, is not a colour. Pass the name of a colour, or '#rrggbb'."
            )
    return {name: to_rgba(color) for name, color in pairs}


def _of_numbers(mdata: MuData, values: pd.Series, key: str) -> Coloring:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    missing = ~np.isfinite(numbers)
    known = numbers[~missing]
    # Quantiles prevent a few extreme cells from dominating the colour scale.
    low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
    if key in _keys.THETAS or (low < 0 < high):
        scale = ScalarMappable(CenteredNorm(0, max(-low, high) or 1.0), DIVERGING)
    else:
        scale = ScalarMappable(Normalize(low, high if high > low else low + 1), colormaps["viridis"])
    rgba = scale.to_rgba(np.where(missing, 0, numbers))
    rgba[missing] = to_rgba(MISSING)
    if key not in _keys.THETAS:
        return Coloring(key, rgba, missing, scale=scale)
    names = modality_names(mdata)
    ends = (f"{display_name(names['adt'])}\nresolves better", f"{display_name(names['rna'])}\nresolves better")
    title = "θ" if key == _keys.THETA else "θ, mean of 50 nearest cells"
    return Coloring(title, rgba, missing, scale=scale, ends=ends)
