from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from indiseek_sc.pl._labels import place_names


def draw(points, names, **arguments):
    figure, ax = plt.subplots(figsize=(5, 5))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    figure.draw_without_rendering()
    return ax, place_names(ax, points, names, **{"radii": np.full(len(names), 3.0), **arguments})


def boxes_of(texts):
    return [Text.get_window_extent(text) for text in texts]


@pytest.mark.parametrize("spread", [0.2, 0.02, 0.0])
def test_names_of_crowded_points_do_not_overlap_and_stay_within_the_panel(spread):
    points = 0.5 + spread * np.random.default_rng(0).normal(size=(12, 2))
    ax, texts = draw(points, [f"cell type {i}" for i in range(12)])
    boxes = boxes_of(texts)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 for box in boxes)
    assert all(ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1 for box in boxes)


def test_a_single_name_is_beside_its_mark_without_a_line():
    ax, (text,) = draw([[0.5, 0.5]], ["alone"], radii=[10.0])
    (box,) = boxes_of([text])
    mark = ax.transData.transform([0.5, 0.5])
    apart = np.linalg.norm(mark - np.clip(mark, box.min, box.max)) * 72 / ax.figure.dpi
    assert 10 < apart < 15
    assert len(ax.texts) == 1


def test_names_avoid_bars_and_marks_and_lines_connect_distant_names():
    level = [[[0.0, 0.5], [1.0, 0.5]]]
    ax, (text,) = draw([[0.5, 0.5]], ["name"], bars=level)
    (box,) = boxes_of([text])
    assert not box.y0 < ax.transData.transform([0.5, 0.5])[1] < box.y1
    around = 0.5 + 0.08 * np.array([[np.cos(a), np.sin(a)] for a in np.arange(8) * np.pi / 4])
    ax, texts = draw([[0.5, 0.5], *around], ["inner", *"abcdefgh"], radii=np.full(9, 12.0))
    assert len(ax.texts) > len(texts)  # the lines
    low, high = np.array([[box.min, box.max] for box in boxes_of(texts)]).swapaxes(0, 1)
    marks = ax.transData.transform([[0.5, 0.5], *around])
    assert not ((marks[:, None] > low) & (marks[:, None] < high)).all(axis=-1).any()


def test_placement_is_deterministic():
    points = np.random.default_rng(1).random((10, 2)) / 4 + 0.3
    once, again = (draw(points, [f"type {i}" for i in range(10)])[1] for _ in range(2))
    assert [text.get_position() for text in once] == [text.get_position() for text in again]


def test_no_names():
    assert draw(np.empty((0, 2)), [])[1] == []
