from __future__ import annotations

import logging

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, metrics, tl

TYPES = np.repeat(["a", "b", "c"], 60)
N_CELLS = len(TYPES)
ROLES = {"rna": "gex", "adt": "prot"}
HALF_OF_A = np.arange(N_CELLS) < 30
KEY = _keys.CLUSTERS


def blobs(groups: np.ndarray, seed: int) -> np.ndarray:
    """Return distant groups of points, each around a corner of a cube."""
    _, group = np.unique(groups, return_inverse=True)
    return 20.0 * np.eye(3)[group] + np.random.default_rng(seed).normal(size=(len(groups), 3))


@pytest.fixture
def mdata():
    """Return data in which all representations but one separate the three types.

    The RNA-specific representation divides type a and merges its other half with type b.
    """
    names = [f"cell{i}" for i in range(N_CELLS)]
    parts = {name: AnnData(np.ones((N_CELLS, 2)), obs=pd.DataFrame(index=names)) for name in ROLES.values()}
    for seed, (name, part) in enumerate(parts.items()):
        part.var_names = [f"{name}0", f"{name}1"]
        part.obsm["X_pca"] = blobs(TYPES, seed + 10)
    mdata = MuData(parts)
    mdata.obs = pd.DataFrame({"cell_type": TYPES}, index=names)
    mdata.obs[_keys.SPLIT] = pd.Categorical(np.resize(["train", "test"], N_CELLS))
    mdata.obsm[_keys.JOINT] = blobs(TYPES, 0)
    mdata.obsm[_keys.shared("gex")], mdata.obsm[_keys.shared("prot")] = blobs(TYPES, 1), blobs(TYPES, 2)
    mdata.obsm[_keys.specific("gex")] = blobs(np.where(HALF_OF_A, "half", np.where(TYPES == "c", "c", "rest")), 3)
    mdata.obsm[_keys.specific("prot")] = blobs(TYPES, 4)
    mdata.uns[_keys.SETTINGS] = {"modalities": ROLES}
    return mdata


def test_numbers_agreement_and_splits_of_clusters(mdata):
    latents, agreement, splits = tl.compare_clusters(mdata, "cell_type")
    names = ["shared_gex", "shared_prot", "specific_gex", "specific_prot", "joint"]
    assert latents["latent"].tolist() == names
    assert latents["kind"].tolist() == ["shared", "shared", "specific", "specific", "joint"]
    assert latents["modality"].tolist() == ["gex", "prot", "gex", "prot", ""]
    assert (latents["n_clusters"] == 3).all()

    figures = agreement.set_index(["one", "other"])["ari"]
    assert figures["shared_gex", "joint"] == figures["joint", "labels"] == figures["specific_gex", "specific_gex"] == 1
    assert figures["specific_gex", "labels"] == pytest.approx(
        metrics.cluster_agreement({"x": mdata.obs["indiseek_clusters_specific_gex"], "y": TYPES})["ari"][0]
    )

    assert splits["label"].tolist() == [name for name in splits.drop_duplicates("cluster")["label"] for _ in range(4)]
    assert (splits["label_share"] == 1).all()
    assert splits["verdict"].value_counts().to_dict() == {"kept": 11, "split": 1}
    assert splits.loc[splits["only_here"], ["label", "latent"]].to_numpy().tolist() == [["a", "specific_gex"]]


def test_concatenated_representations(mdata):
    found = tl.compare_clusters(mdata, latents=["both", "joint"], n_repeats=2)
    assert found.latents["latent"].tolist() == ["both_gex", "both_prot", "joint"]


def test_clusters_of_unstructured_data_are_unstable(mdata):
    mdata.obsm[_keys.specific("prot")] = np.random.default_rng(4).normal(size=(N_CELLS, 5))
    figures = tl.compare_clusters(mdata, "cell_type", latents=["specific", "joint"]).agreement.set_index(
        ["one", "other"]
    )["ari"]
    assert abs(figures["specific_prot", "labels"]) < 0.1
    assert figures["specific_prot", "specific_prot"] < 0.6


def test_results_survive_h5mu(mdata, tmp_path):
    mdata.obsm[_keys.JOINT][7] = np.nan
    found = tl.compare_clusters(mdata, "cell_type", latents=["joint", "raw"], n_repeats=2, cells="held_out")
    used = (mdata.obs[_keys.SPLIT] == "test").to_numpy() & (np.arange(N_CELLS) != 7)
    assert (found.agreement["n_cells"] == used.sum()).all()
    mdata.write(tmp_path / "latents.h5mu")
    back = mudata.read(tmp_path / "latents.h5mu")
    pd.testing.assert_frame_equal(back.uns[KEY], found.agreement)
    pd.testing.assert_frame_equal(back.uns[f"{KEY}_latents"], found.latents)
    pd.testing.assert_frame_equal(back.uns[f"{KEY}_splits"], found.splits)
    assert back.uns[f"{KEY}_params"]["n_clusters"] == 3
    for latent in ("joint", "raw_gex", "raw_prot"):
        clusters = back.obs[_keys.clusters(latent)]
        np.testing.assert_array_equal(clusters.notna(), used)
        assert clusters.cat.categories.tolist() == ["0", "1", "2"]
        sizes = clusters.value_counts(sort=False)
        assert sizes.is_monotonic_decreasing


def test_labels_are_optional_and_can_be_the_reference(mdata):
    of_types = tl.compare_clusters(mdata, "cell_type", latents=["specific"], reference="labels", n_repeats=2).splits
    assert of_types["cluster"].unique().tolist() == ["a", "b", "c"]
    assert "label" not in of_types
    assert of_types.loc[of_types["only_here"], ["cluster", "latent"]].to_numpy().tolist() == [["a", "specific_gex"]]
    one, other = (tl.compare_clusters(mdata, latents=["shared", "joint"], n_repeats=2) for _ in range(2))
    assert "labels" not in [*one.agreement["one"], *one.agreement["other"]]
    assert one.latents["n_clusters"].nunique() == 1
    for first, second in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(first, second)


def test_unreachable_numbers_of_clusters_are_logged(mdata, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    tl.compare_clusters(mdata, latents=["shared", "joint"], n_clusters=2, n_repeats=2)
    assert (
        "yields 2 clusters in every representation; nearest: 3 in 'shared_gex', 3 in 'shared_prot', 3 in 'joint'"
        in caplog.text
    )
