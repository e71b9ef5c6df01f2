from __future__ import annotations

import numpy as np
import pytest

from indiseek_sc.metrics._noise_floor import FLOOR, flat_directions, through_floor


@pytest.fixture
def code():
    """Three turned directions of widths 10, 2 and 0.1: the last is 1 % of the first."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return rng.normal(size=(4000, 3)) * [10, 2, 0.1] @ rotation + 100


def test_floor_drowns_narrow_directions_only(code):
    train = np.arange(2000)
    noisy = through_floor(code, train, np.random.default_rng(1))
    floor = FLOOR * 10
    np.testing.assert_allclose(noisy[train].std(axis=0), np.hypot([10, 2, 0.1], floor), rtol=0.05)


def test_floor_adds_no_more_than_noise_to_turned_cells(code):
    noisy = through_floor(code, np.arange(2000), np.random.default_rng(1))
    near = np.linalg.norm(code[:50, None] - code[None, :50], axis=-1)
    turned = np.linalg.norm(noisy[:50, None] - noisy[None, :50], axis=-1)
    assert np.abs(near - turned).max() < 6 * FLOOR * 10


def test_flat_directions_have_width_one_and_leave_the_narrow_out(code):
    train = np.arange(0, 4000, 2)
    flat = flat_directions(code, train)
    assert flat.shape == (4000, 2)
    np.testing.assert_allclose(flat[train].std(axis=0), 1)
    np.testing.assert_allclose(np.cov(flat[train].T, bias=True), np.eye(2), atol=1e-8)


def test_a_constant_code_has_no_direction_and_no_noise():
    constant = np.full((20, 4), 0.1, dtype=np.float32)
    assert flat_directions(constant, np.arange(10)).shape == (20, 0)
    np.testing.assert_allclose(through_floor(constant, np.arange(10), np.random.default_rng(0)), 0, atol=1e-7)
