from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from indiseek_sc.metrics import _rank_correlation, rank_correlation

SHIFT = {"a": 0.0, "b": 0.3, "c": 0.5, "d": 0.9, "e": 0.4, "few": 9.0}
LABELS = np.repeat(list(SHIFT), [20, 30, 40, 15, 25, 14])


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shift = np.array([SHIFT[name] for name in LABELS])
    return shift + rng.normal(size=len(LABELS)), shift**2 + rng.normal(size=len(LABELS)) / 3


def slow(statistic, names, values, reference, rows=slice(None)):
    labels = LABELS[rows]
    means = [[x[rows][labels == name].mean() for name in names] for x in (values, reference)]
    return statistic(*means).statistic


def assert_same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table)
    pd.testing.assert_frame_equal(one.labels, other.labels)


@pytest.mark.parametrize(("name", "statistic"), [("spearman", spearmanr), ("kendall", kendalltau)])
def test_against_a_loop(name, statistic):
    values, reference = draw()
    table = rank_correlation(values, reference, LABELS, n_bootstrap=300, confidence=0.9).table.set_index("statistic")
    row, names = table.loc[name], "abcde"
    assert row["estimate"] == pytest.approx(slow(statistic, names, values, reference))
    assert row["n_labels"] == 5
    assert row["left_out"] == "few"

    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(300):
        rows = [rng.choice(np.flatnonzero(LABELS == x), (LABELS == x).sum()) for x in names]
        drawn.append(slow(statistic, names, values, reference, np.concatenate(rows)))
    # Rank correlations of five labels come in steps of 0.1 and 0.2.
    np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(drawn, [0.05, 0.95]), atol=0.2)

    without = np.array([slow(statistic, names.replace(x, ""), values, reference) for x in names])
    error = np.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum())
    ends = row["estimate"] - 1.6449 * error, row["estimate"] + 1.6449 * error
    np.testing.assert_allclose([row["jackknife_lower"], row["jackknife_upper"]], np.clip(ends, -1, 1), atol=1e-4)


def test_means_of_labels_have_intervals():
    values, reference = draw()
    alone = np.append(LABELS, "alone")
    values, reference = np.append(values, 5.0), np.append(reference, 7.0)
    result = rank_correlation(values, reference, alone, n_bootstrap=4000, confidence=0.9)
    table = result.labels.set_index("label")
    assert table.index.tolist() == sorted([*SHIFT, "alone"])
    assert table.index[table["ranked"]].tolist() == list("abcde")
    for column, figure in (("value", values), ("reference", reference)):
        for name in SHIFT:
            cells = figure[alone == name]
            assert table.loc[name, "n_cells"] == len(cells)
            assert table.loc[name, column] == pytest.approx(cells.mean())
            wide = 1.645 * cells.std() / np.sqrt(len(cells))
            limits = table.loc[name, [f"{column}_lower", f"{column}_upper"]].to_numpy(dtype=float)
            np.testing.assert_allclose(limits, cells.mean() + wide * np.array([-1, 1]), atol=0.15 * wide)
    assert table.loc["alone", ["value", "reference"]].tolist() == [5.0, 7.0]
    assert table.loc["alone"].filter(regex="lower|upper").isna().all()
    # Labels that are not ranked make no difference to the others.
    before = rank_correlation(*draw(), LABELS, n_bootstrap=4000, confidence=0.9)
    pd.testing.assert_frame_equal(before.table.drop(columns="left_out"), result.table.drop(columns="left_out"))


def test_the_same_order_is_one_and_the_reverse_minus_one():
    values = np.array([SHIFT[name] for name in LABELS])
    exact = rank_correlation(values, values**3, LABELS, n_bootstrap=50).table
    figures = ["estimate", "lower", "upper", "jackknife_lower", "jackknife_upper"]
    np.testing.assert_allclose(exact[figures], 1.0)
    np.testing.assert_allclose(rank_correlation(values, -values, LABELS).table["estimate"], -1.0)


def test_cells_without_a_label_and_their_values_make_no_difference():
    values, reference = draw()
    known = rank_correlation(values, reference, LABELS)
    labels = np.append(LABELS, [None] * 50)
    values, reference = np.append(values, np.full(50, 1e6)), np.append(reference, np.full(50, -1e6))
    assert_same(rank_correlation(values, reference, labels), known)


def test_drawing_in_parts_changes_nothing(monkeypatch):
    known = rank_correlation(*draw(), LABELS, n_bootstrap=20)
    monkeypatch.setattr(_rank_correlation, "_LARGEST_DRAW", 90)
    assert_same(rank_correlation(*draw(), LABELS, n_bootstrap=20), known)


def test_labels_that_are_all_alike_have_no_ranks():
    values, _ = draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = rank_correlation(values, np.ones(len(LABELS)), LABELS, n_bootstrap=5).table
    assert table[["estimate", "lower", "upper", "jackknife_lower", "jackknife_upper"]].isna().all(axis=None)


def test_what_is_asked_for_is_computed():
    both = rank_correlation(*draw(), LABELS, n_bootstrap=20).table
    kendall = rank_correlation(*draw(), LABELS, n_bootstrap=20, statistics=["kendall"]).table
    pd.testing.assert_frame_equal(kendall, both.iloc[1:].reset_index(drop=True))


def test_three_labels_have_no_jackknife():
    some = np.isin(LABELS, ["a", "b", "c"])
    table = rank_correlation(*(x[some] for x in draw()), LABELS[some]).table
    assert table[["jackknife_lower", "jackknife_upper"]].isna().all(axis=None)
    assert table["estimate"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_cells": 26}, "labels: ranks need at least 3 labels of minimum_cells=26 cells or more; there are 2, and 4 with"),
        ({"n_bootstrap": 0}, "n_bootstrap=0 must be at least 1"),
        ({"statistics": ["pearson"]}, "statistics: there is no 'pearson', only spearman, kendall"),
        ({"confidence": 1.0}, "confidence=1.0 must lie between 0 and 1"),
        ({"reference": np.ones(3)}, "reference has 3 entries, but 144 cells are expected"),
        ({"values": np.ones((144, 2))}, r"values must have shape \(n_cells,\), one number a cell; got \(144, 2\)"),
        ({"values": np.where(np.arange(144) > 140, np.nan, 1.0)}, r"values is not finite in rows 141, 142, 143 \(3 in all\)"),
        ({"labels": ["a"]}, "labels has 1 entries, but there are 144 cells"),
    ],
)  # fmt: skip
def test_bad_input(change, message):
    values, reference = draw()
    with pytest.raises(ValueError, match=message):
        rank_correlation(**{"values": values, "reference": reference, "labels": LABELS, **change})
