from __future__ import annotations

import numpy as np
import pytest
import torch

from indiseek_sc.metrics._probe import held_out_r2

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
