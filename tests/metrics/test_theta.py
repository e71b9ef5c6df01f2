from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

import indiseek_sc as isk
from indiseek_sc.metrics import label_purity, modality_importance, rank_correlation


@pytest.fixture
def two_latents():
    """RNA separates ``a``, ADT separates ``c``, both ``b``; ``rare`` overlaps with another."""
    labels = np.repeat(["a", "b", "c", "rare"], [60, 50, 40, 4])
    rng = np.random.default_rng(0)
    place = {"rna": {"a": 0, "b": 10, "c": 20, "rare": 20}, "adt": {"a": 0, "b": 10, "c": 20, "rare": 0}}
    rna, adt = (rng.normal([[place[m][x], 0] for x in labels], 1.0) for m in ("rna", "adt"))
    return rna, adt, labels


def test_theta_agrees_with_its_formula(two_latents):
    rna, adt, labels = two_latents
    k, a = 7, 0.3
    result = modality_importance(rna, adt, labels, n_neighbors=k, smoothing=a)
    beta = [(k * label_purity(latent, labels, n_neighbors=k) + a) / (k + 2 * a) for latent in (rna, adt)]
    np.testing.assert_allclose(result.theta, np.log(beta[0] / beta[1]))
    for row in result.table.itertuples():
        of_label = labels == row.label
        assert row.n_cells == of_label.sum()
        assert row.theta == pytest.approx(result.theta[of_label].mean())
        assert row.purity_rna == pytest.approx(result.purity_rna[of_label].mean())
        assert row.purity_adt == pytest.approx(result.purity_adt[of_label].mean())


def test_theta_has_the_sign_of_the_separating_modality(two_latents):
    theta = modality_importance(*two_latents).table.set_index("label")["theta"]
    assert theta["a"] > 0 > theta["c"]
    assert abs(theta["b"]) < 0.01


def test_extreme_values_agree_with_the_closed_form():
    """Neighbours have the same label in RNA and the other label in ADT."""
    labels = np.array(["a", "b"] * 2)
    rna, adt = np.array([[0.0], [9.0], [1.0], [10.0]]), np.array([[0.0], [0.1], [9.0], [9.1]])
    result = modality_importance(rna, adt, labels, n_neighbors=1, smoothing=0.5)
    np.testing.assert_allclose(result.theta, np.log((1 + 0.5) / 0.5))


def test_swapping_modalities_changes_every_sign(two_latents):
    rna, adt, labels = two_latents
    forth, back = modality_importance(rna, adt, labels), modality_importance(adt, rna, labels)
    np.testing.assert_allclose(forth.theta, -back.theta)
    merged = forth.table.merge(back.table, on="label")
    np.testing.assert_allclose(merged["theta_x"], -merged["theta_y"])
    np.testing.assert_array_equal(merged["rank_x"] + merged["rank_y"], 5)


def test_a_single_label_has_a_theta_of_0():
    rng = np.random.default_rng(0)
    result = modality_importance(rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), ["a"] * 20)
    np.testing.assert_array_equal(result.theta, np.zeros(20))
    row = result.table.iloc[0]
    assert (row["theta"], row["lower"], row["upper"], row["rank"]) == (0, 0, 0, 1)


def test_rare_labels_are_not_marked_reliable(two_latents):
    table = modality_importance(*two_latents, minimum_cells=15).table.set_index("label")
    assert table["reliable"].to_dict() == {"a": True, "b": True, "c": True, "rare": False}
    assert modality_importance(*two_latents, minimum_cells=4).table["reliable"].all()


def test_a_single_cell_has_no_interval():
    rng = np.random.default_rng(0)
    labels = ["alone"] + ["many"] * 19
    table = modality_importance(rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), labels).table.set_index("label")
    assert np.isfinite(table.loc["alone", "theta"])
    assert np.isnan(table.loc["alone", "lower"]) and np.isnan(table.loc["alone", "upper"])


def test_rows_are_sorted_by_rank_and_ties_share_a_rank(two_latents):
    table = modality_importance(*two_latents).table
    assert table["theta"].is_monotonic_decreasing
    assert list(table["rank"]) == [1, 2, 3, 4]
    apart = np.arange(12.0)[:, None] // 6 * 50
    tied = modality_importance(apart, apart, ["b"] * 6 + ["a"] * 6, n_neighbors=3).table
    assert list(zip(tied["rank"], tied["label"], strict=True)) == [(1, "a"), (1, "b")]


def test_interval_agrees_with_a_bootstrap_of_cells(two_latents):
    rna, adt, labels = two_latents
    result = modality_importance(rna, adt, labels, n_bootstrap=20_000, confidence=0.9)
    rng = np.random.default_rng(1)
    for row in result.table.query("n_cells > 10").itertuples():  # means of few cells take few values
        theta = result.theta[labels == row.label]
        means = [theta[rng.integers(len(theta), size=len(theta))].mean() for _ in range(20_000)]
        spread = np.std(means)
        np.testing.assert_allclose([row.lower, row.upper], np.quantile(means, [0.05, 0.95]), atol=0.06 * spread + 1e-9)


def test_interval_widens_with_confidence_and_contains_the_mean(two_latents):
    narrow, wide = (modality_importance(*two_latents, confidence=c).table for c in (0.5, 0.99))
    assert (wide["upper"] - wide["lower"] >= narrow["upper"] - narrow["lower"]).all()
    assert wide["theta"].between(wide["lower"], wide["upper"]).all()


def test_interval_is_reproducible_by_seed(two_latents):
    pd.testing.assert_frame_equal(modality_importance(*two_latents).table, modality_importance(*two_latents).table)
    other = modality_importance(*two_latents, seed=1).table
    assert not other["lower"].equals(modality_importance(*two_latents).table["lower"])


def test_cells_without_a_label_are_nan_and_do_not_affect_others(two_latents):
    rna, adt, labels = two_latents
    rng = np.random.default_rng(3)
    place = np.sort(rng.choice(len(labels) + 10, len(labels), replace=False))
    longer = [rng.normal(size=(len(labels) + 10, 2)) for _ in range(2)]
    longer[0][place], longer[1][place] = rna, adt
    sparse = np.full(len(labels) + 10, None, dtype=object)
    sparse[place] = labels
    result, plain = modality_importance(*longer, sparse), modality_importance(*two_latents)
    np.testing.assert_array_equal(result.theta[place], plain.theta)
    assert np.isnan(np.delete(result.theta, place)).all()
    pd.testing.assert_frame_equal(result.table, plain.table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smoothing": 0}, "smoothing must be above 0"),
        ({"smoothing": float("nan")}, "smoothing must be above 0"),
        ({"n_bootstrap": 0}, "n_bootstrap must be at least 1"),
        ({"confidence": 95}, "confidence=95 must lie between 0 and 1"),
        ({"n_neighbors": 0}, "n_neighbors must be at least 1"),
        ({"n_neighbors": 154}, "n_neighbors=154 .* labelled cells, 154"),
    ],
)
def test_importance_rejects_arguments_out_of_range(two_latents, arguments, message):
    with pytest.raises(ValueError, match=message):
        modality_importance(*two_latents, **arguments)


def slow_purity(latent, labels, k):
    """Compute the purity by sorting all other cells by distance, one cell at a time."""
    purity = []
    for i in range(len(latent)):
        others = [j for j in range(len(latent)) if j != i]
        others.sort(key=lambda j: float(((latent[i] - latent[j]) ** 2).sum()))
        purity.append(np.mean([labels[j] == labels[i] for j in others[:k]]))
    return np.array(purity)


@settings(max_examples=40, deadline=None)
@given(n_cells=st.integers(3, 25), n_features=st.sampled_from([1, 3, 20]), seed=st.integers(0, 10_000), data=st.data())
def test_purity_agrees_with_a_slow_loop(n_cells, n_features, seed, data):
    rng = np.random.default_rng(seed)
    latent, labels = rng.normal(size=(n_cells, n_features)), rng.integers(0, 3, n_cells)
    k = data.draw(st.integers(1, n_cells - 1))
    np.testing.assert_allclose(label_purity(latent, labels, n_neighbors=k), slow_purity(latent, labels, k))


@pytest.mark.parametrize("n_features", [2, 40], ids=["tree", "brute force"])
def test_a_cell_is_not_its_own_neighbor_among_duplicates(n_features):
    places = 100.0 * np.random.default_rng(0).normal(size=(30, n_features))
    latent, labels = np.repeat(places, 3, axis=0), np.tile(["a", "a", "b"], 30)
    np.testing.assert_array_equal(label_purity(latent, labels, n_neighbors=2), np.tile([0.5, 0.5, 0.0], 30))


def test_more_duplicates_than_neighbors():
    latent, labels = np.zeros((20, 3)), np.arange(20)
    np.testing.assert_array_equal(label_purity(latent, labels, n_neighbors=4), np.zeros(20))


def test_purity_of_two_cells():
    latent = np.array([[0.0], [1.0]])
    np.testing.assert_array_equal(label_purity(latent, ["a", "a"], n_neighbors=1), [1, 1])
    np.testing.assert_array_equal(label_purity(latent, ["a", "b"], n_neighbors=1), [0, 0])
    with pytest.raises(ValueError, match="n_neighbors=2 .* labelled cells, 2"):
        label_purity(latent, ["a", "a"], n_neighbors=2)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_cells_without_a_label_are_not_neighbors(missing):
    latent = np.array([[0.0], [0.1], [0.2], [5.0], [5.1]])
    purity = label_purity(latent, pd.Series(["a", missing, "a", "b", "a"], dtype=object), n_neighbors=1)
    np.testing.assert_array_equal(purity, [1, np.nan, 1, 0, 0])


@pytest.mark.parametrize("convert", [list, np.array, pd.Categorical, lambda x: pd.Series(x, index=list("wxyz"))])
def test_labels_are_accepted_in_any_container(convert):
    latent = np.array([[0.0], [0.1], [5.0], [5.1]])
    np.testing.assert_array_equal(label_purity(latent, convert(["a", "a", "b", "b"]), n_neighbors=1), np.ones(4))


def test_integer_representations_are_accepted():
    np.testing.assert_array_equal(label_purity([[0], [1], [9], [8]], [1, 1, 2, 2], n_neighbors=1), np.ones(4))


def test_purity_rejects_invalid_arguments():
    latent, labels = np.zeros((8, 2)), ["a"] * 8
    with pytest.raises(ValueError, match="labels has 7 entries, but there are 8 cells"):
        label_purity(latent, labels[:7])
    with pytest.raises(ValueError, match="labels is missing in every cell"):
        label_purity(latent, [None] * 8)
    with pytest.raises(ValueError, match=r"latent must have shape \(n_cells, n_features\).*\(8,\)"):
        label_purity(latent[:, 0], labels)
    latent[1:8] = np.inf
    with pytest.raises(ValueError, match=r"not finite in rows 1, 2, 3, 4, 5, \.\.\. \(7 in all\)"):
        label_purity(latent, labels)


SHIFT = {"a": 0.0, "b": 0.3, "c": 0.5, "d": 0.9, "e": 0.4, "few": 9.0}
LABELS = np.repeat(list(SHIFT), [20, 30, 40, 15, 25, 14])


def draw_figures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shift = np.array([SHIFT[name] for name in LABELS])
    return shift + rng.normal(size=len(LABELS)), shift**2 + rng.normal(size=len(LABELS)) / 3


def slow_correlation(statistic, names, values, reference, rows=slice(None)):
    labels = LABELS[rows]
    means = [[x[rows][labels == name].mean() for name in names] for x in (values, reference)]
    return statistic(*means).statistic


def assert_same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table)
    pd.testing.assert_frame_equal(one.labels, other.labels)


@pytest.mark.parametrize(("name", "statistic"), [("spearman", spearmanr), ("kendall", kendalltau)])
def test_rank_correlation_agrees_with_a_slow_loop(name, statistic):
    values, reference = draw_figures()
    table = rank_correlation(values, reference, LABELS, n_bootstrap=300, confidence=0.9).table.set_index("statistic")
    row, names = table.loc[name], "abcde"
    assert row["estimate"] == pytest.approx(slow_correlation(statistic, names, values, reference))
    assert row["n_labels"] == 5
    assert row["left_out"] == "few"

    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(300):
        rows = [rng.choice(np.flatnonzero(LABELS == x), (LABELS == x).sum()) for x in names]
        drawn.append(slow_correlation(statistic, names, values, reference, np.concatenate(rows)))
    # Rank correlations of five labels are multiples of 0.1 and 0.2.
    np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(drawn, [0.05, 0.95]), atol=0.2)

    without = np.array([slow_correlation(statistic, names.replace(x, ""), values, reference) for x in names])
    error = np.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum())
    ends = row["estimate"] - 1.6449 * error, row["estimate"] + 1.6449 * error
    np.testing.assert_allclose([row["jackknife_lower"], row["jackknife_upper"]], np.clip(ends, -1, 1), atol=1e-4)


@pytest.mark.slow
def test_means_of_labels_have_intervals():
    values, reference = draw_figures()
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
    # Labels that are not ranked do not affect the correlation.
    before = rank_correlation(*draw_figures(), LABELS, n_bootstrap=4000, confidence=0.9)
    pd.testing.assert_frame_equal(before.table.drop(columns="left_out"), result.table.drop(columns="left_out"))


def test_equal_and_reversed_orders_have_correlations_of_1_and_minus_1():
    values = np.array([SHIFT[name] for name in LABELS])
    exact = rank_correlation(values, values**3, LABELS, n_bootstrap=50).table
    figures = ["estimate", "lower", "upper", "jackknife_lower", "jackknife_upper"]
    np.testing.assert_allclose(exact[figures], 1.0)
    np.testing.assert_allclose(rank_correlation(values, -values, LABELS).table["estimate"], -1.0)


def test_cells_without_a_label_are_ignored():
    values, reference = draw_figures()
    known = rank_correlation(values, reference, LABELS)
    labels = np.append(LABELS, [None] * 50)
    values, reference = np.append(values, np.full(50, 1e6)), np.append(reference, np.full(50, -1e6))
    assert_same(rank_correlation(values, reference, labels), known)


def test_bootstrap_does_not_depend_on_the_block_size():
    known = rank_correlation(*draw_figures(), LABELS, n_bootstrap=20)
    with isk.settings.override(values_at_once=90):
        assert_same(rank_correlation(*draw_figures(), LABELS, n_bootstrap=20), known)


def test_tied_labels_have_no_correlation():
    values, _ = draw_figures()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = rank_correlation(values, np.ones(len(LABELS)), LABELS, n_bootstrap=5).table
    assert table[["estimate", "lower", "upper", "jackknife_lower", "jackknife_upper"]].isna().all(axis=None)


def test_only_requested_statistics_are_computed():
    both = rank_correlation(*draw_figures(), LABELS, n_bootstrap=20).table
    kendall = rank_correlation(*draw_figures(), LABELS, n_bootstrap=20, statistics=["kendall"]).table
    pd.testing.assert_frame_equal(kendall, both.iloc[1:].reset_index(drop=True))


def test_three_labels_have_no_jackknife():
    some = np.isin(LABELS, ["a", "b", "c"])
    table = rank_correlation(*(x[some] for x in draw_figures()), LABELS[some]).table
    assert table[["jackknife_lower", "jackknife_upper"]].isna().all(axis=None)
    assert table["estimate"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_cells": 26}, "labels: ranks need at least 3 labels of minimum_cells=26 cells or more; there are 2, and 4 with"),
        ({"n_bootstrap": 0}, "n_bootstrap must be at least 1"),
        ({"statistics": ["pearson"]}, "statistics='pearson' is not known. Available: 'spearman', 'kendall'"),
        ({"confidence": 1.0}, "confidence=1.0 must lie between 0 and 1"),
        ({"reference": np.ones(3)}, "reference has 3 entries, but 144 cells are expected"),
        ({"values": np.ones((144, 2))}, r"values must have shape \(n_cells,\), one number per cell; got \(144, 2\)"),
        ({"values": np.where(np.arange(144) > 140, np.nan, 1.0)}, r"values is not finite in rows 141, 142, 143 \(3 in all\)"),
        ({"labels": ["a"]}, "labels has 1 entries, but there are 144 cells"),
    ],
)  # fmt: skip
def test_rank_correlation_rejects_invalid_input(change, message):
    values, reference = draw_figures()
    with pytest.raises(ValueError, match=message):
        rank_correlation(**{"values": values, "reference": reference, "labels": LABELS, **change})
