from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from indiseek_sc import pl
from indiseek_sc.pl._feature_importance import _GROUP_COLORS

GROUPS = {"rna_0": "shared", "rna_1": "private", "rna_2": "shared", "rna_3": "none"}


def widths(ax: Axes) -> list[float]:
    return [float(bar.get_width()) for bar in ax.patches]


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_bars_show_the_table_in_descending_order(feature_table: pd.DataFrame) -> None:
    ax = pl.feature_importance(feature_table)
    assert names(ax) == ["rna_1", "rna_3", "rna_2", "rna_0"]
    assert widths(ax) == [0.9, 0.5, 0.3, 0.1]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_legend() is None
    (lines,) = ax.collections
    ends = np.array([segment[:, 0] for segment in lines.get_segments()])
    error = 1.96 * np.array([0.02, 0.05, 0.04, 0.01])
    np.testing.assert_allclose(ends, np.array([[0.9, 0.5, 0.3, 0.1] - error, [0.9, 0.5, 0.3, 0.1] + error]).T)


def test_groups_are_adjacent_and_have_their_colours(feature_table: pd.DataFrame) -> None:
    ax = pl.feature_importance(feature_table, groups=GROUPS)
    assert names(ax) == ["rna_2", "rna_0", "rna_1", "rna_3"]
    of = [to_hex(_GROUP_COLORS[name]) for name in ("shared", "shared", "private", "none")]
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == of
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["shared", "private", "none"]


def test_further_groups_have_distinct_colours(feature_table: pd.DataFrame) -> None:
    groups = pd.Series({"rna_0": "B", "rna_1": "T", "rna_2": "shared", "rna_3": "NK"})
    ax = pl.feature_importance(feature_table, groups=groups)
    assert names(ax)[0] == "rna_2"  # groups of the synthetic suite come first
    assert len({to_hex(bar.get_facecolor()) for bar in ax.patches}) == 4


def test_only_the_largest_features_are_drawn(feature_table: pd.DataFrame) -> None:
    ax = pl.feature_importance(feature_table, n_top=2)
    assert widths(ax) == [0.9, 0.5]
    assert "the 2 largest of 4" in ax.get_xlabel()
    assert "largest" not in pl.feature_importance(feature_table).get_xlabel()


@pytest.mark.parametrize(
    ("method", "kind", "expected"),
    [
        ("jacobian", "specific", "what the encoder uses (also through the shared representation)"),
        ("jacobian", "shared", "slope of the shared representation of RNA"),
        ("permutation", "specific", "permuted among cells"),
        ("probe", "specific", "what the representation contains"),
    ],
)
def test_the_caption_describes_the_method(feature_table: pd.DataFrame, method: str, kind: str, expected: str) -> None:
    caption = pl.feature_importance(feature_table.assign(method=method, kind=kind)).get_xlabel()
    assert expected in caption.replace("\n", " ")
    assert ("through" in caption) == (kind == "specific" and method != "probe")
    assert "95% interval" in caption


def test_the_axis_of_probes_extends_to_1(feature_table: pd.DataFrame) -> None:
    small = feature_table.assign(importance=feature_table["importance"] / 100, standard_error=0.0)
    assert pl.feature_importance(small.assign(method="probe")).get_xlim()[1] == 1
    assert pl.feature_importance(small.assign(method="jacobian")).get_xlim()[1] < 0.05


@pytest.mark.parametrize("method", ["jacobian", "permutation", "probe"])
@pytest.mark.parametrize("n_groups", [0, 9])
def test_labels_do_not_overlap_or_leave_the_page(method: str, n_groups: int) -> None:
    n = 60
    labels = [f"{i}_a gene of an unusually long name, with commas" for i in range(n)]
    table = pd.DataFrame({"feature": labels, "importance": np.linspace(1, 2, n), "standard_error": 0.1})
    table = table.assign(method=method, kind="specific", modality="gene expression of nuclei")
    groups = {label: f"{i % n_groups} group of a long name too" for i, label in enumerate(labels)} if n_groups else None
    ax = pl.feature_importance(table, groups=groups, n_top=45)
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_texts() if n_groups else []
    ticks = [
        t for t in ax.get_xticklabels() if t.get_position()[0] <= ax.get_xlim()[1]
    ]  # ticks beyond the limits are not drawn
    texts = [*ax.get_yticklabels(), ax.xaxis.label, *ticks, *legend]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    page = ax.figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.padded(-1).overlaps(b)]


def test_the_table_is_not_modified(feature_table: pd.DataFrame) -> None:
    before = feature_table.copy()
    pl.feature_importance(feature_table, groups=GROUPS)
    pd.testing.assert_frame_equal(feature_table, before)


def test_invalid_input_is_rejected(feature_table: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match=r"lacks the columns \['standard_error'\]"):
        pl.feature_importance(feature_table.drop(columns="standard_error"))
    with pytest.raises(KeyError, match="groups lacks 1 features of the table, such as 'rna_3'"):
        pl.feature_importance(feature_table, groups={k: v for k, v in GROUPS.items() if k != "rna_3"})
    two = pd.concat([feature_table, feature_table.assign(method="probe")])
    with pytest.raises(ValueError, match="several values of method"):
        pl.feature_importance(two)
    with pytest.raises(ValueError, match="no finite importance"):
        pl.feature_importance(feature_table.iloc[:0])
    with pytest.raises(ValueError, match="n_top must be at least 1"):
        pl.feature_importance(feature_table, n_top=0)
