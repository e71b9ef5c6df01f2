"""Scores of clusters, graphs and gene programmes on a few synthetic cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from sklearn.neighbors import kneighbors_graph

LABELS = np.repeat(["T", "B", "NK"], 40)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def peers(load_script):
    return load_script("peers")


@pytest.fixture
def finding(load_script):
    return load_script("finding")


def test_clusters_of_separate_types_equal_the_types(peers, rng):
    latent = 20 * np.eye(3)[pd.factorize(LABELS)[0]] + rng.normal(size=(LABELS.size, 3))
    clusters = peers.find_clusters(kneighbors_graph(latent, 10, mode="connectivity"), seed=0)
    row = peers.score_clusters(clusters, pd.Series(LABELS))
    assert set(clusters) == set(peers.RESOLUTIONS)
    assert (row["n_labels"], row["n_clusters_matched"]) == (3, 3)
    assert row["ari_matched"] == row["nmi_matched"] == pytest.approx(1)


def test_rare_and_unknown_labels_are_not_counted(peers):
    labels = pd.Series(["T"] * 30 + ["B"] * 30 + ["rare"] * 3 + [np.nan] * 20)
    perfect = pd.factorize(labels)[0]
    perfect[63:] = np.arange(20) % 2  # cells without a label
    coarse, fine = np.minimum(perfect, 1), np.arange(83)
    row = peers.score_clusters({0.5: coarse, 1.0: fine, 2.0: perfect}, labels)
    assert (row["n_labels"], row["resolution_matched"], row["n_clusters"]) == (2, 0.5, 83)
    assert 0.9 < row["ari_matched"] < 1  # the rare label shares a cluster with another one
    assert row["ari"] < 0.1


def test_only_training_cells_vote_in_the_graph(peers):
    labels = pd.Series(["a", "a", "b", "b", "b", np.nan])
    indices = np.array([[1, 2], [0, 2], [3, 4], [2, 0], [5, 3], [0, 1]])
    train, test = np.array([0, 2, 5]), np.array([1, 3, 4])
    # Cell 1 has the votes of 0 and 2, a tie that the first label wins; cell 3 those of 2 and 0;
    # cell 4 none, since 3 is a test cell and 5 has no label.
    assert peers.accuracy_in_graph(indices, labels, train, test) == pytest.approx(1 / 3)
    # Only the nearest cell votes.
    assert peers.accuracy_in_graph(indices, labels, train, test, n_neighbors=1) == pytest.approx(2 / 3)


def test_rows_of_the_same_run_are_replaced_and_times_are_relative_to_ours(peers, tmp_path):
    path = tmp_path / "peers.csv"
    about = {"data": "some", "labels": "kind", "seed": 0, "ari": 0.5}
    peers.write([{**about, "method": "IndiSeek", "seconds": 2.0}], path)
    peers.write([{**about, "method": "WNN", "seconds": 9.0}], path)
    table = peers.write([{**about, "method": "WNN", "seconds": 1.0}], path)
    assert table.set_index("method")["seconds_ratio"].to_dict() == {"IndiSeek": 1.0, "WNN": 0.5}
    pd.testing.assert_frame_equal(pd.read_csv(path), table.reset_index(drop=True))


def test_labels_named_unknown_are_missing(peers, pbmc_small):
    pbmc_small.obs["kind"] = np.where(np.arange(pbmc_small.n_obs) < 5, "unknown", "known")
    labels = peers.read_labels(pbmc_small, "kind")
    assert labels.isna().to_numpy().nonzero()[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.slow  # compiles parts of UMAP
def test_wnn_does_not_change_its_input(peers, pbmc_small, rng):
    components = {role: rng.normal(size=(pbmc_small.n_obs, n)) for role, n in (("rna", 5), ("adt", 4))}
    graph, indices = peers.find_wnn(pbmc_small, components)
    assert isinstance(graph, csr_matrix)
    assert graph.shape == (pbmc_small.n_obs,) * 2
    assert indices.shape == (pbmc_small.n_obs, 20)
    assert not pbmc_small.obsp.keys()
    assert "X_pca" not in pbmc_small["rna"].obsm


def test_components_of_both_modalities_have_the_same_variance(load_script, rng):
    script = load_script("_peers")
    latent = script.concatenate({"rna": 9 * rng.normal(size=(50, 6)), "adt": rng.normal(size=(50, 2))})
    assert latent[:, :6].var(axis=0).sum() == pytest.approx(latent[:, 6:].var(axis=0).sum())


def test_a_cached_fit_is_reused(load_script, tmp_path):
    script = load_script("_peers")
    path, fitted = tmp_path / "latents" / "one.npz", script.Fitted(np.eye(3), 1.5, np.ones((4, 3)))
    script.cached(path, lambda: fitted)
    found = script.cached(path, lambda: pytest.fail("fitted again"))
    np.testing.assert_array_equal(found.latent, fitted.latent)
    np.testing.assert_array_equal(found.every, fitted.every)
    assert found.seconds == 1.5


def test_eta_squared_distinguishes_a_pure_dimension_from_a_mixed_one(finding, rng):
    kinds = np.repeat(["T", "B"], 200)
    rng.shuffle(kinds)
    programme, noise = rng.normal(size=(2, kinds.size))
    level = np.where(kinds == "T", 3.0, -3.0)
    score = programme + 0.2 * level
    pure, mixed = np.c_[noise, -programme], np.c_[noise, programme + level]
    halves = np.arange(200), np.arange(200, 400)
    for latent, eta2 in ((pure, 0), (mixed, 0.9)):
        for row in finding.evaluate(latent, score, kinds, *halves):
            assert row["dimension"] == 2
            assert row["r"] > 0.5
            assert row["r_within"] == pytest.approx(1)
            assert row["eta2"] == pytest.approx(eta2, abs=0.05)
            assert row["eta2_score"] == pytest.approx(0.26, abs=0.1)
    # A dimension of cell types may be chosen by correlation, but not by correlation within types.
    rows = finding.evaluate(np.c_[level + 0.1 * noise, programme], score - 0.2 * level + level, kinds, *halves)
    assert [row["dimension"] for row in rows] == [1, 2]


def test_the_sign_is_determined_in_the_discovery_half(finding, rng):
    score = rng.normal(size=100)
    latent = np.where(np.arange(100) < 50, -1, 1)[:, None] * score[:, None]
    rows = finding.evaluate(latent, score, np.repeat("T", 100), np.arange(50), np.arange(50, 100))
    assert [row["r"] for row in rows] == pytest.approx([-1, -1])


def test_halves_share_no_donor(finding, rng):
    donors = np.repeat([f"donor {i}" for i in range(7)], 5)
    found = finding.divide(donors, rng)
    assert not set(donors[found]) & set(donors[~found])
    assert np.unique(donors[found]).size == 3


def test_scores_are_standardised_and_leave_counts_unchanged(finding, pbmc_small):
    rows = np.arange(0, pbmc_small.n_obs, 2)
    scores = finding.score_programmes(pbmc_small, rows)
    assert set(scores) <= set(finding.PROGRAMMES)
    assert len(scores) == pbmc_small.n_obs
    np.testing.assert_allclose(scores.iloc[rows].mean(), 0, atol=1e-5)
    assert pbmc_small["rna"].X.max() == np.round(pbmc_small["rna"].X.max())  # counts are unchanged


def test_genes_of_a_dimension_correlate_with_it_within_types(finding, rng):
    kinds = np.repeat(["T", "B"], 100)
    values = rng.normal(size=200)
    counts = rng.normal(size=(200, 30))
    counts[:, 3] = 9 * (kinds == "T")  # differs between types only
    counts[:, 7], counts[:, 8] = values, -values
    cells = AnnData(counts, var=pd.DataFrame(index=[f"gene{i}" for i in range(30)]))
    found = finding.find_genes(cells, values + 5 * (kinds == "T"), kinds)
    assert found["highest"].startswith("gene7 1.00 ")
    assert found["lowest"].startswith("gene8 -1.00 ")
    assert "gene3 " not in f"{found['highest']} {found['lowest']}"


def test_donors_are_the_units_of_the_comparison(finding, rng):
    donors = np.repeat([f"d{i}" for i in range(8)], 20)
    groups = np.where(np.repeat(np.arange(8), 20) < 4, "healthy", "severe")
    values = np.where(groups == "severe", 2.0, 0.0) + 0.1 * rng.normal(size=160)
    labels = np.repeat("monocyte", 160)
    labels[:5] = "rare"
    table = finding.compare_donors(values, labels, donors, groups)
    assert table["label"].tolist() == ["monocyte"]
    row = table.iloc[0]
    assert (row["n_first"], row["n_second"], row["auc"]) == (4, 4, 1.0)
    assert row["p"] == pytest.approx(2 / 70)  # the exact test for 4 and 4 donors, whatever the number of cells


def test_the_figure_is_drawn_with_and_without_donors(finding, tmp_path):
    rows = [
        {
            **{"data": "one", "programme": programme, "method": method, "seed": 0, "chosen_by": "correlation"},
            **{"eta2": 0.1, "r_within": 0.5, "eta2_score": 0.2},
        }
        for programme in finding.PROGRAMMES
        for method in finding.METHODS
    ]
    donors = pd.DataFrame(
        {"data": "one", "programme": programme, "method": method, "seed": 0, "label": "T", "n_first": 5, "n_second": 6}
        for programme in finding.PROGRAMMES
        for method in ("RNA-specific", "score")
    ).assign(auc=0.9)
    for name, compared in (("with", donors), ("without", pd.DataFrame())):
        finding.draw_figure(pd.DataFrame(rows), compared, tmp_path / f"{name}.png")
    assert (tmp_path / "with.png").stat().st_size > (tmp_path / "without.png").stat().st_size > 10_000
