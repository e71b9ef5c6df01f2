"""Rendering of figures for an HTML page.

Panels are embedded as PNG images, which stack on a narrow screen; the whole figure is embedded as
an SVG file for download.
"""

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
"""CSS pixels per point: text of 7 points is 15 pixels high in all figures."""

PAGE_DPI = 240
"""Resolution of the embedded images: 1.5 image pixels per CSS pixel."""

RASTER_DPI = 200
"""Resolution of rasterized points in an SVG file."""

N_COLORS = 256

_MIN_PANEL_HEIGHT = 0.6
"""Elements below this share of the height of their row are legends rather than panels."""

_WHITE = 248
"""A colour is shown as white if all its channels are at least this large."""

_MARGIN = 4
"""Margin around a cropped panel, in pixels."""

_SAFE = "/ :;,=+-_.()'!*~"
"""Characters that need no escape in a quoted data URI. They include the base64 alphabet, so that
embedded images are not enlarged by escapes."""


class Image(NamedTuple):
    """An embedded image: its data URI, and its width and height in CSS pixels."""

    source: str
    width: int
    height: int


class Drawing(NamedTuple):
    """A figure in a page: rows of panels, and the whole figure as an SVG data URI."""

    rows: list[list[Image]]
    svg: str


def figure_of(drawn: Any) -> Figure:
    """Return the figure of the given axes, or of the first of several axes."""
    ax = drawn if isinstance(drawn, Axes) else next(ax for ax in np.ravel(drawn) if ax is not None)
    return ax.figure.figure


def render_figure(figure: Figure) -> Drawing:
    """Render a figure as panels and as an SVG file.

    Parameters
    ----------
    figure
        The figure. Its resolution and layout are changed, so it should not be used afterwards.
    """
    figure.set_dpi(PAGE_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # so that the SVG file has the layout of the panels
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    rows = [[_to_image(_cut(pixels, box)) for box in row] for row in find_panels(figure)]
    return Drawing(rows if sum(map(len, rows)) > 1 else [[_to_image(pixels)]], _to_svg(figure))


def find_panels(figure: Figure) -> list[list[Bbox]]:
    """Return the bounding boxes of panels and legends, in pixels, row by row and without overlaps.

    The result is empty for a figure of one column, and for a figure whose panels share the labels
    of their rows, since these must stay together.

    Parameters
    ----------
    figure
        A figure that was drawn before.
    """
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
    """Return whether two axes share the labels of their rows."""
    return ax.get_shared_y_axes().joined(ax, other) and ax.axison and other.axison


def _boxes_of(ax: Axes) -> list[Bbox | None]:
    """Return the visible bounding boxes of axes.

    For hidden axes these are the boxes of their legend and of inset axes such as a colour bar.
    """
    if not ax.get_visible():
        return []
    if ax.axison:
        return [ax.get_tightbbox()]
    return [part.get_tightbbox() for part in (ax.get_legend(), *ax.child_axes) if part is not None]


def _in_rows(boxes: list[Bbox]) -> list[list[Bbox]]:
    """Group boxes into rows from top to bottom, each sorted from left to right."""
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
    """Give all panels of a row the same lower and upper edge, so that they align in the page."""
    leveled = []
    for row in rows:
        high = max(box.height for box in row)
        panels = [box for box in row if box.height > _MIN_PANEL_HEIGHT * high]
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
    """Return a PNG file with 256 colours, about a quarter of the size of full colour."""
    few = pixels.quantize(N_COLORS, method=method, dither=Pixels.Dither.NONE)
    # Quantization averages nearly white colours, so the background is set to white again.
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
    # The only method of Pillow that preserves transparency. It renders gradients poorly, but points
    # have none.
    return as_data("image/png", _with_few_colors(pixels, Pixels.Quantize.FASTOCTREE))


def as_data(kind: str, content: bytes) -> str:
    """Return a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def as_csv(tables: Sequence[Any]) -> dict[str, str]:
    """Return each table as a data URI, by its name."""
    return {table.name: as_data("text/csv;charset=utf-8", table.to_csv().encode("utf-8")) for table in tables}
