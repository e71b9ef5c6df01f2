"""Pictures as parts of a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from matplotlib.image import imread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indiseek_sc.report._pictures import Picture, Section


SHOWN = 0.4
"""Pixels of a page for one of a picture: type of the same size in all pictures, and sharp on a fine screen."""


@dataclass(frozen=True)
class Figure:
    """A picture in a page, or words in its place.

    Parameters
    ----------
    name, section, title, reading
        As of the picture.
    image
        The picture as a data URI; nothing if it is missing.
    width, height
        At which it is shown, in pixels of a page, so that a browser leaves room for it.
    missing
        Why it is.
    """

    name: str
    section: Section
    title: str
    reading: str
    image: str = ""
    width: int = 0
    height: int = 0
    missing: str = ""


def draw_figures(pictures: Sequence[Picture]) -> list[Figure]:
    """Draw all pictures. One that cannot be drawn costs the reader this one, with the reason, and not the report."""
    with plt.ioff(), TemporaryDirectory() as folder:  # into files alone, also where figures are shown at once
        return [_draw(picture, Path(folder) / f"{picture.name}.png") for picture in pictures]


def _draw(picture: Picture, file: Path) -> Figure:
    words = picture.name, picture.section, picture.title, picture.reading
    if picture.missing:
        return Figure(*words, missing=picture.missing)
    before = plt.get_fignums()
    try:
        picture.draw(file)
    except (KeyError, ValueError, RuntimeError) as error:
        return Figure(*words, missing=str(error.args[0] if error.args else error))
    finally:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
    height, width = imread(file).shape[:2]
    code = base64.b64encode(file.read_bytes()).decode("ascii")
    return Figure(
        *words, image=f"data:image/png;base64,{code}", width=round(SHOWN * width), height=round(SHOWN * height)
    )
