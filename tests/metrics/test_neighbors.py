from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiseek_sc.metrics import label_purity


def slow_purity(code, labels, k):
    """Sort all other cells by distance, one cell at a time."""
    purity = []
    for i in range(len(code)):
        others = [j for j in range(len(code)) if j != i]
        others.sort(key=lambda j: float(((code[i] - code[j]) ** 2).sum()))
        purity.append(np.mean([labels[j] == labels[i] for j in others[:k]]))
    return np.array(purity)


@settings(max_examples=40, deadline=None)
@given(n_cells=st.integers(3, 25), n_features=st.sampled_from([1, 3, 20]), seed=st.integers(0, 10_000), data=st.data())
def test_agrees_with_a_slow_loop(n_cells, n_features, seed, data):
    rng = np.random.default_rng(seed)
    code, labels = rng.normal(size=(n_cells, n_features)), rng.integers(0, 3, n_cells)
    k = data.draw(st.integers(1, n_cells - 1))
    np.testing.assert_allclose(label_purity(code, labels, n_neighbors=k), slow_purity(code, labels, k))


@pytest.mark.parametrize("n_features", [2, 40], ids=["tree", "brute force"])
def test_a_cell_is_not_its_own_neighbor_among_duplicates(n_features):
    places = 100.0 * np.random.default_rng(0).normal(size=(30, n_features))
    code, labels = np.repeat(places, 3, axis=0), np.tile(["a", "a", "b"], 30)
    np.testing.assert_array_equal(label_purity(code, labels, n_neighbors=2), np.tile([0.5, 0.5, 0.0], 30))


def test_more_duplicates_than_neighbors():
    code, labels = np.zeros((20, 3)), np.arange(20)
    np.testing.assert_array_equal(label_purity(code, labels, n_neighbors=4), np.zeros(20))


def test_two_cells():
    code = np.array([[0.0], [1.0]])
    np.testing.assert_array_equal(label_purity(code, ["a", "a"], n_neighbors=1), [1, 1])
    np.testing.assert_array_equal(label_purity(code, ["a", "b"], n_neighbors=1), [0, 0])
    with pytest.raises(ValueError, match="n_neighbors=2 .* labelled cells, 2"):
        label_purity(code, ["a", "a"], n_neighbors=2)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_cells_without_a_label_are_nobodys_neighbor(missing):
    code = np.array([[0.0], [0.1], [0.2], [5.0], [5.1]])
    purity = label_purity(code, pd.Series(["a", missing, "a", "b", "a"], dtype=object), n_neighbors=1)
    np.testing.assert_array_equal(purity, [1, np.nan, 1, 0, 0])


@pytest.mark.parametrize("convert", [list, np.array, pd.Categorical, lambda x: pd.Series(x, index=list("wxyz"))])
def test_labels_may_come_in_any_container(convert):
    code = np.array([[0.0], [0.1], [5.0], [5.1]])
    np.testing.assert_array_equal(label_purity(code, convert(["a", "a", "b", "b"]), n_neighbors=1), np.ones(4))


def test_integer_codes_are_welcome():
    np.testing.assert_array_equal(label_purity([[0], [1], [9], [8]], [1, 1, 2, 2], n_neighbors=1), np.ones(4))


def test_errors_name_the_offenders():
    code, labels = np.zeros((8, 2)), ["a"] * 8
    with pytest.raises(ValueError, match="labels has 7 entries, but there are 8 cells"):
        label_purity(code, labels[:7])
    with pytest.raises(ValueError, match="labels is missing in every cell"):
        label_purity(code, [None] * 8)
    with pytest.raises(ValueError, match=r"code must have shape \(n_cells, n_features\).*\(8,\)"):
        label_purity(code[:, 0], labels)
    code[1:8] = np.inf
    with pytest.raises(ValueError, match=r"not finite in rows 1, 2, 3, 4, 5, \.\.\. \(7 in all\)"):
        label_purity(code, labels)
