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


def test_more_trees_and_neighbors_give_a_more_complete_search(points):
    """The search visits trees times neighbours cells, so that a request for all cells finds all."""
    indices, _ = annoy_neighbors(points, 600)
    assert (np.sort(indices, axis=1) == np.arange(600)).all()
    few, _ = annoy_neighbors(points, 15, n_trees=2)
    many, _ = annoy_neighbors(points, 15, n_trees=200)
    exact = NearestNeighbors(n_neighbors=15).fit(points).kneighbors(points, return_distance=False)
    assert (few == exact).mean() < (many == exact).mean() > 0.99


@pytest.mark.parametrize("n_cells", [2, 5, 8])
def test_search_is_exact_if_all_cells_fit_into_a_leaf(points, n_cells):
    indices, _ = annoy_neighbors(points[:n_cells], n_cells)
    exact = NearestNeighbors(n_neighbors=n_cells).fit(points[:n_cells]).kneighbors(points[:n_cells])[1]
    np.testing.assert_array_equal(indices, exact)


def test_ties_are_ordered_by_row_number():
    """Identical cells cannot be split by a plane and are assigned to sides at random."""
    points = np.repeat(np.eye(3), 40, axis=0)
    indices, distances = annoy_neighbors(points, 120)
    assert (distances[:, :40] == 0).all() and (distances[:, 40:] > 0).all()
    blocks = np.arange(120).reshape(3, 40)
    np.testing.assert_array_equal(indices[:, :40], np.repeat(blocks, 40, axis=0))


def test_search_is_reproducible_and_does_not_modify_points(points):
    before = points.copy()
    first, second = annoy_neighbors(points, 20), annoy_neighbors(points, 20)
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(points, before)
