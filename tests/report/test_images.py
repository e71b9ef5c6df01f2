"""Rendering of figures for a page."""

from __future__ import annotations

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from indiseek_sc import pl
from indiseek_sc.report._images import render_figure


@pytest.fixture
def figure():
    """A figure as wide as a page with two panels."""
    with plt.rc_context(pl.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(pl.PAGE / 25.4, 2), layout="constrained")
        axes[0].scatter([0, 1], [0, 1], color="#ff0000", rasterized=True)
        axes[0].set_title("first")
        axes[1].imshow(np.eye(3))
    yield figure
    plt.close(figure)


def pixels_of(panel) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel.source.partition(",")[2]))).convert("RGB")).astype(
        int
    )


def test_panels_are_cropped_completely_and_in_order(figure):
    (panels,), svg = render_figure(figure)
    assert len(panels) == 2
    assert panels[0].height == panels[1].height  # panels of a row have the same height
    reds = [(pixels_of(panel) == (255, 0, 0)).all(axis=-1).any() for panel in panels]
    assert reds == [True, False]
    for panel in panels:
        edge = np.concatenate([pixels_of(panel)[[0, -1]].reshape(-1, 3), pixels_of(panel)[:, [0, -1]].reshape(-1, 3)])
        assert (edge == 255).all()  # no element crosses the edge of its panel
        assert panel.width < 600
    assert svg.startswith("data:image/svg+xml,%3C%3Fxml")
    assert "data:image/png;base64," in svg


def test_a_figure_of_one_column_is_one_image():
    with plt.rc_context(pl.STYLE):
        figure, _ = plt.subplots(1, 2, figsize=(pl.COLUMN / 25.4, 2), layout="constrained")
    (((panel,),), _) = render_figure(figure)
    assert panel.width == pytest.approx(pl.COLUMN / 25.4 * 72 * 2.2, abs=1)
    plt.close(figure)


def test_panels_with_shared_row_labels_stay_together():
    with plt.rc_context(pl.STYLE):
        figure, _ = plt.subplots(1, 2, figsize=(pl.PAGE / 25.4, 2), sharey=True, layout="constrained")
    rows, _ = render_figure(figure)
    assert [len(row) for row in rows] == [1]
    plt.close(figure)


def test_rendering_is_reproducible():
    drawings = []
    for _ in range(2):
        figure, ax = plt.subplots(figsize=(2, 2), layout="constrained")
        ax.scatter([0, 1], [0, 1], rasterized=True)
        drawings.append(render_figure(figure))
        plt.close(figure)
    assert drawings[0] == drawings[1]
