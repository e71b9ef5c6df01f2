from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsRegressor

from indiseek_sc.metrics._directions import FLOOR, add_noise_floor, flat_directions
from indiseek_sc.metrics._permutation import permutation_p_value
from indiseek_sc.metrics._probes import PROBES, _predict_by_neighbors, held_out_r2, probe, standardise

TRAIN, TEST = np.arange(0, 1200), np.arange(1200, 2000)


@pytest.fixture
def source():
    return np.random.default_rng(0).normal(size=(2000, 4))


def noise(width=3, seed=1):
    return np.random.default_rng(seed).normal(size=(2000, width))


def test_linear_dependence_with_known_noise(source):
    signal = source @ np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    assert held_out_r2(source, signal + 0.5 * noise(4), TRAIN, TEST) == pytest.approx(1 / 1.25, abs=0.02)


def test_nonlinear_dependence_is_found(source):
    assert held_out_r2(source, source**2, TRAIN, TEST) > 0.9


def test_neighbors_find_irregular_dependence():
    rng = np.random.default_rng(0)
    source = rng.uniform(size=(2000, 1))
    target = rng.choice([-1.0, 1.0], size=60)[(60 * source[:, 0]).astype(int)][:, None]  # a step up or down 60 times
    without, found = (probe(source, target, TRAIN, TEST, probes=kinds) for kinds in (PROBES[:2], PROBES))
    assert set(found.predictions) - set(without.predictions) == {"neighbors"}
    assert without.r2 < 0.5 < 0.7 < found.r2


def test_number_of_neighbors_is_selected_on_validation_cells(source):
    """The largest number is best for noise, the smallest for a target without noise."""
    for target, k in ((noise(), 45), (source, 5)):
        order = np.random.default_rng(3).permutation(TRAIN)
        validation, fit = order[:150], order[150:]
        inputs = standardise(source, TRAIN)
        predicted = _predict_by_neighbors(inputs, target.astype(np.float32), fit, validation, TEST)
        reference = KNeighborsRegressor(k).fit(inputs[fit], target[fit]).predict(inputs[TEST])
        np.testing.assert_allclose(predicted, reference, atol=1e-5)


def test_independent_variables_have_an_r2_near_0(source):
    assert held_out_r2(source, noise(), TRAIN, TEST) == pytest.approx(0, abs=0.01)


def test_targets_count_by_their_variance(source):
    """If one column is explained fully and one not at all, R2 is the first one's variance share."""
    target = np.hstack([3 * source[:, :1], noise(1)])
    assert held_out_r2(source, target, TRAIN, TEST) == pytest.approx(9 / 10, abs=0.02)


def test_r2_does_not_depend_on_scale_and_offset(source):
    target = source[:, :2] + noise(2)
    plain = held_out_r2(source, target, TRAIN, TEST)
    moved = held_out_r2(1e-3 * source + 70, 1e4 * target - 1e6, TRAIN, TEST)
    assert moved == pytest.approx(plain, abs=1e-3)


def test_test_cells_are_not_fitted(source):
    target = source[:, :2] + noise(2)
    spoilt = source.copy()
    spoilt[TEST] = spoilt[np.roll(TEST, 1)]
    assert held_out_r2(spoilt, target, TRAIN, TEST) < -0.2


@pytest.mark.parametrize("target", [np.full((2000, 2), 0.1), np.zeros((2000, 0))], ids=["constant", "no column"])
def test_constant_target_is_nan(source, target):
    assert np.isnan(held_out_r2(source, target, TRAIN, TEST))


def test_a_constant_source_explains_nothing():
    assert held_out_r2(np.full((2000, 2), 7.0), noise(), TRAIN, TEST) == pytest.approx(0, abs=0.01)


def test_results_do_not_depend_on_the_number_of_threads(source):
    n_threads = torch.get_num_threads()
    try:
        figures = []
        for n in (1, 2):
            torch.set_num_threads(n)
            figures.append(held_out_r2(source, source**2, TRAIN, TEST))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(n_threads)
    assert figures[0] == figures[1]


def test_seed_determines_results_and_global_random_state_is_unchanged(source):
    target = source**2 + noise(4)
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (held_out_r2(source, target, TRAIN, TEST, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert other == pytest.approx(first, abs=0.05)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


def draw_pair(seed, n_cells=60):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n_cells, 2)), rng.normal(size=(n_cells, 2))


def slow_p_value(predictions, truth, orders):
    """Compute the p-value with explicit loops over predictions, columns and permutations."""

    def agreement(order):
        return max(sum(np.corrcoef(p[:, j], truth[order, j])[0, 1] for j in range(truth.shape[1])) for p in predictions)

    observed = agreement(np.arange(len(truth)))
    return (1 + sum(agreement(order) >= observed for order in orders)) / (1 + len(orders))


def test_p_value_equals_a_slow_reference():
    _, predicted, truth = draw_pair(0)
    predictions = [predicted + 0.3 * truth, predicted]
    rng = np.random.default_rng(1)
    orders = [np.argsort(rng.random(60)) for _ in range(99)]
    value = permutation_p_value(predictions, truth, np.random.default_rng(1), n_permutations=99)
    assert value == slow_p_value(predictions, truth, orders)


def test_p_value_is_uniform_under_independence():
    """The test is exact, also for the maximum over two predictions."""
    values = []
    for seed in range(400):
        rng, predicted, truth = draw_pair(seed, 30)
        values.append(permutation_p_value([predicted, predicted**2], truth, rng, n_permutations=39))
    values = np.array(values)
    for alpha in (0.05, 0.25, 0.5):
        assert abs((values <= alpha).mean() - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / 400)


def test_a_weak_dependence_is_significant_in_many_cells():
    rng, predicted, truth = draw_pair(0, 4000)
    assert permutation_p_value([predicted + 0.1 * truth], truth, rng) == 1 / 1000


def test_dependence_explained_by_groups_is_not_significant_within_groups():
    rng, predicted, truth = draw_pair(0, 300)
    group = np.repeat([0, 1, 2], 100)[rng.permutation(300)]
    predicted, truth = predicted + 3 * group[:, None], truth + 3 * group[:, None]
    assert permutation_p_value([predicted], truth, rng, n_permutations=199) == 1 / 200
    assert permutation_p_value([predicted], truth, rng, group, n_permutations=199) > 0.05
    linked = predicted + 0.5 * truth
    assert permutation_p_value([linked], truth, rng, group, n_permutations=199) == 1 / 200


def test_constant_predictions_and_single_cell_groups_have_a_p_value_of_1():
    rng, _, truth = draw_pair(0)
    assert permutation_p_value([np.ones((60, 2))], truth, rng, n_permutations=19) == 1
    # With single-cell groups, only the identity permutation is possible.
    assert permutation_p_value([truth], truth, rng, np.arange(60), n_permutations=19) == 1


def test_p_values_of_more_cells_than_are_permuted():
    rng, predicted, truth = draw_pair(0, 8000)
    groups = np.arange(8000) % 2
    for given in (None, groups):
        assert permutation_p_value([predicted], truth, rng, given, n_permutations=99) > 0.01
        assert permutation_p_value([predicted + 0.1 * truth], truth, rng, given, n_permutations=99) == 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_p_value_depends_on_the_seed(seed):
    _, predicted, truth = draw_pair(5)
    values = [permutation_p_value([predicted], truth, np.random.default_rng(s)) for s in (seed, seed, seed + 2)]
    assert values[0] == values[1] != values[2]


@pytest.fixture
def latent():
    """Three rotated directions with standard deviations of 10, 2 and 0.1."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return rng.normal(size=(4000, 3)) * [10, 2, 0.1] @ rotation + 100


def test_floor_masks_only_narrow_directions(latent):
    train = np.arange(2000)
    noisy = add_noise_floor(latent, train, np.random.default_rng(1))
    floor = FLOOR * 10
    np.testing.assert_allclose(noisy[train].std(axis=0), np.hypot([10, 2, 0.1], floor), rtol=0.05)


def test_floor_preserves_distances_up_to_noise(latent):
    noisy = add_noise_floor(latent, np.arange(2000), np.random.default_rng(1))
    near = np.linalg.norm(latent[:50, None] - latent[None, :50], axis=-1)
    turned = np.linalg.norm(noisy[:50, None] - noisy[None, :50], axis=-1)
    assert np.abs(near - turned).max() < 6 * FLOOR * 10


def test_flat_directions_have_unit_width_without_narrow_ones(latent):
    train = np.arange(0, 4000, 2)
    flat = flat_directions(latent, train)
    assert flat.shape == (4000, 2)
    np.testing.assert_allclose(flat[train].std(axis=0), 1)
    np.testing.assert_allclose(np.cov(flat[train].T, bias=True), np.eye(2), atol=1e-8)


def test_a_constant_representation_has_no_directions_and_no_noise():
    constant = np.full((20, 4), 0.1, dtype=np.float32)
    assert flat_directions(constant, np.arange(10)).shape == (20, 0)
    np.testing.assert_allclose(add_noise_floor(constant, np.arange(10), np.random.default_rng(0)), 0, atol=1e-7)
