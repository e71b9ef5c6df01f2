from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.metrics import AuditReport
from indiseek_sc.metrics._report import FIGURES


@pytest.fixture
def report():
    values = np.linspace(0.1, 0.9, 2 * len(FIGURES)).reshape(2, -1)
    table = pd.DataFrame(values, index=["RNA", "<Protein>"], columns=list(FIGURES))
    return AuditReport(table, {"foscttm": 0.01, "recall@10": 0.25}, n_train=3000, n_test=1200, n_retrieval=1000)


def test_prints_every_figure_with_its_target_in_words(report):
    lines = str(report).splitlines()
    assert lines[0] == "Audit on 1,200 held-out cells, by probes fitted on 3,000 others"
    for figure, (target, meaning) in FIGURES.items():
        (line,) = (line for line in lines if line.startswith(f"{figure} "))
        shown = "  ".join(f"{value:.3f}" for value in report.table[figure])
        assert line.split()[1:3] == shown.split()
        assert target in line and line.endswith(meaning)
    assert any(line.startswith("recall@10 0.250 (1 is best)") and line.endswith("of 1,000") for line in lines)


def test_fits_a_terminal_and_words_line_up(report):
    rows = [line for line in str(report).splitlines() if line.startswith(tuple(FIGURES))]
    assert max(map(len, rows)) <= 120
    assert len({line.index(FIGURES[line.split()[0]][1]) for line in rows}) == 1


def test_a_missing_ratio_is_a_dash_and_explained(report):
    assert "dash" not in str(report)
    report.table.loc["RNA", "gain"] = np.nan
    (gain,) = (line for line in str(report).splitlines() if line.startswith("gain "))
    assert gain.split()[1] == "-"
    assert "A dash stands where" in str(report)


def test_html_is_a_table_with_names_escaped(report):
    html = report._repr_html_()
    assert html.count("<tr") == 1 + len(FIGURES)
    assert "&lt;Protein&gt;" in html and "<Protein>" not in html
    assert "0 is best" in html and "recall@10 0.250" in html


def test_printing_leaves_the_figures_alone(report):
    before = report.table.copy()
    str(report), report._repr_html_()
    pd.testing.assert_frame_equal(report.table, before)


def test_is_frozen(report):
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.n_test = 3
