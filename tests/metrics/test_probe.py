from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsRegressor

from indiseek_sc.metrics._probe import _predict_by_neighbors, held_out_r2, probe, standardise

TRAIN, TEST = np.arange(0, 1200), np.arange(1200, 2000)


@pytest.fixture
def source():
    return np.random.default_rng(0).normal(size=(2000, 4))


def noise(width=3, seed=1):
    return np.random.default_rng(seed).normal(size=(2000, width))


def test_linear_with_known_noise(source):
    signal = source @ np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    assert held_out_r2(source, signal + 0.5 * noise(4), TRAIN, TEST) == pytest.approx(1 / 1.25, abs=0.02)


def test_what_no_line_can_tell_is_found(source):
    assert held_out_r2(source, source**2, TRAIN, TEST) > 0.9


def test_neighbors_find_what_is_too_ragged_for_the_others():
    rng = np.random.default_rng(0)
    source = rng.uniform(size=(2000, 1))
    target = rng.choice([-1.0, 1.0], size=60)[(60 * source[:, 0]).astype(int)][:, None]  # a step up or down 60 times
    without, found = (probe(source, target, TRAIN, TEST, neighbors=asked) for asked in (False, True))
    assert set(found.predictions) - set(without.predictions) == {"neighbors"}
    assert without.r2 < 0.5 < 0.7 < found.r2


def test_neighbors_are_the_mean_of_as_many_as_predict_validation_cells_best(source):
    """Of noise the most neighbours are best, of what is told without error the fewest."""
    for target, k in ((noise(), 45), (source, 5)):
        order = np.random.default_rng(3).permutation(TRAIN)
        validation, fit = order[:150], order[150:]
        inputs = standardise(source, TRAIN)
        predicted = _predict_by_neighbors(inputs, target.astype(np.float32), fit, validation, TEST)
        reference = KNeighborsRegressor(k).fit(inputs[fit], target[fit]).predict(inputs[TEST])
        np.testing.assert_allclose(predicted, reference, atol=1e-5)


def test_unrelated_is_about_zero(source):
    assert held_out_r2(source, noise(), TRAIN, TEST) == pytest.approx(0, abs=0.01)


def test_targets_weigh_by_variance(source):
    """One column is told fully and one not at all: the share is that of the told column's variance."""
    target = np.hstack([3 * source[:, :1], noise(1)])
    assert held_out_r2(source, target, TRAIN, TEST) == pytest.approx(9 / 10, abs=0.02)


def test_scale_and_offset_of_either_side_do_not_matter(source):
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
def test_nothing_to_tell_is_nan(source, target):
    assert np.isnan(held_out_r2(source, target, TRAIN, TEST))


def test_a_constant_source_tells_nothing():
    assert held_out_r2(np.full((2000, 2), 7.0), noise(), TRAIN, TEST) == pytest.approx(0, abs=0.01)


def test_figures_do_not_depend_on_the_number_of_threads_which_stays(source):
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


def test_seed_repeats_and_the_global_generators_stay(source):
    target = source**2 + noise(4)
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (held_out_r2(source, target, TRAIN, TEST, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert other == pytest.approx(first, abs=0.05)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])
