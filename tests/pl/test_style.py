from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from mudata import MuData
from scanpy.plotting.palettes import default_20

from indiseek_sc import pl
from indiseek_sc.pl._feature_importance import _GROUP_COLORS
from indiseek_sc.pl._style import (
    COLUMN,
    DIVERGING,
    MIN_FONT_SIZE,
    MISSING,
    PAGE,
    PALETTE,
    ROLE_COLORS,
    display_name,
    finish,
    modality_colors,
)

# Machado, Oliveira and Fernandes (2009), complete deficiency, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def to_lab(colors: list[str], vision: str) -> np.ndarray:
    """Return CIELAB coordinates of ``colors`` as seen with a type of colour vision."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    xyz = linear @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def min_distance(colors: list[str], vision: str) -> float:
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(to_lab(colors, vision), 2))


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_the_palette_are_distinguishable(vision: str) -> None:
    assert len(set(PALETTE)) == 40
    assert min_distance([*PALETTE[:20], MISSING], vision) > 10
    assert min_distance([*PALETTE, MISSING], vision) > 5.5
    assert min_distance(list(ROLE_COLORS.values()), vision) > 60
    assert min_distance(list(_GROUP_COLORS.values()), vision) > 40
    assert min_distance([DIVERGING(0.0), DIVERGING(0.5), DIVERGING(1.0)], vision) > 60


def test_the_distances_detect_a_bad_palette() -> None:
    assert min(min_distance(default_20, vision) for vision in VISION) < 1


@pytest.mark.parametrize(
    ("modality", "shown"), [("rna", "RNA"), ("ADT", "protein"), ("prot", "protein"), ("atac", "atac")]
)
def test_display_name(modality: str, shown: str) -> None:
    assert display_name(modality) == shown


@pytest.mark.parametrize(
    ("show", "interactive", "shown"),
    [(None, False, False), (None, True, True), (False, True, False), (True, False, True)],
)
def test_shown_figures_are_not_returned(
    show: bool | None, interactive: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(None))
    monkeypatch.setattr(plt, "isinteractive", lambda: interactive)
    figure, ax = plt.subplots()
    returned = finish(figure, ax, show=show, save=None)
    assert (len(calls), returned) == ((1, None) if shown else (0, ax))


ONE_PANEL = [
    *("importance_ranking", "audit", "lambda_path", "feature_importance"),
    *("cluster_agreement", "cluster_splits", "attribution", "retrieval"),
]


SEVERAL_PANELS = ["history", "umap", "rank_correlation", "prediction", "dimensions"]

FIGURES = [name for name in pl.__all__ if name.islower() and name not in ("audit_aims", "display_name", "finish")]


def test_all_figures_are_tested() -> None:
    assert set(FIGURES) == {*SEVERAL_PANELS, *ONE_PANEL}


@pytest.mark.parametrize("name", FIGURES)
def test_saved_figures_have_the_size_and_fonts_of_a_journal(
    name: str, drawable: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.svg"
    drawn = getattr(pl, name)(drawable[name], save=path)
    # The axes may be in a subfigure.
    figure = next(ax for ax in np.ravel(drawn) if ax is not None).figure.figure
    assert figure.get_figwidth() * 25.4 == pytest.approx(COLUMN) or figure.get_figwidth() * 25.4 == pytest.approx(PAGE)

    text = path.read_text()
    width, height = (float(size) for size in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups())
    # Neither cropped nor extended.
    assert (width, height) == pytest.approx(72 * figure.get_size_inches(), abs=0.01)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: [^;\"]*?([\d.]+)px", text)]
    assert len(sizes) >= 5
    assert min(sizes) >= MIN_FONT_SIZE

    figure.draw_without_rendering()  # restores the layout at the resolution of the figure
    drawn_on = figure.get_tightbbox()  # bounding box of all elements in inches
    assert drawn_on.x0 >= -0.01 and drawn_on.y0 >= -0.01
    assert drawn_on.x1 <= figure.get_figwidth() + 0.01
    assert drawn_on.y1 <= figure.get_figheight() + 0.01


def test_a_figure_is_saved_as_png(embedded: MuData, tmp_path: Path) -> None:
    path = tmp_path / "umap.png"
    assert pl.umap(embedded, "batch", latents=["joint", "shared_rna"], save=path) is not None
    pixels = plt.imread(path)
    assert pixels.shape[1] == pytest.approx(PAGE / 25.4 * pl.DPI, abs=1)
    assert (pixels[..., :3] < 0.9).mean() > 0.005  # not blank


def test_categories_do_not_have_the_colours_of_modalities() -> None:
    assert not set(PALETTE[:38]) & set(ROLE_COLORS.values())


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["rna", "adt"], ["rna", "adt"]),
        (["prot", "gex"], ["adt", "rna"]),
        (["nuclei", "prot"], ["rna", "adt"]),
        (["a", "b"], ["rna", "adt"]),
    ],
)
def test_modalities_of_any_name_have_the_colours_of_their_roles(names: list[str], roles: list[Any]) -> None:
    assert list(modality_colors(names).values()) == [ROLE_COLORS[role] for role in roles]


@pytest.mark.parametrize("name", ONE_PANEL)
def test_axes_of_the_user_are_used_and_not_shown(
    name: str, drawable: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "isinteractive", lambda: True)
    part = plt.figure().subfigures(1, 2)[1]  # axes in a subfigure
    ax = part.subplots()
    assert getattr(pl, name)(drawable[name], ax=ax) is ax
    assert len(plt.get_fignums()) == 1
    assert ax.has_data()
