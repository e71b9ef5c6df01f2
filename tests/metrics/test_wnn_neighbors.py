from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import indiseek_sc as isk
from indiseek_sc.metrics import shared_neighbors, wnn_neighbors, wnn_weights
from indiseek_sc.metrics._wnn_weights import fit_wnn

RECORDED = Path(__file__).parent / "recorded" / "seurat_wnn.npz"


@pytest.fixture
def pair():
    """Synthetic cells with a common factor of two dimensions and noise in each modality."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(120, 2))
    return np.hstack([factor, rng.normal(size=(120, 3))]), np.hstack([2 * factor, rng.normal(size=(120, 2))])


@pytest.mark.parametrize("case", ["cells", "twins", "one_twin", "grid", "few"])
def test_neighbors_equal_those_of_seurat_4(case):
    """Recorded from Seurat 4.3.0: indices and distances of weighted.nn, and wsnn."""
    recorded = np.load(RECORDED)
    n_neighbors, n_candidates, normalize = recorded[f"{case}_options"].tolist()
    found = wnn_neighbors(
        *(recorded[f"{case}_{name}"] for name in ("first", "second")),
        n_neighbors=n_neighbors,
        n_candidates=n_candidates,
        normalize=bool(normalize),
    )
    np.testing.assert_array_equal(found.indices, recorded[f"{case}_indices"])
    # At an affinity of 1, a rounding error of 1e-16 becomes 1e-8 in the square root.
    np.testing.assert_allclose(found.distances, recorded[f"{case}_distances"], atol=2e-8, rtol=0)
    np.testing.assert_allclose(found.weights, recorded[f"{case}_weights"], atol=1e-9, rtol=0)
    similarity = recorded[f"{case}_similarity"]
    np.fill_diagonal(similarity, 0)
    np.testing.assert_allclose(shared_neighbors(found.indices).toarray(), similarity, atol=1e-12)


def test_neighbors_equal_those_of_seurat_5(shared_data):
    """Recorded from Seurat 5.5.1 independently."""
    recorded = json.loads((shared_data / "seurat_wnn_reference.json").read_text())
    found = wnn_neighbors(recorded["inputs"]["rnaEmbedding"], recorded["inputs"]["adtEmbedding"])
    np.testing.assert_array_equal(found.indices, recorded["seuratDefault"]["neighborIndices"])


@pytest.mark.parametrize("block", [1, 4_000_000])
@pytest.mark.parametrize(("n_neighbors", "n_candidates"), [(3, 4), (10, 40), (60, 1000)])
def test_agrees_with_a_slow_loop(pair, block, n_neighbors, n_candidates):
    with isk.settings.override(values_at_once=block):
        found = wnn_neighbors(*pair, n_neighbors=n_neighbors, n_candidates=n_candidates, search="exact")
    modalities, weights = fit_wnn(*pair, n_neighbors, True, "exact")
    np.testing.assert_array_equal(found.weights, wnn_weights(*pair, n_neighbors=n_neighbors, search="exact"))
    for i in range(120):
        away = [np.linalg.norm(m.points - m.points[i], axis=1) for m in modalities]
        near = {j for distance in away for j in np.argsort(distance)[1:n_candidates].tolist()} - {i}
        affinity = {
            j: sum(
                weight * np.exp(-max(distance[j] - m.nearest[i], 0) / m.bandwidth[i])
                for weight, distance, m in zip((weights[i], 1 - weights[i]), away, modalities, strict=True)
            )
            for j in near
        }
        best = sorted(affinity, key=affinity.get, reverse=True)[:n_neighbors]
        assert found.indices[i].tolist() == best
        np.testing.assert_allclose(1 - 2 * found.distances[i] ** 2, [affinity[j] for j in best], atol=1e-9)


def test_neighbors_do_not_depend_on_the_order_of_modalities(pair):
    found, turned = wnn_neighbors(*pair), wnn_neighbors(*pair[::-1])
    np.testing.assert_array_equal(found.indices, turned.indices)
    np.testing.assert_allclose(found.distances, turned.distances, atol=1e-7)
    np.testing.assert_allclose(found.weights, 1 - turned.weights)


def test_exact_neighbors_do_not_depend_on_the_order_of_cells(pair):
    order = np.random.default_rng(1).permutation(120)
    found = wnn_neighbors(*pair, search="exact")
    moved = wnn_neighbors(*(part[order] for part in pair), search="exact")
    np.testing.assert_array_equal(order[moved.indices], found.indices[order])


@pytest.mark.parametrize("search", ["annoy", "exact"])
@pytest.mark.parametrize("n_cells", [2, 3, 7])
def test_all_other_cells_are_neighbors_if_there_are_few(pair, n_cells, search):
    found = wnn_neighbors(*(part[:n_cells] for part in pair), search=search)
    others = [[j for j in range(n_cells) if j != i] for i in range(n_cells)]
    np.testing.assert_array_equal(np.sort(found.indices, axis=1), others)
    assert np.isfinite(found.distances).all()


@pytest.mark.parametrize("search", ["annoy", "exact"])
def test_a_constant_modality_does_not_affect_neighbors(pair, search):
    """Neighbours are those of the other modality."""
    found = wnn_neighbors(pair[0], np.ones((120, 3)), search=search)
    assert np.isfinite(found.distances).all()
    modality = fit_wnn(*pair, 20, True, search).modalities[0]
    away = np.linalg.norm(modality.points[found.indices] - modality.points[:, None], axis=2)
    assert (np.diff(away[:, 1:], axis=1) >= -1e-9).all()


def test_shared_neighbors_equal_the_jaccard_similarity():
    indices = np.array([[1, 2], [0, 2], [3, 1], [2, 1]])
    expected = np.zeros((4, 4))
    for i in range(4):
        for j in set(range(4)) - {i}:
            own, other = set(indices[i]), set(indices[j])
            expected[i, j] = len(own & other) / len(own | other)
    np.testing.assert_allclose(shared_neighbors(indices, prune=0).toarray(), expected)
    np.testing.assert_allclose(shared_neighbors(indices, prune=0.4).toarray(), np.where(expected < 0.4, 0, expected))


def test_invalid_arguments_are_rejected(pair):
    with pytest.raises(ValueError, match="n_candidates=20 must be above n_neighbors=20"):
        wnn_neighbors(*pair, n_candidates=20)
    with pytest.raises(ValueError, match="n_neighbors must be at least 2"):
        wnn_neighbors(*pair, n_neighbors=1)
    with pytest.raises(ValueError, match="search='brute' is not known"):
        wnn_neighbors(*pair, search="brute")
    with pytest.raises(ValueError, match="second has 119 rows"):
        wnn_neighbors(pair[0], pair[1][:-1])
    with pytest.raises(ValueError, match=r"indices must lie in \[0, 2\), the rows; got -1 to 1"):
        shared_neighbors([[1], [-1]])
    with pytest.raises(ValueError, match=r"indices must be row numbers of shape \(n_cells, n_neighbors\)"):
        shared_neighbors([[0.5], [1.0]])
    with pytest.raises(ValueError, match="prune must not be negative"):
        shared_neighbors([[1], [0]], prune=-1)
