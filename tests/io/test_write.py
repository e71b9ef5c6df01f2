from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from mudata import MuData

import indiseek_sc as isk
from indiseek_sc.io import write

CELLS = [f"cell{i}" for i in range(20)]


def make_encoded(proteins: tuple[str, ...] = ("CD4", "CD19", "HLA-A,B,C")) -> MuData:
    generator = np.random.default_rng(0)
    obs = pd.DataFrame({"donor": ["a", "b"] * 10}, index=CELLS)
    rna = ad.AnnData(sp.csr_matrix(generator.poisson(1.0, (20, 6)).astype(np.float32)), obs.copy())
    rna.var_names = [f"g{i}" for i in range(6)]
    rna.layers["logs"] = rna.X.log1p()
    rna.obsm["X_umap"] = np.zeros((20, 2))
    prot = ad.AnnData(np.log1p(generator.poisson(5.0, (20, 3))).astype(np.float32), pd.DataFrame(index=CELLS))
    prot.var_names = list(proteins)
    prot.layers["counts"] = sp.csr_matrix(generator.poisson(5.0, (20, 3)).astype(np.float32))
    prot.obs["panel"], prot.obs["donor"] = "one", ["c", "d"] * 10
    mdata = MuData({"rna": rna, "prot": prot})
    mdata.obs["leiden"] = pd.Categorical(["0", "1"] * 10)
    mdata.obsm["X_indiseek"] = generator.normal(size=(20, 4)).astype(np.float32)
    mdata.obsm["X_indiseek_shared_prot"] = mdata.obsm["X_indiseek"][:, :2]
    mdata.obsm["X_umap"] = np.ones((20, 2))
    sc.pp.neighbors(mdata, use_rep="X_indiseek", n_neighbors=5)
    mdata.uns["indiseek_importance"] = pd.DataFrame({"label": ["0"], "theta": [0.5]})
    return mdata


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("proteins", [("CD4", "CD19", "HLA-A,B,C"), ("CD4", "TCR a/b", "CD8")])
def test_an_anndata_contains_all_results(proteins, layer, tmp_path):
    mdata = make_encoded(proteins)
    write(mdata, tmp_path / "encoded.h5ad", rna="rna", adt="prot", adt_layer=layer)
    adata = ad.read_h5ad(tmp_path / "encoded.h5ad")
    np.testing.assert_array_equal(adata.X.toarray(), mdata["rna"].X.toarray())
    assert set(adata.layers) - {None} == {"logs"}  # anndata 0.13 lists X as the layer None
    assert list(adata.obs["donor"]) == ["a", "b"] * 10
    assert {"leiden", "prot:panel"} <= set(adata.obs)
    assert list(adata.obs["prot:donor"]) == ["c", "d"] * 10
    np.testing.assert_array_equal(adata.obsm["X_indiseek"], mdata.obsm["X_indiseek"])
    assert (adata.obsm["X_umap"] == 1).all()
    assert (adata.obsm["X_umap_before_indiseek"] == 0).all()
    assert adata.uns["indiseek_importance"]["theta"].iloc[0] == 0.5
    sc.tl.leiden(adata, flavor="igraph")  # on the graph in the file
    again = isk.read(tmp_path / "encoded.h5ad")
    assert list(again["adt"].var_names) == list(proteins)
    values = mdata["prot"].X if layer is None else mdata["prot"].layers[layer].toarray()
    found = again["adt"].X
    np.testing.assert_array_equal(found.toarray() if sp.issparse(found) else found, values)


@pytest.mark.parametrize("ending", [".h5mu", ".zarr"])
def test_a_mudata_is_written_unchanged(ending, tmp_path):
    make_encoded().write_h5mu(tmp_path / "before.h5mu")
    mdata = isk.read(tmp_path / "before.h5mu")
    write(mdata, tmp_path / f"encoded{ending}", rna="rna", adt="prot")
    again = isk.read(tmp_path / f"encoded{ending}")
    assert list(again.mod) == ["rna", "prot"]
    np.testing.assert_array_equal(again.obsm["X_indiseek"], mdata.obsm["X_indiseek"])


def test_omitted_modalities_are_reported(tmp_path):
    encoded = make_encoded()
    mdata = MuData({**encoded.mod, "atac": ad.AnnData(np.ones((20, 2)), pd.DataFrame(index=CELLS))})
    with pytest.warns(UserWarning, match="cannot contain the modalities 'atac'"):
        write(mdata, tmp_path / "encoded.h5ad", rna="rna", adt="prot")
