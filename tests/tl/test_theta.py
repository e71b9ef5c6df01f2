from __future__ import annotations

import json
import logging

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, metrics, tl

N_CELLS = 120
PARAMS = f"{_keys.IMPORTANCE}_params"


@pytest.fixture
def mdata():
    """Return data as after ``model.write_latents``, with unusual names of modalities."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["B cell", "T cell", "NK"], N_CELLS, p=[0.45, 0.45, 0.1])
    names = [f"cell{i}" for i in range(N_CELLS)]
    gex = AnnData(rng.poisson(1.0, (N_CELLS, 4)).astype(np.float32), obs=pd.DataFrame(index=names))
    prot = AnnData(rng.poisson(1.0, (N_CELLS, 3)).astype(np.float32), obs=pd.DataFrame(index=names))
    gex.var_names, prot.var_names = [f"g{i}" for i in range(4)], [f"p{i}" for i in range(3)]
    gex.obs["cell_type"] = pd.Categorical(labels)
    mdata = MuData({"gex": gex, "prot": prot})
    mdata.obs = pd.DataFrame(index=names)
    mdata.obs[_keys.SPLIT] = pd.Categorical(np.resize(["train", "validation", "train", "test"], N_CELLS))
    mdata.obsm[_keys.specific("gex")] = rng.normal(size=(N_CELLS, 3)) + 4.0 * (labels == "B cell")[:, None]
    mdata.obsm[_keys.specific("prot")] = rng.normal(size=(N_CELLS, 2)) + 4.0 * (labels == "T cell")[:, None]
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "gex", "adt": "prot"}, "version": "0", "settings": {}}
    return mdata


def latents_of(mdata):
    return mdata.obsm[_keys.specific("gex")], mdata.obsm[_keys.specific("prot")]


def content(mdata):
    """Return everything that a tool could change, as a comparable value."""
    return (
        mdata.obs.to_csv(),
        repr(mdata.uns),
        sorted(mdata.obsm),
        mdata["gex"].obs.to_csv(),
        mdata["prot"].obs.to_csv(),
    )


def test_result_equals_the_metric(mdata):
    table = tl.modality_importance(mdata, "cell_type", n_neighbors=6, smoothing=0.2, seed=3, n_bootstrap=50)
    expected = metrics.modality_importance(
        *latents_of(mdata), mdata["gex"].obs["cell_type"], n_neighbors=6, smoothing=0.2, seed=3, n_bootstrap=50
    )
    np.testing.assert_array_equal(mdata.obs[_keys.THETA], expected.theta)
    pd.testing.assert_frame_equal(table, expected.table.assign(claim="not assessed"))
    pd.testing.assert_frame_equal(mdata.uns[_keys.IMPORTANCE], table)
    assert mdata.uns[PARAMS]["label_key"] == "cell_type"
    assert mdata.uns[PARAMS]["n_neighbors"] == 6


def test_other_representations_are_written_under_their_names(mdata):
    rng = np.random.default_rng(1)
    for name, n in (("gex", 3), ("prot", 2)):
        mdata.obsm[_keys.shared(name)] = rng.normal(size=(N_CELLS, 2))
        mdata[name].obsm["X_pca"] = rng.normal(size=(N_CELLS, n))
    both = [np.hstack([mdata.obsm[key(name)] for key in (_keys.shared, _keys.specific)]) for name in ("gex", "prot")]
    pairs = {
        "shared": [mdata.obsm[_keys.shared(name)] for name in ("gex", "prot")],
        "both": both,
        "raw": [mdata[name].obsm["X_pca"] for name in ("gex", "prot")],
        "specific": latents_of(mdata),
    }
    for latent, pair in pairs.items():
        table = tl.modality_importance(mdata, "cell_type", latent=latent)
        expected = metrics.modality_importance(*pair, mdata["gex"].obs["cell_type"])
        pd.testing.assert_frame_equal(table, expected.table.assign(claim="not assessed"))
        suffix = "" if latent == "specific" else f"_{latent}"
        np.testing.assert_array_equal(mdata.obs[f"indiseek_theta{suffix}"], expected.theta)
        assert mdata.uns[f"indiseek_importance{suffix}_params"]["latent"] == latent


def test_raw_needs_no_model(mdata):
    for name in ("gex", "prot"):
        mdata[name].obsm["pc"] = mdata.obsm[_keys.specific(name)]
    known = tl.modality_importance(mdata, "cell_type")
    mdata.uns.clear()
    roles = {"rna": "gex", "adt": "prot"}
    found = tl.modality_importance(
        mdata, "cell_type", latent="raw", rna_obsm_key="pc", adt_obsm_key="pc", modalities=roles
    )
    pd.testing.assert_frame_equal(found, known)


def test_returned_table_is_a_copy(mdata):
    table = tl.modality_importance(mdata, "cell_type")
    table["theta"] = 0.0
    assert (mdata.uns[_keys.IMPORTANCE]["theta"] != 0).any()


def test_nothing_else_is_changed(mdata):
    before = content(mdata)
    tl.modality_importance(mdata, "cell_type")
    del mdata.obs[_keys.THETA], mdata.uns[_keys.IMPORTANCE], mdata.uns[PARAMS]
    del mdata.uns[f"{_keys.IMPORTANCE}_made_of"]
    assert content(mdata) == before


def test_results_survive_h5mu(mdata, tmp_path):
    mdata["gex"].obs["cell_type"] = mdata["gex"].obs["cell_type"].cat.add_categories("alone")
    mdata["gex"].obs.loc["cell7", "cell_type"] = "alone"
    mdata["gex"].obs.loc["cell8", "cell_type"] = np.nan
    table = tl.modality_importance(mdata, "cell_type")
    mdata.write(tmp_path / "latents.h5mu")
    back = mudata.read(tmp_path / "latents.h5mu")
    pd.testing.assert_frame_equal(back.uns[_keys.IMPORTANCE], table)
    np.testing.assert_array_equal(back.obs[_keys.THETA], mdata.obs[_keys.THETA])
    assert back.uns[PARAMS] == mdata.uns[PARAMS]
    json.dumps(mdata.uns[PARAMS])
    assert tl.modality_importance(back, "cell_type").equals(table)


@pytest.mark.parametrize("label_key", ["cell_type", "gex:cell_type"])
def test_label_key_may_have_the_modality_as_prefix(mdata, label_key):
    table = tl.modality_importance(mdata, label_key)
    assert set(table["label"]) == {"B cell", "T cell", "NK"}


def test_modalities_may_be_given(mdata):
    table = tl.modality_importance(mdata, "cell_type")
    del mdata.uns[_keys.SETTINGS]
    given = tl.modality_importance(mdata, "cell_type", modalities={"rna": "gex", "adt": "prot"})
    pd.testing.assert_frame_equal(given, table)
    turned = tl.modality_importance(mdata, "cell_type", modalities={"rna": "prot", "adt": "gex"})
    assert turned.set_index("label").loc["B cell", "theta"] == pytest.approx(
        -table.set_index("label").loc["B cell", "theta"]
    )


def test_cells_without_representation_or_label_are_excluded(mdata):
    mdata.obsm[_keys.specific("gex")][:10] = np.nan
    mdata.obsm[_keys.specific("prot")][5:15] = np.nan
    mdata["gex"].obs.loc[mdata.obs_names[15:20], "cell_type"] = np.nan
    table = tl.modality_importance(mdata, "cell_type")
    theta = mdata.obs[_keys.THETA]
    assert theta[:20].isna().all() and theta[20:].notna().all()
    alone = mdata[20:].copy()
    pd.testing.assert_frame_equal(tl.modality_importance(alone, "cell_type"), table)
    np.testing.assert_array_equal(alone.obs[_keys.THETA], theta[20:])


@pytest.mark.parametrize("part", ["test", "validation"])
def test_held_out_cells_are_test_cells_or_else_validation_cells(mdata, part):
    if part == "validation":
        mdata.obs[_keys.SPLIT] = mdata.obs[_keys.SPLIT].cat.remove_categories("test").fillna("train")
    table = tl.modality_importance(mdata, "cell_type", cells="held_out")
    chosen = (mdata.obs[_keys.SPLIT] == part).to_numpy()
    np.testing.assert_array_equal(mdata.obs[_keys.THETA].notna(), chosen)
    assert table["n_cells"].sum() == chosen.sum()
    alone = mdata[chosen].copy()
    pd.testing.assert_frame_equal(tl.modality_importance(alone, "cell_type"), table)


def test_proteins_separate_t_cell_subsets_of_real_cells(pbmc_small):
    """Principal components of proteins, which defined the T cell subsets, separate them better."""
    import scanpy as sc

    rna = pbmc_small["rna"].copy()
    sc.pp.normalize_total(rna, target_sum=1e4)
    sc.pp.log1p(rna)
    sc.pp.pca(rna, n_comps=15)
    adt = pbmc_small["adt"].copy()
    sc.pp.normalize_total(adt)
    sc.pp.log1p(adt)
    sc.pp.pca(adt, n_comps=15)
    pbmc_small.obsm[_keys.specific("rna")] = rna.obsm["X_pca"]
    pbmc_small.obsm[_keys.specific("adt")] = adt.obsm["X_pca"]
    roles = {"rna": "rna", "adt": "adt"}
    table = tl.modality_importance(pbmc_small, "mergedcelltype", modalities=roles).set_index("label")
    assert table["n_cells"].sum() == pbmc_small.n_obs
    t_cells = table.loc[table.index.str.startswith(("CD4", "CD8")) & table["reliable"], "theta"]
    assert len(t_cells) >= 2 and (t_cells < 0).all()


TYPES = np.repeat(["a", "b", "c", "d", "few"], [40, 40, 40, 40, 5])
ROLES = {"rna": "gex", "adt": "prot"}


@pytest.fixture
def ranked():
    """Return cell types that RNA separates less and proteins separate more from one to the next."""
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(len(TYPES))]
    order = np.unique(TYPES, return_inverse=True)[1][:, None]
    parts = {}
    for name, spread in (("gex", 1 + order), ("prot", 5 - order)):
        parts[name] = AnnData(np.ones((len(TYPES), 2)), obs=pd.DataFrame(index=names))
        parts[name].var_names = [f"{name}{i}" for i in range(2)]
        parts[name].obsm["X_pca"] = 3.0 * order + spread * rng.normal(size=(len(TYPES), 2))
    ranked = MuData(parts)
    ranked.obs = pd.DataFrame({"cell_type": TYPES}, index=names)
    ranked.obs["RNA.weight"] = 0.9 - order[:, 0] / 5 + 0.01 * rng.random(len(TYPES))
    for name in ROLES.values():
        ranked.obsm[_keys.shared(name)] = parts[name].obsm["X_pca"]
        ranked.obsm[_keys.specific(name)] = rng.normal(size=(len(TYPES), 3))
    ranked.uns[_keys.SETTINGS] = {"modalities": ROLES}
    return ranked


class Report:
    table = pd.DataFrame({"leak_ratio": [0.01, 0.3]}, index=["gex", "prot"])


def test_rank_correlation_equals_the_metric(ranked):
    table = tl.rank_correlation(ranked, "cell_type", latents=("raw", "specific"), n_bootstrap=20, n_neighbors=7, seed=4)
    assert table["latent"].tolist() == ["raw", "raw", "specific", "specific"]
    for latent in ("raw", "specific"):
        tl.modality_importance(ranked, "cell_type", latent=latent, n_neighbors=7)
        theta = ranked.obs[_keys.with_latent_suffix(_keys.THETA, latent)]
        expected = metrics.rank_correlation(theta, ranked.obs["RNA.weight"], TYPES, n_bootstrap=20, seed=4).table
        found = table[table["latent"] == latent].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[list(expected)], expected)
    assert table["estimate"][0] > 0.7
    assert (table["left_out"] == "few").all()
    assert table["weights"].str.contains("RNA.weight.*Seurat").all()
    pd.testing.assert_frame_equal(ranked.uns[_keys.RANK_CORRELATION], table)
    by_label = ranked.uns[f"{_keys.RANK_CORRELATION}_labels"]
    assert by_label["latent"].value_counts().to_dict() == {"raw": 5, "specific": 5}
    for _, row in by_label.iterrows():
        of_label = ranked.obs["cell_type"] == row["label"]
        assert row["n_cells"] == of_label.sum()
        assert row["ranked"] == (row["label"] != "few")
        assert row["theta"] == pytest.approx(
            ranked.obs.loc[of_label, _keys.with_latent_suffix(_keys.THETA, row["latent"])].mean()
        )
        assert row["weight"] == pytest.approx(ranked.obs.loc[of_label, "RNA.weight"].mean())
        for figure in ("theta", "weight"):
            assert row[f"{figure}_lower"] <= row[figure] <= row[f"{figure}_upper"]


def test_rank_correlation_includes_the_leak_ratio_and_warns(ranked, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    table = tl.rank_correlation(ranked, "cell_type", audit=Report(), n_bootstrap=2).set_index("latent")
    assert table.loc["specific", "leak_ratio_rna"].tolist() == [0.01, 0.01]
    assert table.loc["specific", "leak_ratio_adt"].tolist() == [0.3, 0.3]
    assert table.loc[["shared", "both"], "leak_ratio_rna"].isna().all()
    assert "can reward leakage" in caplog.text


def test_cells_without_a_weight_are_excluded(ranked):
    ranked.obs["known"] = ranked.obs["RNA.weight"].where(np.arange(len(TYPES)) % 2 == 0)
    table = tl.rank_correlation(ranked, "cell_type", latents=["shared"], weight_key="known", n_bootstrap=2)
    tl.modality_importance(ranked, "cell_type", latent="shared")
    even = ranked.obs["known"].notna().to_numpy()
    theta = ranked.obs[_keys.with_latent_suffix(_keys.THETA, "shared")][even]
    expected = metrics.rank_correlation(theta, ranked.obs["known"][even], TYPES[even], n_bootstrap=2).table
    np.testing.assert_allclose(table["estimate"], expected["estimate"])
    assert table["weights"].str.contains("as given by weight_key").all()


def test_rank_correlation_survives_h5mu(ranked, tmp_path):
    table = tl.rank_correlation(ranked, "cell_type", n_bootstrap=2)
    ranked.write(tmp_path / "latents.h5mu")
    back = mudata.read(tmp_path / "latents.h5mu")
    pd.testing.assert_frame_equal(back.uns[_keys.RANK_CORRELATION], table)
    assert back.uns[f"{_keys.RANK_CORRELATION}_params"]["label_key"] == "cell_type"
