from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from mudata import MuData

from indiseek_sc import _keys, pl
from indiseek_sc.metrics import AuditReport
from indiseek_sc.pl._style import ROLE_COLORS

AIMS = {"agreement_flat": 0.90, "sufficiency": 0.97, "gain": 0.95, "complete": 0.98, "leak_ratio": 0.02}


def test_bars_show_the_table(audit_table: pd.DataFrame) -> None:
    ax = pl.audit(audit_table)
    (zoomed,) = ax.child_axes
    for panel, figures in ((ax, list(AIMS)[:4]), (zoomed, ["leak_ratio"])):
        assert len(panel.containers) == 2
        for bars, modality in zip(panel.containers, audit_table.index, strict=True):
            widths = [bar.get_width() for bar in bars]
            np.testing.assert_array_equal(widths, audit_table.loc[modality, figures].fillna(0))
            # Each bar is in the row of its figure.
            assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == list(range(len(figures)))
    assert [bars[0].get_facecolor() for bars in ax.containers] == [to_rgba(color) for color in ROLE_COLORS.values()]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["RNA", "protein", "aim"]
    assert ax.get_xlim()[1] > 1.03
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top


def test_aims_are_marked(audit_table: pd.DataFrame) -> None:
    ax = pl.audit(audit_table)
    (zoomed,) = ax.child_axes
    assert [line.get_xdata()[0] for line in [*ax.lines, *zoomed.lines]] == list(AIMS.values())
    assert [np.mean(line.get_ydata()) for line in [*ax.lines, *zoomed.lines]] == [0, 1, 2, 3, 0]
    labels = [label.get_text() for label in [*ax.get_yticklabels(), *zoomed.get_yticklabels()]]
    assert labels[0] == "shared: agreement\naim ≥ 0.90"
    assert labels[4] == "specific: leak ratio\naim ≤ 0.02"


def test_a_leak_of_a_tenth_of_the_aim_is_visible(audit_table: pd.DataFrame) -> None:
    audit_table["leak_ratio"] = [0.002, 0.001]
    ax = pl.audit(audit_table)
    (zoomed,) = ax.child_axes
    ax.figure.draw_without_rendering()
    small, _ = (bars[0].get_window_extent().width for bars in zoomed.containers)
    assert small * 72 / ax.figure.dpi > 2  # in points
    assert zoomed.get_xlim()[1] > 0.02


def test_values_are_written_beside_the_bars(audit_table: pd.DataFrame) -> None:
    ax = pl.audit(audit_table)
    numbers = [
        [text.get_text() for text in sorted(panel.texts, key=lambda text: text.xy[1])] for panel in (ax, *ax.child_axes)
    ]
    assert numbers == [
        ["0.910", "0.880", "1.030", "0.975", "0.960", "not defined", "0.985", "0.990"],
        ["0.018", "0.046"],
    ]


def test_a_negative_leak_is_drawn(audit_table: pd.DataFrame) -> None:
    audit_table.loc["rna", "leak_ratio"] = -0.05
    (ax,) = pl.audit(audit_table).child_axes
    assert ax.get_xlim()[0] < -0.05
    assert ax.containers[0][0].get_width() == -0.05


def test_any_number_of_modalities(audit_table: pd.DataFrame) -> None:
    many = pd.concat([audit_table, audit_table.set_axis(["atac", "hto"])])
    for table in (audit_table.iloc[[0]], many):
        ax = pl.audit(table)
        ax.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for panel in (ax, *ax.child_axes) for text in panel.texts]
        assert len(boxes) == 5 * len(table)
        assert not any(a.padded(-1).overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_report_is_drawn_like_its_table(audit_table: pd.DataFrame) -> None:
    report = AuditReport(table=audit_table, pair={"foscttm": 0.1}, n_train=10, n_test=10, n_retrieval=10)
    ax = pl.audit(report)
    assert len(ax.containers) == 2


def test_curves_show_the_recall(recalls: pd.DataFrame) -> None:
    ax = pl.retrieval(recalls)
    *curves, chance = ax.get_lines()
    for curve, (_, row) in zip(curves, recalls.iterrows(), strict=True):
        np.testing.assert_array_equal(curve.get_xdata(), [1, 10, 100])
        np.testing.assert_array_equal(curve.get_ydata(), row[["recall@1", "recall@10", "recall@100"]].astype(float))
    np.testing.assert_allclose(chance.get_ydata(), [0.005, 0.05, 0.5])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words[0].startswith("RNA to protein\n(FOSCTTM 0.")
    assert words[1].startswith("protein to RNA")
    assert "of 200 cells" in ax.get_xlabel()


def test_retrieval_is_saved_shown_and_returned(recalls: pd.DataFrame, embedded: MuData, tmp_path, monkeypatch) -> None:
    embedded.uns[_keys.RETRIEVAL] = recalls
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    _, ax = plt.subplots()
    assert pl.retrieval(embedded, ax=ax, save=tmp_path / "figure.png") is ax
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert pl.retrieval(embedded, show=True) is None
    assert shown == [True]


def test_panels_are_sorted_from_best_to_worst(predicted) -> None:
    axes = pl.prediction(predicted)
    assert axes.shape == (3, 4)
    titles = [ax.get_title().split("\n") for ax in axes.flat]
    shown = [name for name, _ in titles]
    ranked = predicted.table["pearson"].sort_values(ascending=False).index
    assert (shown[0], shown[-1]) == (ranked[0], ranked[-1])
    assert [name for name in ranked if name in shown] == shown
    row = predicted.table.loc[shown[0]]
    assert titles[0][1] == f"r {row['pearson']:.2f}, {row['coverage']:.0%} in 90% intervals"


def test_all_cells_are_binned_on_one_colour_scale(predicted) -> None:
    axes = pl.prediction(predicted, ["CD3", "CD7", "CD1"], ncols=2)
    assert axes.shape == (2, 2)
    assert axes[1, 1] is None
    bins = [ax.collections[0] for ax in axes.flat[:3]]
    assert [int(b.get_array().sum()) for b in bins] == [300, 300, 300]
    assert len({(b.norm.vmin, b.norm.vmax) for b in bins}) == 1
    for ax in axes.flat[:3]:
        assert ax.get_xlim() == ax.get_ylim()


def test_prediction_is_saved_shown_and_returned(predicted, tmp_path, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    assert pl.prediction(predicted, "CD4", save=tmp_path / "figure.png").shape == (1, 1)
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert pl.prediction(predicted, "CD4", show=True) is None
    assert shown == [True]


def test_invalid_input_of_prediction_is_rejected(predicted) -> None:
    with pytest.raises(TypeError, match=r"model\.audit_prediction\(source, target\) returned, but is DataFrame"):
        pl.prediction(predicted.table)
    with pytest.raises(KeyError, match="CD99"):
        pl.prediction(predicted, "CD99")
    with pytest.raises(ValueError, match="names no feature"):
        pl.prediction(predicted, [])
    with pytest.raises(ValueError, match="ncols must be at least 1"):
        pl.prediction(predicted, ncols=0)


def test_aims_are_lower_for_few_cells(audit_table: pd.DataFrame) -> None:
    for n_train, agreement in ((2999, "0.60"), (3000, "0.90")):
        report = AuditReport(audit_table, {"foscttm": 0.1}, n_train=n_train, n_test=10, n_retrieval=10)
        ax = pl.audit(report)
        assert ax.get_yticklabels()[0].get_text() == f"shared: agreement\naim ≥ {agreement}"
