from __future__ import annotations

import json
import logging

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy.sparse import csr_matrix

from indiseek_sc import _keys, metrics, tl

N_CELLS = 60
COLUMNS = ["gex:wnn_weight", "prot:wnn_weight"]


@pytest.fixture
def mdata():
    """Return two modalities with unusual names, whose roles a model has recorded."""
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(N_CELLS)]
    gex = AnnData(rng.poisson(1.0, (N_CELLS, 4)).astype(np.float32), obs=pd.DataFrame(index=names))
    prot = AnnData(rng.poisson(1.0, (N_CELLS, 3)).astype(np.float32), obs=pd.DataFrame(index=names))
    gex.var_names, prot.var_names = [f"g{i}" for i in range(4)], [f"p{i}" for i in range(3)]
    group = rng.integers(3, size=(N_CELLS, 1))
    gex.obsm["X_pca"] = rng.normal(size=(N_CELLS, 5)) + 3.0 * group
    prot.obsm["X_pca"] = rng.normal(size=(N_CELLS, 3))
    mdata = MuData({"gex": gex, "prot": prot})
    mdata.obs = pd.DataFrame(index=names)
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "gex", "adt": "prot"}, "version": "0", "settings": {}}
    return mdata


@pytest.fixture
def log(caplog):
    """Capture the log of the package."""
    logger = logging.getLogger("scvi.indiseek_sc")
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.setLevel(level)
    logger.removeHandler(caplog.handler)


def content(mdata):
    """Return everything that a tool could change, as a comparable value."""
    parts = (mdata, mdata["gex"], mdata["prot"])
    return [
        (part.obs.to_csv(), repr(part.uns), {k: np.asarray(v).tobytes() for k, v in part.obsm.items()})
        for part in parts
    ]


def embeddings(mdata):
    return mdata["gex"].obsm["X_pca"], mdata["prot"].obsm["X_pca"]


def test_result_equals_the_metric(mdata, log):
    weights = tl.wnn_weights(mdata, rna_dimensions=4, n_neighbors=9, normalize=False)
    rna, adt = embeddings(mdata)
    expected = metrics.wnn_weights(rna[:, :4], adt, n_neighbors=9, normalize=False)
    np.testing.assert_array_equal(weights["gex"], expected)
    np.testing.assert_array_equal(weights["prot"], 1 - expected)
    assert list(mdata.obs.columns) == COLUMNS
    np.testing.assert_array_equal(mdata.obs[COLUMNS], weights)
    noted = mdata.uns[_keys.WNN]
    assert noted["source"] == "indiseek_sc.tl.wnn_weights"
    assert noted["embeddings"] == {"rna": "mdata['gex'].obsm['X_pca']", "adt": "mdata['prot'].obsm['X_pca']"}
    assert noted["n_dimensions"] == {"rna": 4, "adt": 3}
    assert (noted["n_neighbors"], noted["normalize"], noted["n_cells"]) == (9, False, N_CELLS)
    assert "60 cells by indiseek_sc.tl.wnn_weights from mdata['gex'].obsm['X_pca']" in log.text


def test_nothing_else_is_changed_and_the_result_is_a_copy(mdata):
    before = content(mdata)
    weights = tl.wnn_weights(mdata)
    kept = mdata.obs["gex:wnn_weight"].copy()
    weights["gex"] = 0.0
    pd.testing.assert_series_equal(mdata.obs["gex:wnn_weight"], kept)
    mdata.obs = mdata.obs.drop(columns=COLUMNS)
    del mdata.uns[_keys.WNN], mdata.uns[f"{_keys.WNN}_made_of"]
    assert content(mdata) == before


def test_survives_h5mu_and_update(mdata, tmp_path):
    weights = tl.wnn_weights(mdata)
    mdata.update()
    mdata.write(tmp_path / "weights.h5mu")
    back = mudata.read(tmp_path / "weights.h5mu")
    np.testing.assert_array_equal(back.obs[COLUMNS], weights)
    json.dumps(mdata.uns[_keys.WNN])
    assert back.uns[_keys.WNN]["modalities"] == {"rna": "gex", "adt": "prot"}
    found = tl.find_wnn_weights(back)
    np.testing.assert_array_equal(found.weights, weights["gex"])


def test_modalities_by_default_names_or_as_given(mdata):
    weights = tl.wnn_weights(mdata)["gex"]
    del mdata.uns[_keys.SETTINGS]
    given = tl.wnn_weights(mdata, modalities={"rna": "prot", "adt": "gex"})
    np.testing.assert_allclose(given["gex"], weights)
    plain = MuData({"adt": mdata["prot"], "rna": mdata["gex"]})
    np.testing.assert_array_equal(tl.wnn_weights(plain)["rna"], weights)


@pytest.mark.parametrize("convert", [np.asarray, pd.DataFrame, csr_matrix])
def test_embeddings_in_obsm_of_mdata_in_any_container(mdata, convert):
    expected = tl.wnn_weights(mdata)
    for name in mdata.mod:
        values = mdata[name].obsm.pop("X_pca")
        is_table = convert is pd.DataFrame
        mdata.obsm[f"of_{name}"] = pd.DataFrame(values, index=mdata.obs_names) if is_table else convert(values)
    if convert is pd.DataFrame:
        for key in ("of_gex", "of_prot"):
            mdata.obsm[key].columns = [f"d{i}" for i in range(mdata.obsm[key].shape[1])]
    weights = tl.wnn_weights(mdata, rna_obsm_key="of_gex", adt_obsm_key="of_prot")
    pd.testing.assert_frame_equal(weights, expected)
    assert mdata.uns[_keys.WNN]["embeddings"]["adt"] == "mdata.obsm['of_prot']"


def test_cells_without_a_modality_are_excluded(mdata):
    gex, prot = mdata["gex"][5:].copy(), mdata["prot"][::-1][:-10].copy()  # cells 5-59, and cells 59-10
    gex.obsm["X_pca"][-3:] = np.nan  # cells 57-59
    partial = MuData({"gex": gex, "prot": prot})
    partial.uns[_keys.SETTINGS] = mdata.uns[_keys.SETTINGS]
    weights = tl.wnn_weights(partial)["gex"].reindex(mdata.obs_names)
    assert weights[:10].isna().all() and weights[57:].isna().all()
    rna, adt = embeddings(mdata)
    np.testing.assert_allclose(weights[10:57], metrics.wnn_weights(rna[10:57], adt[10:57]))
    assert partial.uns[_keys.WNN]["n_cells"] == 47


@pytest.mark.parametrize(
    ("column", "where", "maker"),
    [
        ("RNA.weight", "whole", "Seurat"),
        ("RNA.weight", "gex", "Seurat"),
        ("SCT.weight", "prot", "Seurat"),
        ("gex:mod_weight", "whole", "muon"),
        ("mod_weight", "gex", "muon"),
        ("gex:wnn_weight", "whole", "indiseek_sc.tl.wnn_weights"),
    ],
)
def test_weights_of_other_tools_are_found_and_named(mdata, log, column, where, maker):
    values = np.linspace(0, 1, N_CELLS)
    (mdata if where == "whole" else mdata[where]).obs[column] = values
    if maker == "muon":
        mdata["prot"].obs["mod_weight"] = 1 - values  # must not be used for RNA
    before = content(mdata)
    weights, source = tl.find_wnn_weights(mdata)
    np.testing.assert_array_equal(weights, values)
    assert list(weights.index) == list(mdata.obs_names)
    assert column in source and maker in source
    assert source in log.text
    assert content(mdata) == before


def test_exact_weights_take_precedence(mdata, log):
    mdata.obs["gex:mod_weight"], mdata.obs["RNA.weight"] = 0.1, 0.2
    assert tl.find_wnn_weights(mdata).weights.eq(0.2).all()
    assert "'RNA.weight', named as by Seurat; not used: gex:mod_weight" in log.text
    tl.wnn_weights(mdata)
    assert tl.find_wnn_weights(mdata).weights.equals(mdata.obs["gex:wnn_weight"])


def test_column_can_be_given(mdata):
    del mdata.uns[_keys.SETTINGS]
    mdata["gex"].obs["mine"] = pd.Categorical(np.resize(["0.5", "1"], N_CELLS))
    weights, source = tl.find_wnn_weights(mdata, "gex:mine")
    np.testing.assert_array_equal(weights, np.resize([0.5, 1.0], N_CELLS))
    assert source == "obs column 'gex:mine', as given by key"


def test_missing_weights_stay_missing(mdata):
    mdata.obs["RNA.weight"] = np.where(np.arange(N_CELLS) < 7, np.nan, 0.3)
    assert tl.find_wnn_weights(mdata).weights.isna().sum() == 7


def test_permuted_proteins_receive_lower_weights(pbmc_small):
    import scanpy as sc

    for name, n_components in (("rna", 30), ("adt", 18)):
        sc.pp.normalize_total(pbmc_small[name], target_sum=1e4)
        sc.pp.log1p(pbmc_small[name])
        sc.pp.pca(pbmc_small[name], n_comps=n_components)
    weights = tl.wnn_weights(pbmc_small)
    assert 0.3 < weights["adt"].mean() < 0.7
    rng = np.random.default_rng(0)
    pbmc_small["adt"].obsm["X_pca"] = rng.permuted(pbmc_small["adt"].obsm["X_pca"], axis=0)
    mixed = tl.wnn_weights(pbmc_small)
    assert mixed["adt"].mean() < 0.45
    assert (mixed["adt"] < weights["adt"]).mean() > 0.8
