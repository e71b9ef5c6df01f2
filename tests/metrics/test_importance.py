from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.metrics import label_purity, modality_importance


@pytest.fixture
def two_codes():
    """RNA tells ``a`` apart, ADT tells ``c`` apart, both tell ``b`` from them, and ``rare`` is lost in ``a``."""
    labels = np.repeat(["a", "b", "c", "rare"], [60, 50, 40, 4])
    rng = np.random.default_rng(0)
    place = {"rna": {"a": 0, "b": 10, "c": 20, "rare": 20}, "adt": {"a": 0, "b": 10, "c": 20, "rare": 0}}
    rna, adt = (rng.normal([[place[m][x], 0] for x in labels], 1.0) for m in ("rna", "adt"))
    return rna, adt, labels


def test_theta_agrees_with_its_formula(two_codes):
    rna, adt, labels = two_codes
    k, a = 7, 0.3
    result = modality_importance(rna, adt, labels, n_neighbors=k, smoothing=a)
    beta = [(k * label_purity(code, labels, n_neighbors=k) + a) / (k + 2 * a) for code in (rna, adt)]
    np.testing.assert_allclose(result.theta, np.log(beta[0] / beta[1]))
    for row in result.table.itertuples():
        of_label = labels == row.label
        assert row.n_cells == of_label.sum()
        assert row.theta == pytest.approx(result.theta[of_label].mean())
        assert row.purity_rna == pytest.approx(result.purity_rna[of_label].mean())
        assert row.purity_adt == pytest.approx(result.purity_adt[of_label].mean())


def test_the_modality_that_separates_a_label_has_its_sign(two_codes):
    theta = modality_importance(*two_codes).table.set_index("label")["theta"]
    assert theta["a"] > 0 > theta["c"]
    assert abs(theta["b"]) < 0.01


def test_extremes_in_closed_form():
    """Each label alone in RNA, each cell among the other label in ADT."""
    labels = np.array(["a", "b"] * 2)
    rna, adt = np.array([[0.0], [9.0], [1.0], [10.0]]), np.array([[0.0], [0.1], [9.0], [9.1]])
    result = modality_importance(rna, adt, labels, n_neighbors=1, smoothing=0.5)
    np.testing.assert_allclose(result.theta, np.log((1 + 0.5) / 0.5))


def test_swapping_the_modalities_turns_every_sign(two_codes):
    rna, adt, labels = two_codes
    forth, back = modality_importance(rna, adt, labels), modality_importance(adt, rna, labels)
    np.testing.assert_allclose(forth.theta, -back.theta)
    merged = forth.table.merge(back.table, on="label")
    np.testing.assert_allclose(merged["theta_x"], -merged["theta_y"])
    np.testing.assert_array_equal(merged["rank_x"] + merged["rank_y"], 5)


def test_one_label_gives_zero_everywhere():
    rng = np.random.default_rng(0)
    result = modality_importance(rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), ["a"] * 20)
    np.testing.assert_array_equal(result.theta, np.zeros(20))
    row = result.table.iloc[0]
    assert (row["theta"], row["lower"], row["upper"], row["rank"]) == (0, 0, 0, 1)


def test_rare_labels_are_kept_and_flagged(two_codes):
    table = modality_importance(*two_codes, minimum_cells=15).table.set_index("label")
    assert table["reliable"].to_dict() == {"a": True, "b": True, "c": True, "rare": False}
    assert modality_importance(*two_codes, minimum_cells=4).table["reliable"].all()


def test_a_single_cell_has_no_interval():
    rng = np.random.default_rng(0)
    labels = ["alone"] + ["many"] * 19
    table = modality_importance(rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), labels).table.set_index("label")
    assert np.isfinite(table.loc["alone", "theta"])
    assert np.isnan(table.loc["alone", "lower"]) and np.isnan(table.loc["alone", "upper"])


def test_rows_are_sorted_by_rank_and_equal_thetas_share_one(two_codes):
    table = modality_importance(*two_codes).table
    assert table["theta"].is_monotonic_decreasing
    assert list(table["rank"]) == [1, 2, 3, 4]
    apart = np.arange(12.0)[:, None] // 6 * 50
    tied = modality_importance(apart, apart, ["b"] * 6 + ["a"] * 6, n_neighbors=3).table
    assert list(zip(tied["rank"], tied["label"], strict=True)) == [(1, "a"), (1, "b")]


def test_interval_is_the_bootstrap_of_cells(two_codes):
    rna, adt, labels = two_codes
    result = modality_importance(rna, adt, labels, n_bootstrap=20_000, confidence=0.9)
    rng = np.random.default_rng(1)
    for row in result.table.query("n_cells > 10").itertuples():  # means of few cells move in steps
        theta = result.theta[labels == row.label]
        means = [theta[rng.integers(len(theta), size=len(theta))].mean() for _ in range(20_000)]
        spread = np.std(means)
        np.testing.assert_allclose([row.lower, row.upper], np.quantile(means, [0.05, 0.95]), atol=0.06 * spread + 1e-9)


def test_interval_widens_with_confidence_and_holds_the_mean(two_codes):
    narrow, wide = (modality_importance(*two_codes, confidence=c).table for c in (0.5, 0.99))
    assert (wide["upper"] - wide["lower"] >= narrow["upper"] - narrow["lower"]).all()
    assert wide["theta"].between(wide["lower"], wide["upper"]).all()


def test_seed_fixes_the_interval(two_codes):
    pd.testing.assert_frame_equal(modality_importance(*two_codes).table, modality_importance(*two_codes).table)
    other = modality_importance(*two_codes, seed=1).table
    assert not other["lower"].equals(modality_importance(*two_codes).table["lower"])


def test_cells_without_a_label_are_nan_and_change_nothing(two_codes):
    rna, adt, labels = two_codes
    rng = np.random.default_rng(3)
    place = np.sort(rng.choice(len(labels) + 10, len(labels), replace=False))
    longer = [rng.normal(size=(len(labels) + 10, 2)) for _ in range(2)]
    longer[0][place], longer[1][place] = rna, adt
    sparse = np.full(len(labels) + 10, None, dtype=object)
    sparse[place] = labels
    result, plain = modality_importance(*longer, sparse), modality_importance(*two_codes)
    np.testing.assert_array_equal(result.theta[place], plain.theta)
    assert np.isnan(np.delete(result.theta, place)).all()
    pd.testing.assert_frame_equal(result.table, plain.table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smoothing": 0}, "smoothing=0 must be more than 0"),
        ({"smoothing": float("nan")}, "smoothing=nan"),
        ({"n_bootstrap": 0}, "n_bootstrap=0 must be at least 1"),
        ({"confidence": 95}, "confidence=95 must lie between 0 and 1"),
        ({"n_neighbors": 0}, "n_neighbors=0 must be at least 1"),
        ({"n_neighbors": 154}, "n_neighbors=154 .* labelled cells, 154"),
    ],
)
def test_arguments_out_of_range(two_codes, arguments, message):
    with pytest.raises(ValueError, match=message):
        modality_importance(*two_codes, **arguments)
