from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from indiseek_sc.metrics import factor_recovery, label_accuracy


@pytest.fixture
def blurred():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    return rng.normal(labels[:, None], 0.8, size=(90, 4)), labels


def test_accuracy_agrees_with_a_slow_reference(blurred):
    latent, labels = blurred
    train, test, k = np.arange(0, 60), np.arange(60, 90), 3
    correct = []
    for i in test:
        nearest = sorted(train, key=lambda j: ((latent[i] - latent[j]) ** 2).sum())[:k]
        votes = Counter(labels[nearest])
        most = max(votes.values())
        correct.append(min(label for label, n in votes.items() if n == most) == labels[i])
    accuracy = label_accuracy(latent, labels, train, test, n_neighbors=k)
    assert accuracy == pytest.approx(np.mean(correct))
    assert 0.5 < accuracy < 1


def test_cells_without_a_label_are_left_out_of_both_parts(blurred):
    latent, labels = blurred
    known = np.flatnonzero(np.arange(90) % 3 > 0)
    some = labels.astype(object)
    some[np.arange(90) % 3 == 0] = None
    train, test = np.arange(0, 60), np.arange(60, 90)
    expected = label_accuracy(latent, labels, np.intersect1d(train, known), np.intersect1d(test, known))
    assert label_accuracy(latent, some, train, test) == expected


def test_accuracy_rejects_invalid_arguments(blurred):
    latent, labels = blurred
    with pytest.raises(ValueError, match=r"train and test share rows 2, 3 \(2 in all\)"):
        label_accuracy(latent, labels, [0, 1, 2, 3], [2, 3, 4])
    with pytest.raises(ValueError, match="n_neighbors=15 must be 1 or more, up to the 10 labelled cells of train"):
        label_accuracy(latent, labels, np.arange(10), np.arange(10, 20))
    with pytest.raises(ValueError, match="No cell of test has a label"):
        label_accuracy(latent, ["a"] * 60 + [None] * 30, np.arange(60), np.arange(60, 90))
    with pytest.raises(ValueError, match="test points outside of the 90 cells: 90"):
        label_accuracy(latent, labels, np.arange(60), [88, 89, 90])
    with pytest.raises(ValueError, match="train names rows more than once: 5"):
        label_accuracy(latent, labels, [5, 5, 6], [7, 8])
    with pytest.raises(ValueError, match="train must be a one-dimensional array of row numbers; got bool"):
        label_accuracy(latent, labels, np.arange(90) < 60, np.arange(90) >= 60)


TRAIN, TEST = np.arange(600), np.arange(600, 1600)


@pytest.fixture
def factors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1600, 3))


def test_recovery_of_contained_absent_and_noisy_factors(factors: np.ndarray) -> None:
    latent = factors[:, :2] @ np.array([[1.0, 2.0], [-1.0, 1.0]])
    noisy = factors[:, 0] + np.random.default_rng(1).normal(size=1600)
    table = factor_recovery(latent, {"s": factors, "noisy": noisy}, TRAIN, TEST).set_index("factor")["r2"]
    assert table.index.tolist() == ["s_0", "s_1", "s_2", "noisy"]
    assert table[["s_0", "s_1"]].min() > 0.99
    assert abs(table["s_2"]) < 0.03
    assert table["noisy"] == pytest.approx(0.5, abs=0.05)


def test_a_factor_with_unknown_sign_is_recovered_given_the_sign(factors: np.ndarray) -> None:
    s, p = np.sign(factors[:, :1]), factors[:, 1:2]
    alone = factor_recovery(p * s, {"p": p}, TRAIN, TEST)["r2"][0]
    together = factor_recovery(p * s, {"p": p}, TRAIN, TEST, given=s)["r2"][0]
    assert alone < 0.02
    assert together > 0.95


def test_a_constant_factor_is_nan(factors: np.ndarray) -> None:
    assert np.isnan(factor_recovery(factors, {"one": np.ones(1600)}, TRAIN, TEST)["r2"][0])


def test_recovery_rejects_invalid_arguments(factors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="factors is empty"):
        factor_recovery(factors, {}, TRAIN, TEST)
    with pytest.raises(ValueError, match=r"factors\['s'\] has 5 rows"):
        factor_recovery(factors, {"s": factors[:5]}, TRAIN, TEST)
    with pytest.raises(ValueError, match="given has 5 rows"):
        factor_recovery(factors, {"s": factors}, TRAIN, TEST, given=factors[:5])
    with pytest.raises(ValueError, match="train and test share rows 0"):
        factor_recovery(factors, {"s": factors}, TRAIN, TRAIN)
