from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import indiseek_sc as isk
from indiseek_sc.metrics import _wnn_weights as module
from indiseek_sc.metrics import wnn_weights

RECORDED = Path(__file__).parent / "recorded" / "seurat_wnn.npz"
SEARCHES = ["annoy", "exact"]


@pytest.mark.parametrize("case", ["cells", "twins", "one_twin", "grid", "few"])
def test_weights_equal_those_of_seurat_4(case):
    """Recorded from Seurat 4.3.0.

    With twins, a drawn cell is not its own first neighbour, and Seurat includes each cell in its
    own prediction.
    """
    recorded = np.load(RECORDED)
    n_neighbors, _, normalize = recorded[f"{case}_options"].tolist()
    first, second, expected = (recorded[f"{case}_{name}"] for name in ("first", "second", "weights"))
    weights = wnn_weights(first, second, n_neighbors=n_neighbors, normalize=bool(normalize))
    np.testing.assert_allclose(weights, expected, atol=1e-9, rtol=0)


def test_weights_equal_those_of_seurat_5(shared_data):
    """Recorded from Seurat 5.5.1 independently."""
    recorded = json.loads((shared_data / "seurat_wnn_reference.json").read_text())
    weights = wnn_weights(recorded["inputs"]["rnaEmbedding"], recorded["inputs"]["adtEmbedding"])
    expected = np.array(recorded["seuratDefault"]["modalityWeights"])
    np.testing.assert_allclose(np.column_stack([weights, 1 - weights]), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("n", "expected"), [(3, [2, 1, 0]), (300, [90, 289, 188, 117]), (65537, [32033, 14965, 30541])]
)
def test_sampling_equals_that_of_r(n, expected):
    """Recorded from R 4.2.2: set.seed(4273); sample(1:n, size = min(50, n)) - 1."""
    drawn = module.sample_as_r(n, min(50, n), 4273)
    assert drawn[: len(expected)].tolist() == expected
    assert len(set(drawn.tolist())) == min(50, n)


def length(vector):
    return math.sqrt(sum(float(value) ** 2 for value in vector))


def excess(distance, nearest):
    return distance - nearest if distance > nearest * (1 + 1e-12) else 0.0


def slow_score(points, own, others, k):
    """Compute the score of a modality cell by cell from the formula."""
    n = len(points)
    sets = [{i, *own[i]} for i in range(n)]
    scores = []
    for i in range(n):
        nearest = min(length(points[i] - points[j]) for j in own[i])
        jaccard = {j: len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for j in range(n)}
        partners = sorted((j for j in range(n) if jaccard[j] > 0), key=lambda j: jaccard[j])
        n_far = min(k, len(partners))
        limit = jaccard[partners[n_far - 1]]
        far = sorted(excess(length(points[i] - points[j]), nearest) for j in partners if jaccard[j] <= limit)[-n_far:]
        bandwidth = sum(far) / n_far
        affinity = []
        for neighbors in (own[i], others[i]):
            prediction = sum(points[j] for j in neighbors) / len(neighbors)
            error = excess(length(points[i] - prediction), nearest)
            affinity.append(1.0 if bandwidth == 0 else math.exp(-error / bandwidth))
        scores.append(min(affinity[0] / (affinity[1] + 1e-4), 200.0))
    return scores


def slow_weights(first, second, k, normalize):
    both = []
    for points in (first, second):
        if normalize:
            points = np.array([row / length(row) if length(row) > 0 else row for row in points])
        both.append(points)
    n = len(first)
    k = min(k, n)
    found = []
    for points in both:
        orders = [sorted(set(range(n)) - {i}, key=lambda j, i=i: length(points[i] - points[j])) for i in range(n)]
        found.append([order[: k - 1] for order in orders])
    scores = [slow_score(both[m], found[m], found[1 - m], k) for m in (0, 1)]
    return np.array([1 / (1 + math.exp(b - a)) for a, b in zip(*scores, strict=True)])


@settings(max_examples=30, deadline=None)
@given(
    n_cells=st.integers(2, 24),
    widths=st.tuples(st.integers(2, 20), st.integers(2, 5)),
    k=st.integers(2, 26),
    seed=st.integers(0, 10_000),
    normalize=st.booleans(),
)
def test_agrees_with_a_slow_loop(n_cells, widths, k, seed, normalize):
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(size=(n_cells, width)) for width in widths)
    expected = slow_weights(first, second, k, normalize)
    found = wnn_weights(first, second, n_neighbors=k, normalize=normalize, search="exact")
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("block", [1, 700, 4_000_000])
def test_agrees_with_a_slow_loop_on_groups_of_cells(groups, block):
    first, second = (part[::5] for part in groups)
    with isk.settings.override(values_at_once=block):
        found = wnn_weights(first, second, search="exact")
    np.testing.assert_allclose(found, slow_weights(first, second, 20, True), atol=1e-6, rtol=0)


@pytest.fixture
def groups():
    """Four groups of cells: the first modality separates two of them, the second the other two."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2, 3], 100)[rng.permutation(400)]
    places = rng.normal(size=(2, 3, 6)) * 3
    first = places[0][np.minimum(group, 2)] + rng.normal(size=(400, 6))
    second = places[1][np.maximum(group - 1, 0)][:, :4] + rng.normal(size=(400, 4))
    return first, second


@pytest.mark.parametrize("search", SEARCHES)
def test_a_modality_of_noise_has_less_weight(groups, search):
    first, _ = groups
    noise = np.random.default_rng(1).normal(size=(400, 8))
    weights = wnn_weights(first, noise, search=search)
    assert weights.mean() > 0.6
    assert wnn_weights(noise, first, search=search).mean() < 0.4
    assert (weights > 0.5).mean() > 0.8


@pytest.mark.parametrize("search", SEARCHES)
def test_identical_modalities_have_equal_weights(groups, search):
    first, _ = groups
    np.testing.assert_allclose(wnn_weights(first, first, search=search), 0.5, atol=1e-12)


@pytest.mark.parametrize("search", SEARCHES)
def test_weights_of_both_modalities_sum_to_1(groups, search):
    weights = wnn_weights(*groups, search=search)
    np.testing.assert_allclose(weights, 1 - wnn_weights(*groups[::-1], search=search), atol=1e-12)


def test_normalized_weights_do_not_depend_on_row_lengths(groups):
    weigh = partial(wnn_weights, search="exact")
    first, second = groups
    length = np.random.default_rng(2).uniform(1e-3, 1e3, (400, 1))
    np.testing.assert_allclose(weigh(first * length, second), weigh(first, second), atol=1e-6)
    plain = weigh(first, second, normalize=False)
    assert np.abs(weigh(first * length, second, normalize=False) - plain).max() > 0.1
    np.testing.assert_allclose(weigh(7 * first, second, normalize=False), plain, atol=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [2.0**-700, 2.0**700])
def test_extreme_scales_do_not_overflow(groups, scale, normalize, search):
    first, second = groups
    expected = wnn_weights(first, second, normalize=normalize, search=search)
    found = wnn_weights(scale * first, second, normalize=normalize, search=search)
    np.testing.assert_array_equal(found, expected)


def test_exact_weights_do_not_depend_on_the_order_of_cells(groups):
    order = np.random.default_rng(3).permutation(400)
    moved = wnn_weights(*(x[order] for x in groups), search="exact")
    np.testing.assert_allclose(moved, wnn_weights(*groups, search="exact")[order], atol=1e-6)


def test_both_searches_agree_for_few_cells(groups):
    """All cells fit into one leaf of Annoy's trees, so that its search is exact."""
    first, second = groups[0][:6], groups[1][:6]
    order = np.random.default_rng(3).permutation(6)
    weights = wnn_weights(first, second, n_neighbors=4)
    np.testing.assert_allclose(weights, wnn_weights(first, second, n_neighbors=4, search="exact"), atol=1e-6)
    np.testing.assert_allclose(wnn_weights(first[order], second[order], n_neighbors=4), weights[order], atol=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("normalize", [True, False])
def test_two_cells_have_equal_weights(normalize, search):
    first, second = np.array([[1.0, 2.0, 0.3], [0.0, 1.7, -3.0]]), np.array([[5.0, 0.1], [-2.0, 7.0]])
    np.testing.assert_allclose(wnn_weights(first, second, normalize=normalize, search=search), 0.5)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_identical_cells_are_uninformative(groups, value, search):
    first = groups[0]
    constant = np.full((400, 3), value)
    np.testing.assert_allclose(wnn_weights(constant, constant[:, :1] + 1, search=search), 0.5)
    against = wnn_weights(first, constant, search=search)
    assert np.isfinite(against).all() and np.median(against) > 0.55


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("n_copies", [2, 30])
def test_duplicated_cells_have_finite_weights(groups, n_copies, search):
    """Fewer and more copies than neighbours; a bandwidth of 0 must not give undefined weights."""
    first, second = (np.repeat(part[::8], n_copies, axis=0) for part in groups)
    weights = wnn_weights(first, second, search=search)
    assert np.isfinite(weights).all() and ((weights >= 0) & (weights <= 1)).all()
    lengths = np.random.default_rng(4).uniform(0.5, 2.0, (len(first), 1))
    scaled = wnn_weights(lengths * first, lengths * second, search=search)
    if n_copies == 2 and search == "exact":  # otherwise the choice among copies is arbitrary
        np.testing.assert_allclose(scaled, weights, atol=1e-6)
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_groups_of_copies_have_equal_weights(groups, search):
    """All predictions are exact, so that neither modality is more informative."""
    first, second = (np.repeat(part[:2], 30, axis=0) for part in groups)
    np.testing.assert_allclose(wnn_weights(first, second, search=search), 0.5)


def test_a_single_protein(groups):
    first, second = groups[0], groups[1][:, :1]
    few = first[::8], second[::8]
    plain = wnn_weights(*few, normalize=False, search="exact")
    np.testing.assert_allclose(plain, slow_weights(*few, 20, False), atol=1e-6, rtol=0)
    # Scaled to length 1, it is -1 or 1 and uninformative among identical cells.
    weights = wnn_weights(first, second)
    assert np.isfinite(weights).all() and np.median(weights) > 0.5


def test_cells_without_any_protein(groups):
    first, second = groups
    second[:50] = 0
    weights = wnn_weights(first, second)
    assert np.isfinite(weights).all()
    assert weights[:50].mean() > weights[50:].mean()


def test_inputs_are_not_modified_and_may_have_any_type(groups):
    first, second = groups
    before = first.copy(), second.copy()
    weights = wnn_weights(first, second)
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])
    np.testing.assert_allclose(wnn_weights(first.astype(np.float32), second.tolist()), weights, atol=1e-3)


def test_invalid_arguments_are_rejected(groups):
    first, second = groups
    with pytest.raises(ValueError, match="second has 399 rows, but 400 cells are expected"):
        wnn_weights(first, second[:-1])
    with pytest.raises(ValueError, match=r"first must have shape"):
        wnn_weights(first[:, 0], second)
    with pytest.raises(ValueError, match="at least 2 cells to compare; got 1"):
        wnn_weights(first[:1], second[:1])
    with pytest.raises(ValueError, match="n_neighbors=1 must be at least 2"):
        wnn_weights(first, second, n_neighbors=1)
    with pytest.raises(ValueError, match="search='hnsw' is not known"):
        wnn_weights(first, second, search="hnsw")
    second[[3, 8], 1] = np.nan
    with pytest.raises(ValueError, match=r"second has values that are not finite in rows 3, 8 \(2 in all\)"):
        wnn_weights(first, second)
