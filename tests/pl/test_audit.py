from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from indiseek_sc import pl
from indiseek_sc.metrics import AuditReport
from indiseek_sc.pl._style import ROLE_COLORS

AIMS = {"agreement_flat": 0.90, "sufficiency": 0.97, "gain": 0.95, "complete": 0.98, "leak_ratio": 0.02}


def test_bars_are_the_table(audit_table: pd.DataFrame) -> None:
    ax = pl.audit(audit_table)
    assert len(ax.containers) == 2
    for bars, modality in zip(ax.containers, audit_table.index, strict=True):
        widths = [bar.get_width() for bar in bars]
        np.testing.assert_array_equal(widths, audit_table.loc[modality, list(AIMS)].fillna(0))
        # Each bar is in the row of its figure.
        assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == [0, 1, 2, 3, 4]
    assert [bars[0].get_facecolor() for bars in ax.containers] == [to_rgba(color) for color in ROLE_COLORS.values()]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["RNA", "protein", "aim"]
    assert ax.get_xlim()[1] > 1.03
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top


def test_aims_are_marked(audit_table: pd.DataFrame) -> None:
    ax = pl.audit(audit_table)
    marks = [line for line in ax.lines if line.get_linewidth() == 2.5]
    assert [line.get_xdata()[0] for line in marks] == list(AIMS.values())
    assert [np.mean(line.get_ydata()) for line in marks] == [0, 1, 2, 3, 4]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "shared code: agreement\naim ≥ 0.90"
    assert labels[4] == "specific code: leak ratio\naim ≤ 0.02"


def test_numbers_stand_beside_their_bars(audit_table: pd.DataFrame) -> None:
    ax = pl.audit(audit_table)
    numbers = {round(text.xy[1], 2): text.get_text() for text in ax.texts}
    assert [numbers[at] for at in sorted(numbers)] == [
        *("0.910", "0.880", "1.030", "0.975", "0.960", "not defined", "0.985", "0.990", "0.018", "0.046")
    ]


def test_a_negative_leak_is_drawn(audit_table: pd.DataFrame) -> None:
    audit_table.loc["rna", "leak_ratio"] = -0.05
    ax = pl.audit(audit_table)
    assert ax.get_xlim()[0] < -0.05
    assert ax.containers[0][4].get_width() == -0.05


def test_one_modality_and_many(audit_table: pd.DataFrame) -> None:
    many = pd.concat([audit_table, audit_table.set_axis(["atac", "hto"])])
    for table in (audit_table.iloc[[0]], many):
        ax = pl.audit(table)
        ax.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) == 5 * len(table)
        assert not any(a.padded(-1).overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_report_is_its_table(audit_table: pd.DataFrame) -> None:
    report = AuditReport(table=audit_table, pair={"foscttm": 0.1}, n_train=10, n_test=10, n_retrieval=10)
    ax = pl.audit(report)
    assert len(ax.containers) == 2


def test_errors(audit_table: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"report must be what model.audit\(\) returns, or its table; got dict"):
        pl.audit({"gain": 1})
    with pytest.raises(TypeError, match="got SimpleNamespace"):
        pl.audit(SimpleNamespace())
    with pytest.raises(KeyError, match=r"lacks \['gain'\]; it has .*model.audit\(\)"):
        pl.audit(audit_table.drop(columns="gain"))
    with pytest.raises(ValueError, match="has no row"):
        pl.audit(audit_table.iloc[:0])
    assert not plt.get_fignums()
