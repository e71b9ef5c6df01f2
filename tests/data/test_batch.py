"""Offsets of batches: known ones, batches of other composition, and the least squares against a regression written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from indiseek_sc.data import fit_batch_offsets
from indiseek_sc.data._batch import PRIOR_CELLS, _offsets_within

N = 2000
SIZES = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
COMPOSITIONS = {
    "alike": np.array([SIZES, SIZES]),
    "reversed": np.array([SIZES, SIZES[::-1]]),
    "half of the states in common": np.array([[0.25] * 4 + [0] * 4, [0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0]]),
}


def draw(composition: np.ndarray, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Synthetic cells of eight states in two batches: values, batch codes, and what the second batch adds."""
    rng = np.random.default_rng(seed)
    centers, batch = 2 * rng.normal(size=(8, 30)), rng.integers(0, 2, N)
    states = np.array([rng.choice(8, p=composition[b]) for b in batch])
    added = rng.normal(size=30)
    added *= shift / np.linalg.norm(added)
    return centers[states] + rng.normal(size=(N, 30)) + added * batch[:, None], batch, added


def fit(x: np.ndarray, batch: np.ndarray, n_batches: int = 2, seed: int = 0) -> np.ndarray:
    return np.hstack(fit_batch_offsets([x[:, :10], x[:, 10:]], batch, n_batches, seed=seed))


@pytest.mark.parametrize("shift", [0.0, 2.0, 5.0])  # states are 15 apart
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_a_known_offset_is_found_whatever_the_composition(composition, shift):
    x, batch, added = draw(COMPOSITIONS[composition], shift)
    offsets = fit(x, batch)
    # Noise alone makes about sqrt(30 * 2 / 1000) = .25.
    assert np.linalg.norm(offsets[1] - offsets[0] - added) < 0.6
    if composition != "alike":
        means = x[batch == 1].mean(axis=0) - x[batch == 0].mean(axis=0)
        assert np.linalg.norm(means - added) > 2  # so centring of each batch would not do


def test_batches_without_a_state_in_common_are_left_as_they_are():
    x, batch, _ = draw(np.array([[0.25] * 4 + [0] * 4, [0] * 4 + [0.25] * 4]), shift=2.0)
    assert np.linalg.norm(fit(x, batch)) < 0.2


def test_offsets_are_zero_on_average_over_cells_and_for_batches_without_cells():
    x, batch, _ = draw(COMPOSITIONS["reversed"], shift=3.0)
    batch[: N // 2] = np.minimum(batch[: N // 2], 0)  # more of the first than of the second
    offsets = fit(x, 2 * batch, n_batches=3)
    assert_allclose(offsets[2 * batch].mean(axis=0), 0, atol=1e-9)
    assert np.abs(offsets[2]).max() > 0.1
    assert_allclose(offsets[1], offsets[1].mean(), atol=1.0)
    nobody = fit(x, np.zeros(N, dtype=int))
    assert_allclose(nobody, 0, atol=1e-9)


def test_the_order_of_batches_and_the_scale_of_a_modality_make_no_difference():
    x, batch, _ = draw(COMPOSITIONS["reversed"], shift=3.0)
    offsets = fit(x, batch)
    assert_allclose(fit(x, 1 - batch), offsets[::-1], atol=1e-6)
    first, second = fit_batch_offsets([1000 * x[:, :10], x[:, 10:]], batch, 2, seed=0)
    assert_allclose(np.hstack([first / 1000, second]), offsets, atol=1e-6)


def test_least_squares_are_those_of_a_regression_on_indicators():
    rng = np.random.default_rng(1)
    clusters, batch = np.eye(4)[rng.integers(0, 4, 200)], np.eye(3)[rng.integers(0, 3, 200)]
    x = rng.normal(size=(200, 5)) + batch @ rng.normal(size=(3, 5)) + clusters @ rng.normal(size=(4, 5))
    # Ridge on the offsets alone: rows of zeros that ask for offsets of 0.
    design = np.vstack([np.hstack([clusters, batch]), np.hstack([np.zeros((3, 4)), np.sqrt(PRIOR_CELLS) * np.eye(3)])])
    expected = np.linalg.lstsq(design, np.vstack([x, np.zeros((3, 5))]), rcond=None)[0][4:]
    expected -= (batch @ expected).mean(axis=0)
    assert_allclose(_offsets_within(x, clusters, batch), expected, atol=1e-10)


def test_few_cells_and_one_feature_each():
    offsets = fit_batch_offsets([np.ones((2, 1)), np.array([[0.0], [1.0]])], np.array([0, 1]), 2, seed=0)
    assert all(np.isfinite(part).all() and part.shape == (2, 1) for part in offsets)
