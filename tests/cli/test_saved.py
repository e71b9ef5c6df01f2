"""The commands ``encode`` and ``predict``, and file formats of commands."""

from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from mudata import MuData

from indiseek_sc.io import join_modalities

from .conftest import run

LATENTS = ["X_indiseek", *(f"X_indiseek_{kind}_{name}" for kind in ("shared", "specific") for name in ("rna", "prot"))]


def test_encoding_reproduces_the_representations_of_fit(user_file, fitted, tmp_path):
    result = run("encode", fitted / "model", user_file, tmp_path / "out.zarr")
    assert result.exit_code == 0, result.output
    before, after = mudata.read_h5mu(fitted / "encoded.h5mu"), mudata.read_zarr(tmp_path / "out.zarr")
    for key in LATENTS:
        np.testing.assert_array_equal(after.obsm[key], before.obsm[key])
    assert list(after.mod) == ["rna", "prot", "atac"]
    assert (after.obs["indiseek_split"] == before.obs["indiseek_split"]).all()
    assert [file.name for file in tmp_path.iterdir()] == ["out.zarr"]


@pytest.fixture
def query(user_file) -> MuData:
    """Return cells with genes in another order and proteins under another name.

    Proteins that the model does not use are missing.
    """
    mdata = mudata.read_h5mu(user_file)
    prot = mdata["prot"][:50, ~mdata["prot"].var_names.str.contains("iso")].copy()
    made = MuData({"rna": mdata["rna"][:50, ::-1].copy(), "Protein": prot})
    made.obs["donor"] = mdata.obs["donor"].iloc[:50]
    return made


def test_features_are_found_by_name(query, fitted, tmp_path):
    query.write_h5mu(tmp_path / "in.h5mu")
    result = run("encode", fitted / "model", tmp_path / "in.h5mu", tmp_path / "out.h5ad")
    assert result.exit_code == 0, result.output
    assert "Modality 'Protein' of the file is renamed to 'prot'" in result.output
    assert "rna: 1,000 genes of the model are found by name among 1,000." in result.output
    adata, before = ad.read_h5ad(tmp_path / "out.h5ad"), mudata.read_h5mu(fitted / "encoded.h5mu")
    np.testing.assert_allclose(adata.obsm["X_indiseek"], before.obsm["X_indiseek"][:50], atol=1e-4)
    assert list(adata.var_names) == list(query["rna"].var_names)
    assert adata.obsm["protein_expression"].shape == (50, 188)


def test_new_batches_are_encoded_on_request(query, fitted, tmp_path):
    query.obs["donor"] = "another"
    query.write_h5mu(tmp_path / "in.h5mu")
    result = run("encode", fitted / "model", tmp_path / "in.h5mu", tmp_path / "out.h5mu", "--new-batches")
    assert result.exit_code == 0, result.output
    assert np.isfinite(mudata.read_h5mu(tmp_path / "out.h5mu").obsm["X_indiseek"]).all()


def test_an_anndata_is_encoded(query, fitted, tmp_path):
    query["rna"].obs["donor"] = query.obs["donor"]
    adata = join_modalities(MuData({"rna": query["rna"], "adt": query["Protein"]}), "rna", "adt")
    adata.write_h5ad(tmp_path / "in.h5ad")
    result = run("encode", fitted / "model", tmp_path / "in.h5ad", tmp_path / "out.h5mu")
    assert result.exit_code == 0, result.output
    after, before = mudata.read_h5mu(tmp_path / "out.h5mu"), mudata.read_h5mu(fitted / "encoded.h5mu")
    np.testing.assert_allclose(after.obsm["X_indiseek"], before.obsm["X_indiseek"][:50], atol=1e-4)


@pytest.mark.parametrize("ending", [".h5ad", ".h5mu"])
def test_proteins_are_predicted_for_cells_without_proteins(ending, user_file, fitted, tmp_path):
    rna = mudata.read_h5mu(user_file)["rna"][:50].copy()
    rna.obs["donor"] = mudata.read_h5mu(user_file).obs["donor"].iloc[:50].to_numpy()
    rna.write_h5ad(tmp_path / "rna.h5ad")
    result = run("predict", fitted / "model", tmp_path / "rna.h5ad", tmp_path / f"out{ending}")
    assert result.exit_code == 0, result.output
    if ending == ".h5ad":
        predicted = ad.read_h5ad(tmp_path / "out.h5ad")
        assert list(predicted.obs["cell_type"]) == list(rna.obs["cell_type"])
    else:
        whole = mudata.read_h5mu(tmp_path / "out.h5mu")
        assert list(whole.mod) == ["rna", "prot_predicted"]
        predicted = whole["prot_predicted"]
    assert predicted.shape == (50, 188)
    assert (predicted.layers["lower"] < predicted.X).all()
    assert (predicted.layers["upper"] > predicted.X).all()


def test_rna_is_predicted_from_proteins(user_file, fitted, tmp_path):
    result = run("predict", fitted / "model", user_file, tmp_path / "out.h5ad", "--from", "adt")
    assert result.exit_code == 0, result.output
    predicted = ad.read_h5ad(tmp_path / "out.h5ad")
    assert predicted.uns["indiseek_prediction"]["target"] == "rna"
    assert predicted.n_obs == 300


@pytest.mark.usefixtures("maps_here")
def test_fit_reads_an_anndata_and_writes_one(pbmc_small, tmp_path):
    proteins = pbmc_small["adt"][::2].copy()
    proteins.var["feature_types"], pbmc_small["rna"].var["feature_types"] = "Antibody Capture", "Gene Expression"
    rna = pbmc_small["rna"][::2]
    both = ad.concat({"rna": rna, "adt": proteins}, axis=1, merge="first")
    both.X = sp.csr_matrix(both.X)
    both.write_h5ad(tmp_path / "in.h5ad")
    result = run(
        *("fit", tmp_path / "in.h5ad", tmp_path / "out.h5ad", "--max-epochs", "1", "--accelerator", "cpu"),
        *("--exclude", "CD3", "--exclude", "CD19", "--rna-input", "counts"),
    )
    assert result.exit_code == 0, result.output
    assert "left out of the representations: 2 named ('CD3', 'CD19')" in result.output
    adata = ad.read_h5ad(tmp_path / "out.h5ad")
    assert adata.X.shape == (300, 1000)
    assert adata.obsm["protein_expression"].shape == (300, 192)
    assert {"X_indiseek", "X_indiseek_shared_rna", "X_indiseek_specific_adt", "X_umap"} <= set(adata.obsm)
