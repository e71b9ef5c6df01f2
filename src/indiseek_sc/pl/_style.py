"""Common elements of all figures: sizes, colours, names, and saving and showing of figures."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import (
    LinearSegmentedColormap,
    to_rgba,
)
from matplotlib.figure import Figure

from indiseek_sc import _keys
from indiseek_sc._checks import check_path
from indiseek_sc._fingerprint import find_changed
from indiseek_sc._recognise import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mudata import MuData

Drawn = TypeVar("Drawn")

COLUMN, PAGE = 85.0, 180.0
"""Widths of one and of two columns of a journal, in millimetres. New figures have one of these
widths."""

MIN_FONT_SIZE = 6.0
"""Smallest font size in figures, in points."""

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
    "pdf.fonttype": 42,  # keeps text editable
    "svg.fonttype": "none",
}
"""Settings of matplotlib for figures of one or two columns: fonts of 6.5 to 7.5 points, thin
lines."""

DPI = 300

PALETTE: tuple[str, ...] = (
    *("#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#463a23", "#80005d", "#51f38b", "#3a0cb9", "#745d68", "#8080ff"),
    *("#3a683a", "#97b980", "#8b3a00", "#d10c46", "#b9d1ff", "#740cff", "#b9238b", "#a2e817", "#d1aec5", "#740000"),
    *("#ae9751", "#68d1ae", "#512e3a", "#688080", "#8ba297", "#234668", "#a280c5", "#803a51", "#c5685d", "#d1c55d"),
    *("#3a51b9", "#515d80", "#74008b", "#a2a2c5", "#00970c", "#8b5d00", "#ff80e8", "#ff3a80", "#d55e00", "#0072b2"),
)
"""Colours of 40 categories, chosen to be distinguishable for colour-blind readers as well.

The first six are colours of Okabe and Ito (https://jfly.uni-koeln.de/color). Each further colour
has the largest possible minimum distance to all previous colours and to the grey of missing values
(CAM02-UCS, over normal vision and complete protanopia, deuteranopia and tritanopia). In CIELAB the
first 20 colours are at least 10 apart for every type of vision and all 40 at least 6; the minimum
distance of scanpy's 20 colours is 0.6. The colours of RNA and of proteins come last, so that up to
38 categories use neither.
"""

MISSING = "#d3d3d3"
"""Colour of cells with a missing value."""

ROLE_COLORS: dict[_keys.Role, str] = {"rna": "#d55e00", "adt": "#0072b2"}
"""Colours of RNA and of proteins in all figures, reserved for the modalities."""

NEUTRAL = "#4d4d4d"
"""Colour of elements that belong to no modality."""


def modality_colors(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each modality.

    A modality whose name indicates its role has the colour of the role; the others take the
    remaining colours in order.

    Parameters
    ----------
    names
        Names of the modalities.
    """
    names = list(dict.fromkeys(map(str, names)))
    by_name = {name: role for name in names if (role := role_of(name)) is not None}
    left = iter([color for role, color in ROLE_COLORS.items() if role not in by_name.values()] + list(PALETTE))
    return {name: ROLE_COLORS[by_name[name]] if name in by_name else next(left) for name in names}


DIVERGING = LinearSegmentedColormap.from_list(
    "indiseek_theta", ["#08306b", ROLE_COLORS["adt"], "#e3d9a6", ROLE_COLORS["rna"], "#6b1d00"]
)
"""Diverging colormap of theta, from proteins to RNA. The centre is sand-coloured, because white
would be invisible and grey marks missing values."""

_DISPLAY = {"rna": "RNA", "adt": "protein", "prot": "protein"}


def as_text(name: object, width: int | None = None) -> str:
    """Format a name given by the user for a figure.

    The name is put on a single line, dollar signs are escaped, and blank names are replaced.

    Parameters
    ----------
    name
        Name of a label, feature or column.
    width
        Largest length in letters; longer names are truncated.
    """
    text = " ".join(str(name).split()) or "(blank)"
    if width is not None and len(text) > width:
        text = f"{text[: width - 4]} ..."
    return text.replace("$", r"\$")  # matplotlib interprets pairs of dollar signs as mathematics


def display_name(modality: str) -> str:
    """Return the name of a modality in figures: RNA, protein, or the name itself.

    Parameters
    ----------
    modality
        Name of the modality in the data.

    Examples
    --------
    >>> isk.pl.display_name("adt")
    'protein'
    """
    return _DISPLAY.get(modality.lower(), as_text(modality))


def modality_names(mdata: MuData) -> dict[_keys.Role, str]:
    """Return the user's name of the modality in each role, or the role if no model recorded it.

    Parameters
    ----------
    mdata
        The data.
    """
    noted = mdata.uns.get(_keys.SETTINGS, {}).get("modalities", {})
    return {role: str(noted.get(role, role)) for role in _keys.ROLES}


def warn_if_stale(mdata: MuData, key: str, call: str) -> None:
    """Warn if a result was computed from representations, labels or cells that have changed since.

    Parameters
    ----------
    mdata
        The data. For a table nothing is checked.
    key
        Key of the result in ``uns``.
    call
        Call that computes the result.
    """
    if not isinstance(mdata, pd.DataFrame) and (changed := find_changed(mdata, key)):
        warnings.warn(
            f"mdata.uns[{key!r}] is outdated: {', '.join(map(str, changed))} changed since it was computed. "
            f"Call indiseek_sc.tl.{call} again.",
            stacklevel=4,
        )


def inches(width: float, height: float) -> tuple[float, float]:
    """Convert width and height from millimetres to inches."""
    return width / 25.4, height / 25.4


def shade(color: str, amount: float) -> tuple[float, float, float]:
    """Return a lighter shade of ``color``; an amount of 1 is white."""
    red, green, blue = (channel + (1 - channel) * amount for channel in to_rgba(color)[:3])
    return red, green, blue


@contextmanager
def one_panel(ax: Axes | None, figsize: tuple[float, float], show: bool | None) -> Iterator[tuple[Axes, bool | None]]:
    """Yield the axes to draw on, and whether to show the figure.

    New axes are created in the style of the package. Axes of the caller are shown only on request.

    Parameters
    ----------
    ax
        Axes of the caller; by default a new figure.
    figsize
        Width and height of a new figure in inches, see :func:`inches`. Figures wider than two
        columns are scaled down.
    show
        Argument of the plotting function.

    Raises
    ------
    TypeError
        If ``ax`` is not a matplotlib axes.
    """
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be matplotlib axes, but is {type(ax).__name__}. Create them with _, ax = plt.subplots()."
        )
    if ax is not None:
        yield ax, bool(show)
        return
    width, height = figsize
    scale = min(1.0, PAGE / 25.4 / width)
    with plt.rc_context(STYLE):
        _, new = plt.subplots(figsize=(scale * width, scale * height), layout="constrained")
        yield new, show


def page(ax: Axes) -> Figure:
    """Return the figure of ``ax``, even if ``ax`` is in a subfigure."""
    figure: Any = ax.get_figure()
    return figure if isinstance(figure, Figure) else figure.figure


def finish(figure: Figure, drawn: Drawn, *, show: bool | None, save: str | Path | None) -> Drawn | None:
    """Save and show a figure as requested, and return its axes unless it was shown.

    Parameters
    ----------
    figure
        The figure.
    drawn
        Axes of the figure.
    show
        Whether to show the figure. ``None`` shows it in interactive mode, as in a notebook.
    save
        File to write the figure to; the extension determines the format.

    Raises
    ------
    ValueError
        If ``save`` is not a path, or has an unsupported extension.
    FileNotFoundError
        If the folder of ``save`` does not exist.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots()
    >>> isk.pl.finish(figure, ax, show=False, save="figure.png") is ax
    True
    """
    if save is not None:
        path, formats = check_path("save", save), figure.canvas.get_supported_filetypes()
        if path.suffix and path.suffix[1:].lower() not in formats:
            raise ValueError(f"save: {path} must end in a format that matplotlib writes: {', '.join(sorted(formats))}.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"save: {path}: there is no folder {path.parent}. Create it first.")
        # Figures with a layout engine keep their width. In other figures elements may extend beyond
        # the edge.
        bbox = "tight" if figure.get_layout_engine() is None else None
        with plt.rc_context({name: STYLE[name] for name in ("pdf.fonttype", "svg.fonttype")}):
            figure.savefig(path, dpi=DPI, bbox_inches=bbox)
    if plt.isinteractive() if show is None else show:
        plt.show()
        return None
    return drawn
