from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from indiseek_sc import pl


def mesh(ax: Axes) -> QuadMesh:
    (found,) = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    return found


def rows(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def columns(ax: Axes) -> list[str]:
    # Labels at the lower end only.
    return [tick.label1.get_text() for tick in ax.xaxis.get_major_ticks()]


@pytest.fixture
def grouped(attribution_table: pd.DataFrame) -> pd.DataFrame:
    """Two groups with the same attributions, the second with opposite signs and few cells."""
    b, t = (attribution_table.assign(group=name) for name in ("B cell", "T cell"))
    t["attribution"], t["n_cells"] = -t["attribution"], 7
    return pd.concat([b, t], ignore_index=True)


def test_rows_are_the_largest_features_of_each_dimension(attribution_table: pd.DataFrame) -> None:
    ax = pl.attribution(attribution_table, n_top=2)
    # Of genes 0 to 3 the last two are largest, one positive and one negative; positive values come
    # first.
    assert rows(ax) == ["G2", "G3", "G6", "G7", "G10", "G11"]
    assert columns(ax) == ["0", "1", "2"]
    assert ax.get_ylim() == (6, 0)
    expected = attribution_table.pivot(index="feature", columns="dimension", values="attribution").loc[rows(ax)]
    np.testing.assert_allclose(mesh(ax).get_array().reshape(6, 3), expected)
    assert ax.get_title(loc="left") == "RNA-specific representation"


def test_colour_scale_is_centred_on_0_and_saturates_few_values(attribution_table: pd.DataFrame) -> None:
    table = attribution_table.copy()
    table.loc[0, "attribution"] = 100.0
    drawn = mesh(pl.attribution(table, n_top=12))
    assert drawn.norm.vmin == -drawn.norm.vmax
    assert 0.5 < drawn.norm.vmax < 100
    red, green, blue, _ = drawn.cmap(drawn.norm(0.0))
    assert min(red, green, blue) > 0.95
    one = mesh(pl.attribution(attribution_table, measure="magnitude"))
    assert one.norm.vmin == 0


def test_groups_are_columns_for_one_dimension(grouped: pd.DataFrame) -> None:
    ax = pl.attribution(grouped, dimensions=[1], n_top=3)
    assert columns(ax) == ["B cell (1,234)", "T cell (7)"]
    assert set(rows(ax)) == {"G5", "G6", "G7"}
    values = mesh(ax).get_array().reshape(3, 2)
    np.testing.assert_allclose(values[:, 0], -values[:, 1])
    assert ax.get_title(loc="left") == "RNA-specific representation, dimension 1"


def test_dimensions_are_columns_for_one_group(grouped: pd.DataFrame) -> None:
    ax = pl.attribution(grouped, groups="T cell", dimensions=[0, 2])
    assert columns(ax) == ["0", "2"]
    assert ax.get_title(loc="left") == "RNA-specific representation, T cell"
    with pytest.raises(
        ValueError, match=r"3 dimensions in 2 groups. Draw one group \(groups='B cell'\) or one dimension"
    ):
        pl.attribution(grouped)


def test_integrated_gradients_over_all_cells_are_drawn_as_magnitudes(
    attribution_table: pd.DataFrame, grouped: pd.DataFrame
) -> None:
    gradients = {"method": "integrated_gradients"}
    ax = pl.attribution(attribution_table.assign(**gradients))
    assert mesh(ax).norm.vmin == 0
    assert "r.m.s." in ax.figure.axes[-1].get_xlabel().replace("\n", " ")
    for drawn in (
        pl.attribution(attribution_table.assign(**gradients), measure="attribution"),
        pl.attribution(grouped.assign(**gradients), groups="B cell"),
    ):
        assert mesh(drawn).norm.vmin < 0
        assert "mean over cells" in drawn.figure.axes[-1].get_xlabel().replace("\n", " ")


def test_attributions_of_zero_are_drawn(attribution_table: pd.DataFrame) -> None:
    ax = pl.attribution(attribution_table.assign(attribution=0.0), n_top=5)
    assert len(rows(ax)) == 5


@pytest.mark.parametrize("across", ["dimension", "group"])
def test_labels_do_not_overlap_or_leave_the_page(across: str) -> None:
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [range(18), [f"{j}_a gene of an unusually long name" for j in range(80)]], names=[across, "feature"]
    )
    table = index.to_frame(index=False).assign(n_cells=500, kind="specific", method="decoder_jacobian", modality="rna")
    if across == "group":
        table["group"] = "a cell type of a very long name, " + table["group"].astype(str)
    table = table.assign(**{"group": "all", "dimension": 0} | {across: table[across]})
    table["attribution"] = rng.normal(size=len(table))
    ax = pl.attribution(table.assign(magnitude=1.0))
    ax.figure.draw_without_rendering()
    bar = ax.figure.axes[-1]
    texts = [*ax.get_yticklabels(), *ax.get_xticklabels(), ax.xaxis.label, bar.yaxis.label, ax._left_title]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    page = ax.figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.padded(-1).overlaps(b)]


def test_the_table_is_not_modified(attribution_table: pd.DataFrame) -> None:
    before = attribution_table.copy()
    pl.attribution(attribution_table, dimensions=[0])
    pd.testing.assert_frame_equal(attribution_table, before)
