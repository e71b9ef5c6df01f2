"""Offsets: recovery of known offsets, and comparison with explicit regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from indiseek_sc.data import fit_offsets
from indiseek_sc.data._offsets import N_PSEUDO_CELLS, _solve_within
from indiseek_sc.nn import CovariateOffsets

N = 2000
SIZES = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
COMPOSITIONS = {
    "alike": np.array([SIZES, SIZES]),
    "reversed": np.array([SIZES, SIZES[::-1]]),
    "half of the states in common": np.array([[0.25] * 4 + [0] * 4, [0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0]]),
}


def draw(composition: np.ndarray, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, batches and the true offset of cells of eight states in two batches."""
    rng = np.random.default_rng(seed)
    centers, batch = 2 * rng.normal(size=(8, 30)), rng.integers(0, 2, N)
    states = np.array([rng.choice(8, p=composition[b]) for b in batch])
    added = rng.normal(size=30)
    added *= shift / np.linalg.norm(added)
    return centers[states] + rng.normal(size=(N, 30)) + added * batch[:, None], batch, added


def indicate(batch: np.ndarray, n_batches: int = 2) -> np.ndarray:
    """Return centred indicators of batches."""
    is_of = np.eye(n_batches)[batch]
    return is_of - is_of.mean(axis=0)


def fit(x: np.ndarray, design: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the overall offsets of both modalities."""
    return np.hstack([offsets.overall for offsets in fit_offsets([x[:, :10], x[:, 10:]], design, seed=seed)])


def correct(x: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Return values of one modality after subtraction of offsets fitted with another modality."""
    offsets, _ = fit_offsets([x, x[:, :1]], design, seed=0)
    part = CovariateOffsets(design.shape[1], x.shape[1]).double()
    part.set(offsets)
    return part(torch.from_numpy(x), torch.from_numpy(design)).numpy()


@pytest.mark.parametrize("shift", [0.0, 2.0, 5.0])  # states are 15 apart
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_known_offset_is_recovered_for_any_composition(composition, shift):
    x, batch, added = draw(COMPOSITIONS[composition], shift)
    offsets = fit(x, indicate(batch))
    # Noise alone gives about sqrt(30 * 2 / 1000) = .25.
    assert np.linalg.norm(offsets[1] - offsets[0] - added) < 0.6
    if composition != "alike":
        means = x[batch == 1].mean(axis=0) - x[batch == 0].mean(axis=0)
        assert np.linalg.norm(means - added) > 2  # centring each batch would not recover it


def test_batches_without_common_states_are_unchanged():
    x, batch, _ = draw(np.array([[0.25] * 4 + [0] * 4, [0] * 4 + [0.25] * 4]), shift=2.0)
    assert np.linalg.norm(fit(x, indicate(batch))) < 0.2


def test_empty_batch_has_zero_offsets():
    x, batch, _ = draw(COMPOSITIONS["reversed"], shift=3.0)
    first, second = fit_offsets([x[:, :10], x[:, 10:]], indicate(2 * batch, 3), seed=0)
    for offsets in (first, second):
        assert offsets.overall[2].abs().max() > 0.1
        assert offsets.overall[1].abs().max() == offsets.of_states[:, 1].abs().max() == 0


def test_invariance_to_order_of_batches_and_scale():
    x, batch, _ = draw(COMPOSITIONS["reversed"], shift=3.0)
    offsets = fit(x, indicate(batch))
    assert_allclose(fit(x, indicate(1 - batch)), offsets[::-1], atol=1e-6)
    first, second = fit_offsets([1000 * x[:, :10], x[:, 10:]], indicate(batch), seed=0)
    assert_allclose(np.hstack([first.overall / 1000, second.overall]), offsets, atol=1e-6)


def test_continuous_covariate_with_batches():
    x, batch, added = draw(COMPOSITIONS["reversed"], shift=3.0)
    rng = np.random.default_rng(2)
    age, slope = rng.normal(size=N) + batch, rng.normal(size=30)
    x += np.outer(age, slope)
    offsets = fit(x, np.column_stack([indicate(batch), age - age.mean()]))
    assert np.linalg.norm(offsets[1] - offsets[0] - added) < 1.0
    assert np.linalg.norm(offsets[2] - slope) < 0.1 * np.linalg.norm(slope)


@pytest.mark.parametrize("is_twice", [False, True])
def test_state_specific_offsets(is_twice):
    rng = np.random.default_rng(0)
    centers, batch, states = 2 * rng.normal(size=(4, 30)), rng.integers(0, 2, N), rng.integers(0, 4, N)
    added = 0.6 * rng.normal(size=(4, 30)) * np.array([0, 1, 0, -1])[:, None]
    x = centers[states] + rng.normal(size=(N, 30)) + added[states] * batch[:, None]
    design = indicate(batch)
    if is_twice:  # duplicated covariate: only the sum of effects is identified
        design = np.hstack([design, design])
    corrected = correct(x, design)

    def find_distances(values: np.ndarray) -> list[float]:
        """Return the distance between means of the batches in each state."""
        means = [[values[(states == k) & (batch == b)].mean(axis=0) for b in (0, 1)] for k in range(4)]
        return [float(np.linalg.norm(first - second)) for first, second in means]

    before, after = find_distances(x), find_distances(corrected)
    assert min(before[1], before[3]) > 2.5
    assert after[1] < 0.5 * before[1] and after[3] < 0.5 * before[3]
    assert max(after[0], after[2]) < 0.6  # noise alone gives about .35
    spread = np.mean([corrected[states == k].var(axis=0).sum() for k in range(4)])
    assert spread == pytest.approx(30, rel=0.1)


def test_states_without_covariates():
    x, *_ = draw(COMPOSITIONS["alike"], shift=0.0)
    assert_allclose(correct(x, np.zeros((N, 0))), x)
    (offsets,) = fit_offsets([x], np.zeros((N, 0)), seed=0)
    nearest = np.square(x[:, None] - offsets.states.numpy()).sum(axis=2).min(axis=1)
    assert nearest.mean() == pytest.approx(offsets.spread) and offsets.spread < 1.1 * 30


def test_offsets_of_states_are_averaged_by_distance():
    """Compare with explicit sums; subtraction and addition of offsets are consistent."""
    rng = np.random.default_rng(0)
    part = CovariateOffsets(2, 3).double()
    part.overall.copy_(torch.from_numpy(rng.normal(size=(2, 3))))
    part.states[:2] = torch.from_numpy(10 * rng.normal(size=(2, 3)))
    part.of_states[:2] = torch.from_numpy(rng.normal(size=(2, 2, 3)))
    part.spread.fill_(5.0)
    x, d = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    for i in range(7):
        rest = x[i] - d[i] @ part.overall.numpy()
        moved = [d[i] @ part.of_states[k].numpy() for k in range(2)]
        weights = np.array([np.exp(-np.square(rest - moved[k] - part.states[k].numpy()).sum() / 5) for k in range(2)])
        expected = rest - weights @ np.array(moved) / weights.sum()
        assert_allclose(part(torch.from_numpy(x[i : i + 1]), torch.from_numpy(d[i : i + 1]))[0], expected, atol=1e-9)
    design = torch.from_numpy(d[:2])
    assert_allclose(part(part.add(part.states[:2], design), design), part.states[:2], atol=1e-6)


def test_least_squares_equal_regression_on_indicators():
    rng = np.random.default_rng(1)
    clusters, batch = np.eye(4)[rng.integers(0, 4, 200)], np.eye(3)[rng.integers(0, 3, 200)]
    x = rng.normal(size=(200, 5)) + batch @ rng.normal(size=(3, 5)) + clusters @ rng.normal(size=(4, 5))
    # Ridge penalty on the offsets only, as additional rows of zeros.
    design = np.vstack(
        [np.hstack([clusters, batch]), np.hstack([np.zeros((3, 4)), np.sqrt(N_PSEUDO_CELLS) * np.eye(3)])]
    )
    expected = np.linalg.lstsq(design, np.vstack([x, np.zeros((3, 5))]), rcond=None)[0][4:]
    assert_allclose(_solve_within(x, clusters, batch), expected, atol=1e-10)


def test_few_cells_with_one_feature():
    found = fit_offsets([np.ones((2, 1)), np.array([[0.0], [1.0]])], indicate(np.array([0, 1])), seed=0)
    for offsets in found:
        assert offsets.overall.shape == (2, 1) and all(np.isfinite(value).all() for value in offsets[:3])
