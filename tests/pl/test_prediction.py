from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from indiseek_sc import metrics, pl


@pytest.fixture
def report() -> metrics.PredictionReport:
    rng = np.random.default_rng(0)
    names = {"index": [f"cell_{i}" for i in range(300)], "columns": [f"CD{j}" for j in range(20)]}
    measured = pd.DataFrame(rng.normal(size=(300, 20)), **names)
    mean = measured + rng.normal(size=measured.shape) * np.linspace(0.2, 3, 20)
    return metrics.judge_prediction(measured, mean, mean - 1, mean + 1, level=0.9)


def test_panels_go_from_best_to_worst(report) -> None:
    axes = pl.prediction(report)
    assert axes.shape == (3, 4)
    titles = [ax.get_title().split("\n") for ax in axes.flat]
    shown = [name for name, _ in titles]
    ranked = report.table["pearson"].sort_values(ascending=False).index
    assert (shown[0], shown[-1]) == (ranked[0], ranked[-1])
    assert [name for name in ranked if name in shown] == shown
    row = report.table.loc[shown[0]]
    assert titles[0][1] == f"r {row['pearson']:.2f}, {row['coverage']:.0%} in 90% intervals"


def test_all_cells_are_in_the_bins_and_colours_are_of_one_scale(report) -> None:
    axes = pl.prediction(report, ["CD3", "CD7", "CD1"], ncols=2)
    assert axes.shape == (2, 2)
    assert axes[1, 1] is None
    bins = [ax.collections[0] for ax in axes.flat[:3]]
    assert [int(b.get_array().sum()) for b in bins] == [300, 300, 300]
    assert len({(b.norm.vmin, b.norm.vmax) for b in bins}) == 1
    for ax in axes.flat[:3]:
        assert ax.get_xlim() == ax.get_ylim()


def test_conventions(report, tmp_path, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    assert pl.prediction(report, "CD4", save=tmp_path / "figure.png").shape == (1, 1)
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert pl.prediction(report, "CD4", show=True) is None
    assert shown == [True]


def test_what_is_missing_is_said(report) -> None:
    with pytest.raises(TypeError, match=r"model\.audit_prediction\(source, target\) returned, but is DataFrame"):
        pl.prediction(report.table)
    with pytest.raises(KeyError, match="CD99"):
        pl.prediction(report, "CD99")
    with pytest.raises(ValueError, match="names no feature"):
        pl.prediction(report, [])
    with pytest.raises(ValueError, match="ncols=0"):
        pl.prediction(report, ncols=0)
