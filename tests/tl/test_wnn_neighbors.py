from __future__ import annotations

import json

import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, metrics, tl

N_CELLS = 90


@pytest.fixture
def mdata():
    """Return three groups of cells that are distinct in both modalities."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"group": np.resize(list("abc"), N_CELLS)}, index=[f"cell{i}" for i in range(N_CELLS)])
    group = np.resize(np.eye(3), (N_CELLS, 3))
    rna, adt = (AnnData(np.ones((N_CELLS, 2), dtype=np.float32), obs=obs.copy()) for _ in range(2))
    rna.var_names, adt.var_names = ["g0", "g1"], ["p0", "p1"]
    rna.obsm["X_pca"] = np.hstack([4 * group, rng.normal(size=(N_CELLS, 2))]) + 0.3 * rng.normal(size=(N_CELLS, 5))
    adt.obsm["X_pca"] = 3 * group + rng.normal(size=(N_CELLS, 3))
    mdata = MuData({"rna": rna, "adt": adt})
    mdata.obs = obs
    return mdata


def embeddings(mdata):
    return mdata["rna"].obsm["X_pca"], mdata["adt"].obsm["X_pca"]


def test_result_equals_the_metric(mdata):
    found = tl.wnn_neighbors(mdata, rna_dimensions=4, n_neighbors=9, n_candidates=40, prune=0.2, key_added="both")
    rna, adt = embeddings(mdata)
    expected = metrics.wnn_neighbors(rna[:, :4], adt, n_neighbors=9, n_candidates=40)
    for part, of_metric in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part, of_metric)
    distances = np.zeros((N_CELLS, N_CELLS))
    np.put_along_axis(distances, expected.indices, expected.distances, axis=1)
    np.testing.assert_array_equal(mdata.obsp["both_distances"].toarray(), distances)
    similarity = metrics.shared_neighbors(expected.indices, prune=0.2)
    np.testing.assert_array_equal(mdata.obsp["both_snn"].toarray(), similarity.toarray())
    np.testing.assert_array_equal(mdata.obsm["X_both"], np.hstack([rna[:, :4], adt]).astype(np.float32))
    assert mdata.uns["both"]["params"] == {
        **{"n_neighbors": 9, "n_candidates": 40, "prune": 0.2, "normalize": True, "search": "annoy"},
        **{"method": "umap", "metric": "euclidean", "use_rep": "X_both"},
    }


def test_connectivities_equal_those_of_umap(mdata):
    found = tl.wnn_neighbors(mdata, n_neighbors=9)
    connectivities = mdata.obsp["wnn_connectivities"].toarray()
    np.testing.assert_array_equal(connectivities, connectivities.T)
    assert (connectivities.diagonal() == 0).all() and 0 < connectivities.max() <= 1
    is_neighbor = np.zeros((N_CELLS, N_CELLS), dtype=bool)
    np.put_along_axis(is_neighbor, found.indices, True, axis=1)
    assert not connectivities[~(is_neighbor | is_neighbor.T)].any()
    np.testing.assert_allclose(connectivities[np.arange(N_CELLS), found.indices[:, 0]], 1, atol=1e-6)


def test_weights_equal_those_of_wnn_weights(mdata):
    expected = tl.wnn_weights(mdata, n_neighbors=12)
    noted = mdata.uns[_keys.WNN]
    mdata.obs = mdata.obs[["group"]]
    del mdata.uns[_keys.WNN]
    found = tl.wnn_neighbors(mdata, n_neighbors=12)
    np.testing.assert_array_equal(found.weights, expected["rna"])
    np.testing.assert_array_equal(mdata.obs[["rna:wnn_weight", "adt:wnn_weight"]], expected)
    assert mdata.uns[_keys.WNN] == noted
    assert tl.find_wnn_weights(mdata).weights.equals(mdata.obs["rna:wnn_weight"])


def test_scanpy_computes_clusters_and_umap_from_the_graph(mdata):
    tl.wnn_neighbors(mdata, n_neighbors=10)
    sc.tl.leiden(mdata, resolution=0.1, neighbors_key="wnn", flavor="igraph", n_iterations=2)
    sc.tl.leiden(mdata, resolution=0.1, obsp="wnn_snn", key_added="snn", flavor="igraph", n_iterations=2)
    for clusters in ("leiden", "snn"):
        assert (pd.crosstab(mdata.obs[clusters], mdata.obs["group"]) > 0).to_numpy().sum() == 3
    sc.tl.umap(mdata, neighbors_key="wnn", maxiter=5)
    assert mdata.obsm["X_umap"].shape == (N_CELLS, 2) and np.isfinite(mdata.obsm["X_umap"]).all()


def test_survives_h5mu_and_subsets(mdata, tmp_path):
    tl.wnn_neighbors(mdata)
    mdata.write(tmp_path / "graph.h5mu")
    back = mudata.read(tmp_path / "graph.h5mu")
    for key in ("wnn_connectivities", "wnn_distances", "wnn_snn"):
        np.testing.assert_array_equal(back.obsp[key].toarray(), mdata.obsp[key].toarray())
    json.dumps(mdata.uns["wnn"])
    assert back.uns["wnn"]["connectivities_key"] == "wnn_connectivities"
    assert mdata[:10].copy().obsp["wnn_snn"].shape == (10, 10)


def test_cells_without_a_modality_have_no_neighbors(mdata):
    rna, adt = mdata["rna"][5:].copy(), mdata["adt"][::-1][:-10].copy()  # cells 5-89, and cells 89-10
    rna.obsm["X_pca"][-3:] = np.nan  # cells 87-89
    partial = MuData({"rna": rna, "adt": adt})
    found = tl.wnn_neighbors(partial, n_neighbors=8)
    both = partial.obs_names.get_indexer([f"cell{i}" for i in range(10, 87)])
    lacking = np.setdiff1d(np.arange(partial.n_obs), both)
    expected = metrics.wnn_neighbors(*(part[10:87] for part in embeddings(mdata)), n_neighbors=8)
    np.testing.assert_array_equal(found.indices[both], both[expected.indices])
    assert (found.indices[lacking] == -1).all() and np.isnan(found.distances[lacking]).all()
    for name in ("connectivities", "distances", "snn"):
        graph = partial.obsp[f"wnn_{name}"].toarray()
        assert not graph[lacking].any() and not graph[:, lacking].any() and graph[both].any()
    assert not partial.obsm["X_wnn"][lacking].any() and partial.obsm["X_wnn"][both].any(axis=1).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_candidates": 20}, "n_candidates=20 must be above n_neighbors=20"),
        ({"n_neighbors": 1}, "n_neighbors must be at least 2"),
        ({"prune": -0.1}, "prune must not be negative"),
        ({"search": "hnsw"}, "search='hnsw' is not known"),
        ({"normalize": "yes"}, "normalize must be True or False"),
        ({"key_added": ""}, "key_added must be an unused name"),
        ({"key_added": _keys.WNN}, "key_added must be an unused name"),
        ({"adt_dimensions": 9}, "adt_dimensions=9 must be between 1 and the 3 columns"),
    ],
)
def test_invalid_arguments_change_nothing(mdata, arguments, words):
    with pytest.raises(ValueError, match=words):
        tl.wnn_neighbors(mdata, **arguments)
    assert list(mdata.obs.columns) == ["group"] and not mdata.uns and not dict(mdata.obsp)
    assert not {"X_wnn"} & set(mdata.obsm)
