from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from indiseek_sc.metrics._annoy import annoy_neighbors


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(600, 6)).cumsum(axis=1)


def test_finds_most_neighbors_in_order_of_their_true_distance(points):
    indices, distances = annoy_neighbors(points, 15)
    true, exact = NearestNeighbors(n_neighbors=15).fit(points).kneighbors(points)
    shared = np.mean([len(np.intersect1d(a, b)) / 15 for a, b in zip(indices, exact, strict=True)])
    assert 0.9 < shared < 1
    np.testing.assert_array_equal(indices[:, 0], np.arange(600))
    assert (np.diff(distances, axis=1) >= 0).all()
    recomputed = np.linalg.norm(points[indices] - points[:, None], axis=2)
    np.testing.assert_allclose(distances, recomputed, atol=1e-5)
    assert (distances >= true - 1e-5).all()


def test_more_neighbors_are_looked_for_further_away(points):
    """As many cells are met as trees times neighbours, so that all are found where all are asked for."""
    indices, _ = annoy_neighbors(points, 600)
    assert (np.sort(indices, axis=1) == np.arange(600)).all()
    few, _ = annoy_neighbors(points, 15, n_trees=2)
    many, _ = annoy_neighbors(points, 15, n_trees=200)
    exact = NearestNeighbors(n_neighbors=15).fit(points).kneighbors(points, return_distance=False)
    assert (few == exact).mean() < (many == exact).mean() > 0.99


@pytest.mark.parametrize("n_cells", [2, 5, 8])
def test_as_many_cells_as_a_leaf_holds_are_all_found(points, n_cells):
    indices, _ = annoy_neighbors(points[:n_cells], n_cells)
    exact = NearestNeighbors(n_neighbors=n_cells).fit(points[:n_cells]).kneighbors(points[:n_cells])[1]
    np.testing.assert_array_equal(indices, exact)


def test_of_cells_that_are_alike_the_first_come_first():
    """No plane splits them, so that they are put on sides at random."""
    points = np.repeat(np.eye(3), 40, axis=0)
    indices, distances = annoy_neighbors(points, 120)
    assert (distances[:, :40] == 0).all() and (distances[:, 40:] > 0).all()
    blocks = np.arange(120).reshape(3, 40)
    np.testing.assert_array_equal(indices[:, :40], np.repeat(blocks, 40, axis=0))


def test_the_same_each_time_and_points_are_left_alone(points):
    before = points.copy()
    first, second = annoy_neighbors(points, 20), annoy_neighbors(points, 20)
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(points, before)
