from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from indiseek_sc import metrics


@pytest.fixture
def compared() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(40, 6)) + np.arange(6)
    return measured, measured + rng.normal(size=measured.shape)


def test_figures_are_those_of_scipy(compared):
    measured, predicted = compared
    assert metrics.root_mean_squared_error(measured, predicted) == pytest.approx(
        np.sqrt(((measured - predicted) ** 2).mean())
    )
    by_feature, by_cell = (f(measured, predicted) for f in (metrics.pearson_per_feature, metrics.pearson_per_cell))
    np.testing.assert_allclose(by_feature, [pearsonr(a, b)[0] for a, b in zip(measured.T, predicted.T, strict=True)])
    np.testing.assert_allclose(by_cell, [pearsonr(a, b)[0] for a, b in zip(measured, predicted, strict=True)])


def test_constant_features_have_no_correlation(compared):
    measured, predicted = compared
    predicted[:, 2] = 0.1 + 0.2
    assert np.isnan(metrics.pearson_per_feature(measured, predicted)[2])
    assert np.isfinite(metrics.pearson_per_feature(measured, predicted)[[0, 1, 3]]).all()


def test_coverage_counts_bounds_as_inside():
    measured = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert (
        metrics.interval_coverage(measured, measured - [[0], [1], [1], [1]], measured + [[0], [0], [-0.5], [1]]) == 0.75
    )
    with pytest.raises(ValueError, match="lower lies above upper in 4 places"):
        metrics.interval_coverage(measured, measured + 1, measured)


def test_invalid_shapes_and_values_are_rejected(compared):
    measured, predicted = compared
    with pytest.raises(ValueError, match="must have the same shape"):
        metrics.root_mean_squared_error(measured, predicted[:, :3])
    predicted[3, 1] = np.nan
    with pytest.raises(ValueError, match="predicted has values that are not finite in rows 3"):
        metrics.pearson_per_cell(measured, predicted)


def test_report_contains_all_figures(compared):
    names = {"index": [f"cell_{i}" for i in range(40)], "columns": [f"CD{j}" for j in range(6)]}
    measured, mean = (pd.DataFrame(x, **names) for x in compared)
    report = metrics.evaluate_prediction(measured, mean, mean - 1, mean + 1, level=0.68)
    assert list(report.table.index) == list(names["columns"])
    np.testing.assert_allclose(report.table["pearson"], metrics.pearson_per_feature(*compared))
    assert report.coverage == pytest.approx(report.table["coverage"].mean())
    assert report.rmse == pytest.approx(np.sqrt((report.table["rmse"] ** 2).mean()))
    assert report.to_dict().keys() == {"rmse", "pearson_per_feature", "pearson_per_cell", "coverage"}
    assert "6 features in 40 cells" in str(report)
    assert "within 68% intervals" in str(report)
    with pytest.raises(ValueError, match="lower must have the cells and features of measured"):
        metrics.evaluate_prediction(measured, mean, (mean - 1)[::-1], mean + 1, level=0.9)
