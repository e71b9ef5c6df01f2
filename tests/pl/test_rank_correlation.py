from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from mudata import MuData

from indiseek_sc import _keys, pl

from .conftest import RANKED_LABELS as LABELS

KEY = _keys.RANK_CORRELATION
OF_BUNDLED = [
    ("B_Mem", 687, -0.094, -0.120, -0.066, 0.394, 0.376, 0.412),
    ("B_Naive", 278, -0.362, -0.440, -0.280, 0.496, 0.479, 0.511),
    ("CD4_Mem", 950, -0.058, -0.094, -0.022, 0.403, 0.388, 0.418),
    ("CD4_Naive", 321, -0.137, -0.236, -0.034, 0.363, 0.343, 0.384),
    ("CD8_Mem", 680, -0.216, -0.275, -0.160, 0.366, 0.349, 0.383),
    ("CD8_Naive", 315, -0.262, -0.359, -0.165, 0.477, 0.459, 0.495),
    ("CD8_Va7.2", 346, -0.311, -0.402, -0.231, 0.348, 0.328, 0.369),
    ("DC", 64, 0.431, 0.231, 0.622, 0.502, 0.473, 0.530),
    ("Erythrocyte", 55, 0.769, 0.563, 0.985, 0.554, 0.525, 0.587),
    ("Mono_Classical", 720, -0.017, -0.039, 0.005, 0.428, 0.412, 0.443),
    ("Mono_Nonclassical", 276, -0.019, -0.071, 0.037, 0.423, 0.400, 0.446),
    ("NK", 494, -0.045, -0.104, 0.015, 0.411, 0.394, 0.428),
    ("Plasmablast", 248, 0.068, 0.016, 0.122, 0.369, 0.336, 0.401),
    ("Platelet", 125, -0.090, -0.251, 0.063, 0.512, 0.483, 0.542),
    ("T_Vd2", 327, -0.526, -0.621, -0.433, 0.381, 0.361, 0.403),
    ("T_gd", 79, -2.002, -2.176, -1.816, 0.149, 0.102, 0.201),
    ("pDC", 35, -0.164, -0.547, 0.216, 0.234, 0.155, 0.330),
]
"""Label, number of cells, and theta and WNN weight with intervals, from the bundled data."""


def find_overlaps(ax) -> list[tuple[str, str]]:
    boxes = {text.get_text(): Text.get_window_extent(text) for text in ax.texts if text.get_text()}
    return [(one, other) for one in boxes for other in boxes if one < other and boxes[one].overlaps(boxes[other])]


def test_points_labels_and_names_without_overlaps(ranked: MuData) -> None:
    axes = pl.rank_correlation(ranked)
    assert len(axes) == 2
    shared, specific = axes
    points = shared.collections[0].get_offsets()
    np.testing.assert_allclose(
        points, [[2.5, 3.5], [2.5, 3.5], [1, 2], [4, 1]]
    )  # the first two are tied; the last is not ranked
    assert shared.get_title(loc="left").strip() == "Shared representations\nSpearman 0.40 [-0.20, 0.90], 4 labels"
    assert specific.get_title(loc="left").endswith("leak ratios 0.010 and 0.200")
    assert shared.get_xlabel() == "rank by WNN weight of RNA"
    assert shared.get_ylabel() == "rank by θ, RNA over protein"
    for ax in axes:
        assert [text.get_text() for text in ax.texts if text.get_text()] == LABELS[:4]
        assert find_overlaps(ax) == []


def test_means_with_intervals_sizes_and_colours_of_scanpy(ranked: MuData) -> None:
    shared, _ = pl.rank_correlation(ranked, of="means")
    (marks,) = shared.collections
    np.testing.assert_allclose(
        marks.get_offsets(), np.array([[0.5, 0.1], [0.5, 0.1], [0.51, 0.12], [0.2, 0.5], [0.9, -1]])
    )
    areas = marks.get_sizes()
    assert (np.diff(areas) < 0).all()
    # Area is linear in the number of cells.
    assert (areas[0] - areas[1]) / (areas[1] - areas[2]) == pytest.approx(1)
    noted = dict(zip(sorted(LABELS), ranked.uns["type_colors"], strict=True))
    faces = [tuple(face) for face in marks.get_facecolors()]
    # The last is hollow.
    assert faces == [to_rgba(noted[name]) for name in LABELS[:4]] + [to_rgba("white")]
    assert tuple(marks.get_edgecolors()[-1]) == to_rgba(noted["few"])
    bars = [line.get_xydata() for line in shared.lines if line.get_color() == to_rgba(noted["B"])]
    np.testing.assert_allclose(bars, [[[0.18, 0.5], [0.22, 0.5]], [[0.2, 0.4], [0.2, 0.6]]])
    assert [text.get_text() for text in shared.texts if text.get_text()] == LABELS
    assert shared.get_xlabel() == "mean WNN weight of RNA"
    assert shared.get_ylabel() == "mean θ, RNA over protein"
    (legend,) = shared.figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["3 cells", "10 cells", "50 cells", "95% interval over cells", "fewer than 15 cells, not ranked"]


def test_means_of_one_cell_have_no_interval(ranked: MuData) -> None:
    table = ranked.uns[f"{KEY}_labels"]
    table.loc[table["label"] == "few", ["theta_lower", "theta_upper", "weight_lower", "weight_upper"]] = np.nan
    axes = pl.rank_correlation(ranked, of="means")
    assert np.isfinite(axes[0].get_xlim() + axes[0].get_ylim()).all()
    assert all(find_overlaps(ax) == [] for ax in axes)


@pytest.mark.parametrize("of", ["means", "ranks"])
def test_names_of_the_bundled_cell_types_do_not_overlap(ranked: MuData, of: str) -> None:
    columns = ["label", "n_cells", "theta", "theta_lower", "theta_upper", "weight", "weight_lower", "weight_upper"]
    table = pd.DataFrame(OF_BUNDLED, columns=columns).assign(ranked=True, latent="specific")
    assert set(table["label"]) == set(ranked.obs["cell_type"].cat.categories)
    ranked.uns[f"{KEY}_labels"] = table
    ranked.uns[KEY] = ranked.uns[KEY][ranked.uns[KEY]["latent"] == "specific"]
    ranked.uns[f"{KEY}_params"]["label_key"] = "cell_type"
    (ax,) = pl.rank_correlation(ranked, of=of)
    assert sum(bool(text.get_text()) for text in ax.texts) == 17
    assert find_overlaps(ax) == []
    boxes = [Text.get_window_extent(text) for text in ax.texts if text.get_text()]
    assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 for box in boxes)


def test_the_figure_is_saved_and_shown(ranked: MuData, tmp_path, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    assert pl.rank_correlation(ranked, show=True, save=tmp_path / "figure.png") is None
    assert shown == [True]
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_invalid_input_is_rejected(embedded: MuData) -> None:
    with pytest.raises(ValueError, match=r"of='values' is not known. Available: 'ranks', 'means'"):
        pl.rank_correlation(embedded, of="values")
    with pytest.raises(KeyError, match=r"tl\.rank_correlation\(mdata, label_key=\.\.\.\) first"):
        pl.rank_correlation(embedded)
