"""What all figures share: type size, colours, names, and how a figure is saved, shown and returned."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from indiseek_sc import _keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData

Drawn = TypeVar("Drawn")

STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "legend.fontsize": 11,
    "legend.title_fontsize": 12,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # text stays text, for whoever edits the figure
    "svg.fonttype": "none",
}
"""Settings of matplotlib for a figure that is to be read from a slide."""

DPI = 200

PALETTE: tuple[str, ...] = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#463a23", "#80005d", "#51f38b", "#3a0cb9"),
    *("#745d68", "#8080ff", "#3a683a", "#97b980", "#8b3a00", "#d10c46", "#b9d1ff", "#740cff", "#b9238b", "#a2e817"),
    *("#d1aec5", "#740000", "#ae9751", "#68d1ae", "#512e3a", "#688080", "#8ba297", "#234668", "#a280c5", "#803a51"),
    *("#c5685d", "#d1c55d", "#3a51b9", "#515d80", "#74008b", "#a2a2c5", "#00970c", "#8b5d00", "#ff80e8", "#ff3a80"),
)
"""Colours of 40 categories, as far apart as may be for colour-blind readers too.

Six colours of Okabe and Ito (https://jfly.uni-koeln.de/color), then one by one the colour whose least distance (CAM02-UCS,
over normal sight and full protanopia, deuteranopia and tritanopia) to all before it and to the grey of missing values is
largest. In CIELAB the first 20 stay 11 apart for every reader and all 40 stay 6 apart; scanpy's own 20 come down to 0.6.
"""

MISSING = "#d3d3d3"
"""Colour of cells without a value."""

ROLE_COLORS: dict[_keys.Role, str] = {"rna": "#d55e00", "adt": "#0072b2"}

DIVERGING = LinearSegmentedColormap.from_list(
    "indiseek_theta", ["#08306b", ROLE_COLORS["adt"], "#e3d9a6", ROLE_COLORS["rna"], "#6b1d00"]
)
"""From ADT through 0 to RNA. The middle is sand, for white would vanish on paper and grey means missing."""

_DISPLAY = {"rna": "RNA", "adt": "protein", "prot": "protein"}


def display_name(modality: str) -> str:
    """How a figure calls ``modality``: ``rna`` and ``adt`` in a biologist's words, another name as it is."""
    return _DISPLAY.get(modality.lower(), modality)


def modality_names(mdata: MuData) -> dict[_keys.Role, str]:
    """The user's own name of the modality in each role, or the name of the role where no model noted it."""
    noted = mdata.uns.get(_keys.SETTINGS, {}).get("modalities", {})
    return {role: str(noted.get(role, role)) for role in _keys.ROLES}


@contextmanager
def one_panel(ax: Axes | None, figsize: tuple[float, float], show: bool | None) -> Iterator[tuple[Axes, bool | None]]:
    """The panel to draw on and whether to show it: a new one in our style, or the caller's ``ax``, which is shown only if asked.

    Parameters
    ----------
    ax
        The caller's panel; by default a figure of its own.
    figsize
        Inches of that figure.
    show
        As the caller of the figure function gave it.
    """
    if ax is not None:
        yield ax, bool(show)
        return
    with plt.rc_context(STYLE):
        _, own = plt.subplots(figsize=figsize, layout="constrained")
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
    """
    if save is not None:
        figure.savefig(save, dpi=DPI, bbox_inches="tight")
    if plt.isinteractive() if show is None else show:
        plt.show()
        return None
    return drawn
