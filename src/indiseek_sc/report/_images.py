"""Figures as parts of a page: panels as pixels, which stack on a narrow screen, and the whole as a vector file to take away."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from PIL import Image as Pixels

from indiseek_sc.pl import COLUMN, STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

SCALE = 2.2
"""Pixels of a page for one point of print: type of 7 points is 15 pixels high, in all pictures alike."""

PAGE_DPI = 240
"""Dots per inch of the pictures in a page: one and a half pixels for each pixel of the page."""

RASTER_DPI = 200
"""Dots per inch of the points of cells in a vector file."""

N_COLORS = 256

_OF_A_PANEL = 0.6
"""What is less high than this share of its row is a legend, and no panel."""

_WHITE = 248
"""From here on all channels are white."""

_MARGIN = 4
"""Pixels around a panel that is cut out."""

_SAFE = "/ :;,=+-_.()'!*~"
"""What needs no escape in a data URI within quotation marks: all that base64 is made of, so that pixels take no more room."""


class Image(NamedTuple):
    """A picture in a page: a data URI, and the pixels of the page that it takes."""

    source: str
    width: int
    height: int


class Drawing(NamedTuple):
    """A figure in a page: its panels, row by row and one by one where it is wider than a telephone, and the whole as SVG."""

    rows: list[list[Image]]
    svg: str


def figure_of(drawn: Any) -> Figure:
    """The figure of axes, or of the first of several."""
    ax = drawn if isinstance(drawn, Axes) else next(ax for ax in np.ravel(drawn) if ax is not None)
    return ax.figure.figure


def render_figure(figure: Figure) -> Drawing:
    """Turn a figure into parts of a page.

    Parameters
    ----------
    figure
        It is drawn at another resolution than before, and should not be used again.
    """
    figure.set_dpi(PAGE_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # the vector file has everything where the pixels have it
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    rows = [[_to_image(_cut(pixels, box)) for box in row] for row in find_panels(figure)]
    return Drawing(rows if sum(map(len, rows)) > 1 else [[_to_image(pixels)]], _to_svg(figure))


def find_panels(figure: Figure) -> list[list[Bbox]]:
    """Pixels of each panel and legend of a figure that is wider than a column, row by row and without overlaps.

    Nothing of a narrow figure, and of one whose panels share the names of their rows.

    Parameters
    ----------
    figure
        Drawn before.
    """
    # What has the names of its rows in one place is read together.
    share_rows = any(_share_rows(ax, other) for i, ax in enumerate(figure.axes) for other in figure.axes[:i])
    if figure.get_figwidth() * 25.4 <= COLUMN + 1 or share_rows:
        return []
    found = [box for ax in figure.axes for box in _boxes_of(ax)]
    found += [legend.get_window_extent() for legend in figure.legends]
    boxes: list[Bbox] = []
    for box in found:
        if box is None or box.width < 1 or box.height < 1:
            continue
        while overlapping := [other for other in boxes if other.overlaps(box)]:
            boxes = [other for other in boxes if other not in overlapping]
            box = Bbox.union([box, *overlapping])
        boxes.append(box)
    return _level(_in_rows(boxes))


def _share_rows(ax: Axes, other: Axes) -> bool:
    """Whether the axes have the names of their rows on one of them alone."""
    return ax.get_shared_y_axes().joined(ax, other) and ax.axison and other.axison


def _boxes_of(ax: Axes) -> list[Bbox | None]:
    """What is seen of axes: of such that only hold a legend or a colour bar, these alone."""
    if not ax.get_visible():
        return []
    if ax.axison:
        return [ax.get_tightbbox()]
    return [part.get_tightbbox() for part in (ax.get_legend(), *ax.child_axes) if part is not None]


def _in_rows(boxes: list[Bbox]) -> list[list[Bbox]]:
    """From top to bottom, those side by side from left to right."""
    rows: list[list[Bbox]] = []
    for box in sorted(boxes, key=lambda box: -box.y1):
        beside = next(
            (row for row in rows if any(_shared_height(box, other) > 0.5 * box.height for other in row)), None
        )
        if beside is None:
            rows.append([box])
        else:
            beside.append(box)
    return [sorted(row, key=lambda box: box.x0) for row in rows]


def _level(rows: list[list[Bbox]]) -> list[list[Bbox]]:
    """Panels of a row from the same line to the same line, so that they stand beside each other in the page as in the figure."""
    leveled = []
    for row in rows:
        high = max(box.height for box in row)
        panels = [box for box in row if box.height > _OF_A_PANEL * high]
        low, top = min(box.y0 for box in panels), max(box.y1 for box in panels)
        leveled.append([Bbox([[box.x0, low], [box.x1, top]]) if box in panels else box for box in row])
    return leveled


def _shared_height(one: Bbox, other: Bbox) -> float:
    return min(one.y1, other.y1) - max(one.y0, other.y0)


def _cut(pixels: NDArray[np.uint8], box: Bbox) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    left, right = (int(np.clip(x, 0, width)) for x in (box.x0 - _MARGIN, box.x1 + _MARGIN))
    top, bottom = (int(np.clip(height - y, 0, height)) for y in (box.y1 + _MARGIN, box.y0 - _MARGIN))
    return pixels[top:bottom, left:right]


def _to_image(pixels: NDArray[np.uint8]) -> Image:
    height, width = pixels.shape[:2]
    of_page = SCALE * 72 / PAGE_DPI
    file = _with_few_colors(Pixels.fromarray(pixels), Pixels.Quantize.MEDIANCUT)
    return Image(as_data("image/png", file), round(of_page * width), round(of_page * height))


def _with_few_colors(pixels: Pixels.Image, method: Pixels.Quantize) -> bytes:
    """A PNG file with 256 colours, which is a quarter as large as one with all."""
    few = pixels.quantize(N_COLORS, method=method, dither=Pixels.Dither.NONE)
    # The ground stays white: a palette has the mean of what is nearly white.
    mode = "RGBA" if pixels.mode == "RGBA" else "RGB"
    colors = np.array(few.getpalette(mode), dtype=np.uint8).reshape(-1, len(mode))
    colors[(colors >= _WHITE).all(axis=1)] = 255
    few.putpalette(colors.tobytes(), mode)
    file = io.BytesIO()
    few.save(file, "PNG", compress_level=6)
    return file.getvalue()


def _to_svg(figure: Figure) -> str:
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": STYLE["svg.fonttype"], "svg.hashsalt": "indiseek_sc"}):
        figure.savefig(file, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    text = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _shrink, file.getvalue())
    return f"data:image/svg+xml,{quote(text, safe=_SAFE)}"


def _shrink(found: re.Match[str]) -> str:
    pixels = Pixels.open(io.BytesIO(base64.b64decode(found[1])))
    # The only method that knows of transparent pixels. It is poor at gradients, and points have none.
    return as_data("image/png", _with_few_colors(pixels, Pixels.Quantize.FASTOCTREE))


def as_data(kind: str, content: bytes) -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def as_csv(tables: Sequence[Any]) -> dict[str, str]:
    """Each table as a data URI, by its name."""
    return {table.name: as_data("text/csv;charset=utf-8", table.to_csv().encode("utf-8")) for table in tables}
