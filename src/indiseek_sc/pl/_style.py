"""What all figures share: width, type size, colours of modalities and of cells, names, and how a figure is saved, shown and returned."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import (
    CenteredNorm,
    Colormap,
    LinearSegmentedColormap,
    Normalize,
    is_color_like,
    to_rgba,
    to_rgba_array,
)
from matplotlib.figure import Figure

from indiseek_sc import _keys
from indiseek_sc._checks import check_path
from indiseek_sc._fingerprint import find_changed
from indiseek_sc._lookup import as_categories, find_obs, locate_obs, name_of
from indiseek_sc._recognise import role_of
from indiseek_sc._text import near_miss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray

Drawn = TypeVar("Drawn")

COLUMN, PAGE = 85.0, 180.0
"""Millimetres of one and of two columns of a journal. Every figure of its own has one of these widths, so that it goes into a paper as it is."""

SMALLEST = 6.0
"""Points of the smallest type of a figure."""

STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.labelpad": 2.5,
    "axes.titlepad": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "patch.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.04,
    "pdf.fonttype": 42,  # text stays text, for whoever edits the figure
    "svg.fonttype": "none",
}
"""Settings of matplotlib for a figure that is printed one or two columns wide: type of 6.5 to 7.5 points, thin lines."""

DPI = 300

PALETTE: tuple[str, ...] = (
    *("#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#463a23", "#80005d", "#51f38b", "#3a0cb9", "#745d68", "#8080ff"),
    *("#3a683a", "#97b980", "#8b3a00", "#d10c46", "#b9d1ff", "#740cff", "#b9238b", "#a2e817", "#d1aec5", "#740000"),
    *("#ae9751", "#68d1ae", "#512e3a", "#688080", "#8ba297", "#234668", "#a280c5", "#803a51", "#c5685d", "#d1c55d"),
    *("#3a51b9", "#515d80", "#74008b", "#a2a2c5", "#00970c", "#8b5d00", "#ff80e8", "#ff3a80", "#d55e00", "#0072b2"),
)
"""Colours of 40 categories, as far apart as may be for colour-blind readers too.

Six colours of Okabe and Ito (https://jfly.uni-koeln.de/color), then one by one the colour whose least distance (CAM02-UCS,
over normal sight and full protanopia, deuteranopia and tritanopia) to all before it and to the grey of missing values is
largest. In CIELAB the first 20 stay 10 apart for every reader and all 40 stay 6 apart; scanpy's own 20 come down to 0.6.
The two colours of Okabe and Ito that stand for RNA and for proteins come last, so that up to 38 categories have neither.
"""

MISSING = "#d3d3d3"
"""Colour of cells without a value."""

ROLE_COLORS: dict[_keys.Role, str] = {"rna": "#d55e00", "adt": "#0072b2"}
"""Of RNA and of proteins, in every figure; nothing else has these colours."""

NEUTRAL = "#4d4d4d"
"""Colour of what belongs to no modality."""


def modality_colors(names: Iterable[str]) -> dict[str, str]:
    """A colour for each modality: that of its role where its name says it, else what is left, in order."""
    names = list(dict.fromkeys(map(str, names)))
    by_name = {name: role for name in names if (role := role_of(name)) is not None}
    left = iter([color for role, color in ROLE_COLORS.items() if role not in by_name.values()] + list(PALETTE))
    return {name: ROLE_COLORS[by_name[name]] if name in by_name else next(left) for name in names}


DIVERGING = LinearSegmentedColormap.from_list(
    "indiseek_theta", ["#08306b", ROLE_COLORS["adt"], "#e3d9a6", ROLE_COLORS["rna"], "#6b1d00"]
)
"""From ADT through 0 to RNA. The middle is sand, for white would vanish on paper and grey means missing."""

_DISPLAY = {"rna": "RNA", "adt": "protein", "prot": "protein"}


def as_text(name: object, width: int | None = None) -> str:
    """How a figure writes what a user named: on one line, dollars as dollars, what is blank in words.

    Parameters
    ----------
    name
        A label, a feature, a column.
    width
        Letters that it may take; the rest is cut off.
    """
    text = " ".join(str(name).split()) or "(blank)"
    if width is not None and len(text) > width:
        text = f"{text[: width - 4]} ..."
    return text.replace("$", r"\$")  # two of them would be mathematics


def display_name(modality: str) -> str:
    """How a figure calls ``modality``: ``rna`` and ``adt`` in a biologist's words, another name as it is."""
    return _DISPLAY.get(modality.lower(), as_text(modality))


def modality_names(mdata: MuData) -> dict[_keys.Role, str]:
    """The user's own name of the modality in each role, or the name of the role where no model noted it."""
    noted = mdata.uns.get(_keys.SETTINGS, {}).get("modalities", {})
    return {role: str(noted.get(role, role)) for role in _keys.ROLES}


def warn_if_stale(mdata: MuData, key: str, call: str) -> None:
    """Warn of a result that was made of other representations, labels or cells than are there now.

    Parameters
    ----------
    mdata
        The data, or a table by itself, of which nothing is known.
    key
        Of the result in ``uns``.
    call
        What makes it.
    """
    if not isinstance(mdata, pd.DataFrame) and (changed := find_changed(mdata, key)):
        warnings.warn(
            f"mdata.uns[{key!r}] is old: {', '.join(map(str, changed))} changed since it was made. Call indiseek_sc.tl.{call} again.",
            stacklevel=4,
        )


def inches(width: float, height: float) -> tuple[float, float]:
    """Width and height for matplotlib, of millimetres."""
    return width / 25.4, height / 25.4


def shade(color: str, amount: float) -> tuple[float, float, float]:
    """A lighter ``color``: white at an amount of 1."""
    red, green, blue = (channel + (1 - channel) * amount for channel in to_rgba(color)[:3])
    return red, green, blue


@contextmanager
def one_panel(ax: Axes | None, figsize: tuple[float, float], show: bool | None) -> Iterator[tuple[Axes, bool | None]]:
    """The panel to draw on and whether to show it: a new one in our style, or the caller's ``ax``, which is shown only if asked.

    Parameters
    ----------
    ax
        The caller's panel; by default a figure of its own.
    figsize
        Inches of that figure, see :func:`inches`. One that is wider than a page is scaled down to it.
    show
        As the caller of the figure function gave it.

    Raises
    ------
    TypeError
        If ``ax`` is no panel.
    """
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax must be axes of matplotlib, but is {type(ax).__name__}: _, ax = plt.subplots() makes one.")
    if ax is not None:
        yield ax, bool(show)
        return
    width, height = figsize
    scale = min(1.0, PAGE / 25.4 / width)
    with plt.rc_context(STYLE):
        _, own = plt.subplots(figsize=(scale * width, scale * height), layout="constrained")
        yield own, show


def page(ax: Axes) -> Figure:
    """The figure that ``ax`` is on, also where it is on a part of it."""
    figure: Any = ax.get_figure()
    return figure if isinstance(figure, Figure) else figure.figure


def finish(figure: Figure, drawn: Drawn, *, show: bool | None, save: str | Path | None) -> Drawn | None:
    """Save and show ``figure`` as asked, and return ``drawn`` unless it was shown.

    Parameters
    ----------
    figure
        The figure.
    drawn
        Its axes.
    show
        Whether to show it now; ``None`` is yes where matplotlib is interactive, as in a notebook.
    save
        File to write; the ending says in which format.

    Raises
    ------
    ValueError
        If ``save`` is no path, or ends otherwise.
    FileNotFoundError
        If there is no such folder.
    """
    if save is not None:
        path, formats = check_path("save", save), figure.canvas.get_supported_filetypes()
        if path.suffix and path.suffix[1:].lower() not in formats:
            raise ValueError(f"save: {path} must end in a format that matplotlib writes: {', '.join(sorted(formats))}.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"save: {path}: there is no folder {path.parent}. Make it first.")
        # What constrains its layout has the width that it is to have in print; what a caller made may reach over its edge.
        bbox = "tight" if figure.get_layout_engine() is None else None
        with plt.rc_context({name: STYLE[name] for name in ("pdf.fonttype", "svg.fonttype")}):
            figure.savefig(path, dpi=DPI, bbox_inches=bbox)
    if plt.isinteractive() if show is None else show:
        plt.show()
        return None
    return drawn


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
        Colour of each category; nothing for numbers.
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


Palette = str | Sequence[Any] | Mapping[Any, Any] | Colormap
"""Colours of categories: by the name of a colormap, one after the other, or by category."""


def coloring(mdata: MuData, key: str | None, palette: Palette | None) -> Coloring:
    """Colours for the observation column ``key``, or one colour for all cells without it.

    Numbers have a colour bar, unless they are the batches of a model, or labels that a tool was asked for.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If a palette holds no colours.
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
    """Whether a model takes the column for batches, or a tool for labels."""
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
            f"color={key!r} has {len(names)} categories, but there are only {n_colors} colours: they repeat. "
            "Pass palette=... or draw a coarser column.",
            stacklevel=5,
        )
    missing = values.isna().to_numpy()
    # A missing category has representation -1: the last row.
    rgba = to_rgba_array([*colors.values(), to_rgba(MISSING)])[values.cat.codes.to_numpy()]
    return Coloring(key, rgba, missing, pd.Categorical(values), colors)


def _choose_colors(
    mdata: MuData, key: str, names: Sequence[str], palette: Palette | None
) -> dict[str, tuple[float, ...]]:
    """A colour for each category: of the palette, or as scanpy noted it beside the column, or one of ours."""
    colors: dict[str, tuple[float, ...]] = dict(zip(names, map(to_rgba, itertools.cycle(PALETTE)), strict=False))
    if palette is None or isinstance(palette, Mapping):
        colors |= _noted_colors(mdata, key)
    if palette is not None:
        colors |= _read_palette(palette, names, "palette")
    return {name: colors[name] for name in names}


def _noted_colors(mdata: MuData, key: str) -> dict[str, tuple[float, ...]]:
    """Colours that scanpy noted, in the order of all categories, also of those without cells."""
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
    """Colours by name.

    Raises
    ------
    ValueError
        If something is no colour, or no palette.
    """
    if isinstance(palette, str):
        if palette not in colormaps:
            raise ValueError(
                f"{argument}={palette!r} is not the name of a colormap. Give one of matplotlib's such as 'tab20', a list of "
                f"colours, or a dictionary of colours by category.{near_miss(palette, list(colormaps))}"
            )
        palette = colormaps[palette]
    if isinstance(palette, Colormap):
        palette = palette(np.linspace(0, 1, max(len(names), 1)))  # as scanpy has it
    if hasattr(palette, "by_key"):  # a cycler, as scanpy takes it too
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
            raise ValueError(f"{argument}: {color!r}, for {name!r}, is no colour. Give a name, or '#rrggbb'.")
    return {name: to_rgba(color) for name, color in pairs}


def _of_numbers(mdata: MuData, values: pd.Series, key: str) -> Coloring:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    missing = ~np.isfinite(numbers)
    known = numbers[~missing]
    # A few extreme cells must not take the colours from all others.
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
