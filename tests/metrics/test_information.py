from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, xlogy
from scipy.stats import norm

from indiseek_sc.metrics import label_information

N = 3000
HALVES = np.arange(0, N, 2), np.arange(1, N, 2)


@pytest.fixture(scope="module")
def representations():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 3)), {"rna": rng.normal(size=(N, 4)), "adt": rng.normal(size=(N, 2))}


def estimate(shared, specific, labels, **kwargs):
    found = label_information(shared, specific, labels, *HALVES, **kwargs)
    return {name: dict(zip(found.names, gain.mean(axis=0), strict=True)) for name, gain in found.gain.items()}


def test_agrees_with_the_closed_form(representations):
    """If log odds are linear in one dimension, information is an integral over that dimension."""
    shared, specific = representations
    probability = expit(3 * specific["rna"][:, 0])
    labels = np.where(np.random.default_rng(1).random(N) < probability, "a", "b")
    grid = np.linspace(-8, 8, 4001)
    p = expit(3 * grid)
    entropy = -(xlogy(p, p) + xlogy(1 - p, 1 - p)) / np.log(2)
    per_cell = 1 - np.trapezoid(entropy * norm.pdf(grid), grid)  # both labels have probability 1/2
    found = estimate(shared, specific, labels)
    for label in ("a", "b"):
        assert found["rna"][label] == pytest.approx(2 * per_cell, abs=0.12)  # bits per cell of the label
        assert abs(found["adt"][label]) < 0.04


def test_shared_information_adds_nothing(representations):
    shared, specific = representations
    labels = np.where(shared[:, 0] > 0, "high", "low")
    found = estimate(shared, {"rna": shared + 1e-3 * specific["rna"][:, :3], "adt": specific["adt"]}, labels)
    assert all(abs(bits) < 0.03 for of_modality in found.values() for bits in of_modality.values())


def test_nonlinear_information_is_found(representations):
    """A ring in two dimensions of RNA cannot be separated linearly."""
    shared, specific = representations
    labels = np.where((specific["rna"][:, :2] ** 2).sum(axis=1) < 1.4, "core", "ring")
    found = estimate(shared, specific, labels)
    assert found["rna"]["core"] > 0.8
    assert found["adt"]["core"] < 0.03


def test_permuted_labels_have_no_information(representations):
    shared, specific = representations
    labels = np.random.default_rng(2).choice(["a", "b", "c"], N)
    assert (
        max(bits for of_modality in estimate(shared, specific, labels).values() for bits in of_modality.values()) < 0.02
    )


def test_rare_and_missing_labels(representations):
    shared, specific = representations
    labels = pd.Series(np.where(specific["rna"][:, 0] > 0, "a", "b"), dtype=object)
    labels[:12] = "rare"
    labels[100:200] = None
    found = label_information(shared, specific, labels, *HALVES, minimum_cells=15)
    assert list(found.names) == ["a", "b"]
    assert len(found.test) == np.isin(HALVES[1], np.arange(100, 200), invert=True).sum()
    assert found.gain["rna"].shape == (len(found.test), 2)
    known = label_information(shared, specific, labels, *HALVES, minimum_cells=5)
    assert list(known.names) == ["a", "b", "rare"]


def test_results_are_reproducible_by_seed(representations):
    shared, specific = representations
    labels = np.where(specific["adt"][:, 0] > 0, "a", "b")
    first, second, other = (label_information(shared, specific, labels, *HALVES, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.gain["adt"], second.gain["adt"])
    assert not np.array_equal(first.gain["adt"], other.gain["adt"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shared": np.full((N, 2), np.nan)}, "shared has values that are not finite"),
        ({"specific": {"rna": np.zeros((N - 1, 2))}}, r"specific\['rna'\] has 2999 rows"),
        ({"labels": ["a"] * N}, "at least two labels"),
        ({"labels": ["a", "b"] * (N // 2), "minimum_cells": 2000}, r"minimum_cells=2000.*Lower minimum_cells"),
        ({"test": HALVES[0]}, "train and test share rows"),
        ({"minimum_cells": -1}, "minimum_cells"),
    ],
)
def test_invalid_arguments_are_rejected(representations, change, message):
    shared, specific = representations
    labels = np.where(shared[:, 0] > 0, "a", "b")
    arguments = {"shared": shared, "specific": specific, "labels": labels, "train": HALVES[0], "test": HALVES[1]}
    with pytest.raises(ValueError, match=message):
        label_information(**(arguments | change))
