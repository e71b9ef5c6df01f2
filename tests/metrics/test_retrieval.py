from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import indiseek_sc as isk
from indiseek_sc.metrics import foscttm, median_rank, recall_at_k, retrieval


def slow_counts(a, b):
    """Count nearer and tied candidates by direction and cell; exact for integers."""
    counts = []
    for queries, candidates in ((a, b), (b, a)):
        for i, query in enumerate(queries):
            distance = [sum((x - y) ** 2 for x, y in zip(query, other, strict=True)) for other in candidates]
            counts.append((sum(d < distance[i] for d in distance), sum(d == distance[i] for d in distance) - 1))
    return np.array(counts).reshape(2, len(a), 2)


def slow_recall(closer, tied, k):
    """Return the mean over the possible ranks of the true match among its ties."""
    return np.mean([closer + place < k for place in range(tied + 1)])


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 5))
    return a, a + rng.normal(size=a.shape)


@settings(max_examples=60, deadline=None)
@given(n_cells=st.integers(2, 20), width=st.integers(1, 4), k=st.integers(1, 25), seed=st.integers(0, 10_000))
def test_metrics_agree_with_slow_loops_including_ties(n_cells, width, k, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-2, 3, size=(2, n_cells, width)).tolist()
    counts = slow_counts(a, b)
    places = counts[..., 0] + counts[..., 1] / 2
    assert foscttm(a, b) == pytest.approx(places.mean() / (n_cells - 1))
    assert median_rank(a, b) == pytest.approx(1 + np.median(places, axis=1).mean())
    expected = np.mean([slow_recall(closer, tied, k) for closer, tied in counts.reshape(-1, 2)])
    assert recall_at_k(a, b, k) == pytest.approx(expected)


def test_results_do_not_depend_on_the_block_size(pairs):
    whole = [measure(*pairs) for measure in (foscttm, recall_at_k, median_rank)]
    with isk.settings.override(values_at_once=7 * 300 + 1):
        assert [measure(*pairs) for measure in (foscttm, recall_at_k, median_rank)] == whole


@settings(max_examples=30, deadline=None)
@given(n_cells=st.integers(2, 20), width=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_table_agrees_with_slow_loops_in_each_direction(n_cells, width, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-2, 3, size=(2, n_cells, width)).tolist()
    table = retrieval(a, b, ks=(1, 3))
    assert table["direction"].tolist() == ["a to b", "b to a"]
    for counts, (_, row) in zip(slow_counts(a, b), table.iterrows(), strict=True):
        places = counts[:, 0] + counts[:, 1] / 2
        assert row["n_cells"] == n_cells
        assert row["foscttm"] == pytest.approx(places.mean() / (n_cells - 1))
        assert row["median_rank"] == pytest.approx(1 + np.median(places))
        for k in (1, 3):
            assert row[f"recall@{k}"] == pytest.approx(np.mean([slow_recall(*of_cell, k) for of_cell in counts]))
    assert table["foscttm"].mean() == pytest.approx(foscttm(a, b))
    assert table["recall@3"].mean() == pytest.approx(recall_at_k(a, b, 3))
    assert table["median_rank"].mean() == pytest.approx(median_rank(a, b))


@pytest.mark.parametrize("ks", [(), (0, 1)])
def test_invalid_numbers_of_candidates_are_rejected(pairs, ks):
    with pytest.raises(ValueError, match="ks=.* must be whole numbers of at least 1"):
        retrieval(*pairs, ks=ks)


def test_identical_representations_have_the_best_figures():
    latent = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert (foscttm(latent, latent), recall_at_k(latent, latent, 1), median_rank(latent, latent)) == (0, 1, 1)


def test_constant_representations_are_at_chance():
    latent = np.full((50, 3), 0.1)
    assert foscttm(latent, latent) == 0.5
    assert recall_at_k(latent, latent, 10) == pytest.approx(10 / 50)
    assert median_rank(latent, latent) == 25.5


def test_a_constant_partner_is_at_chance(pairs):
    one_sided = pairs[0], np.zeros_like(pairs[0])
    assert foscttm(*one_sided) == pytest.approx(0.5, abs=0.02)


def test_independent_representations_are_near_chance():
    a, b = np.random.default_rng(0).normal(size=(2, 800, 4))
    assert foscttm(a, b) == pytest.approx(0.5, abs=0.03)
    assert recall_at_k(a, b) == pytest.approx(10 / 800, abs=0.01)


def test_metrics_are_symmetric_and_independent_of_cell_order(pairs):
    a, b = pairs
    order = np.random.default_rng(1).permutation(len(a))
    for measure in (foscttm, recall_at_k, median_rank):
        assert measure(a, b) == pytest.approx(measure(b, a)) == pytest.approx(measure(a[order], b[order]))


def test_a_common_offset_does_not_matter(pairs):
    a, b = pairs
    far = 1e7
    assert foscttm(a + far, b + far) == pytest.approx(foscttm(a, b), abs=1e-4)


def test_duplicated_cells_tie_despite_rounding():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 101, 13)).astype(np.float32)
    # Beside two copies of each closer cell, the copy of the true match counts as half a closer one.
    expected = (2 * 100 * foscttm(a, b) + 1 / 2) / 201
    assert foscttm(np.repeat(a, 2, axis=0), np.repeat(b, 2, axis=0)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("measure", [foscttm, recall_at_k, median_rank])
def test_invalid_arguments_are_rejected(measure):
    with pytest.raises(ValueError, match=r"the same cells and the same width; got \(4, 2\) and \(4, 3\)"):
        measure(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="must have at least 2 cells; got 1"):
        measure(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"b has values that are not finite in rows 3 \(1 in all\)"):
        measure(np.zeros((4, 1)), np.array([[0.0], [0.0], [0.0], [np.nan]]))


def test_recall_requires_a_positive_k():
    with pytest.raises(ValueError, match="k must be at least 1"):
        recall_at_k(np.zeros((4, 2)), np.zeros((4, 2)), 0)
