"""A saved model on other cells: `encode` and `predict`, and the forms of files that commands read and write."""

from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from mudata import MuData

from indiseek_sc import IndiSeek
from indiseek_sc.io import join_modalities

from .conftest import run
from .test_app import error_of

CODES = ["X_indiseek", *(f"X_indiseek_{kind}_{name}" for kind in ("shared", "specific") for name in ("rna", "prot"))]


def test_the_cells_of_a_fit_have_its_codes_again(user_file, saved, tmp_path):
    result = run("encode", saved / "model", user_file, tmp_path / "out.zarr")
    assert result.exit_code == 0, result.output
    before, after = mudata.read_h5mu(saved / "coded.h5mu"), mudata.read_zarr(tmp_path / "out.zarr")
    for key in CODES:
        np.testing.assert_array_equal(after.obsm[key], before.obsm[key])
    assert list(after.mod) == ["rna", "prot", "atac"]
    assert (after.obs["indiseek_split"] == before.obs["indiseek_split"]).all()
    assert [file.name for file in tmp_path.iterdir()] == ["out.zarr"]


@pytest.fixture
def query(user_file) -> MuData:
    """Cells with genes in another order, without what the model leaves out, and another name of the proteins."""
    mdata = mudata.read_h5mu(user_file)
    prot = mdata["prot"][:50, ~mdata["prot"].var_names.str.contains("iso")].copy()
    made = MuData({"rna": mdata["rna"][:50, ::-1].copy(), "Protein": prot})
    made.obs["donor"] = mdata.obs["donor"].iloc[:50]
    return made


def test_features_are_found_by_name(query, saved, tmp_path):
    query.write_h5mu(tmp_path / "in.h5mu")
    result = run("encode", saved / "model", tmp_path / "in.h5mu", tmp_path / "out.h5ad")
    assert result.exit_code == 0, result.output
    assert "Modality 'Protein' of the file is called 'prot'" in result.output
    assert "rna: 1,000 genes of the model are found by name among 1,000." in result.output
    adata, before = ad.read_h5ad(tmp_path / "out.h5ad"), mudata.read_h5mu(saved / "coded.h5mu")
    np.testing.assert_allclose(adata.obsm["X_indiseek"], before.obsm["X_indiseek"][:50], atol=1e-4)
    assert list(adata.var_names) == list(query["rna"].var_names)
    assert adata.obsm["protein_expression"].shape == (50, 188)


def test_cells_of_a_new_batch_are_encoded_where_they_are_expected(query, saved, tmp_path):
    query.obs["donor"] = "another"
    query.write_h5mu(tmp_path / "in.h5mu")
    refused = error_of(run("encode", saved / "model", tmp_path / "in.h5mu", tmp_path / "out.h5mu"))
    assert "--batch-key: 50 cells" in refused and "encode with --new-batches" in refused
    result = run("encode", saved / "model", tmp_path / "in.h5mu", tmp_path / "out.h5mu", "--new-batches")
    assert result.exit_code == 0, result.output
    assert np.isfinite(mudata.read_h5mu(tmp_path / "out.h5mu").obsm["X_indiseek"]).all()


def test_an_anndata_is_encoded_too(query, saved, tmp_path):
    query["rna"].obs["donor"] = query.obs["donor"]
    adata = join_modalities(MuData({"rna": query["rna"], "adt": query["Protein"]}), "rna", "adt")
    adata.write_h5ad(tmp_path / "in.h5ad")
    result = run("encode", saved / "model", tmp_path / "in.h5ad", tmp_path / "out.h5mu")
    assert result.exit_code == 0, result.output
    after, before = mudata.read_h5mu(tmp_path / "out.h5mu"), mudata.read_h5mu(saved / "coded.h5mu")
    np.testing.assert_allclose(after.obsm["X_indiseek"], before.obsm["X_indiseek"][:50], atol=1e-4)


@pytest.mark.parametrize("ending", [".h5ad", ".h5mu"])
def test_proteins_are_predicted_from_cells_that_have_none(ending, user_file, saved, tmp_path):
    rna = mudata.read_h5mu(user_file)["rna"][:50].copy()
    rna.obs["donor"] = mudata.read_h5mu(user_file).obs["donor"].iloc[:50].to_numpy()
    rna.write_h5ad(tmp_path / "rna.h5ad")
    result = run("predict", saved / "model", tmp_path / "rna.h5ad", tmp_path / f"out{ending}")
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


def test_rna_is_predicted_from_proteins(user_file, saved, tmp_path):
    result = run("predict", saved / "model", user_file, tmp_path / "out.h5ad", "--from", "adt")
    assert result.exit_code == 0, result.output
    predicted = ad.read_h5ad(tmp_path / "out.h5ad")
    assert predicted.uns["indiseek_prediction"]["target"] == "rna"
    assert predicted.n_obs == 300


def test_what_does_not_fit_is_told_and_nothing_is_left(user_file, saved, tmp_path, query):
    out = tmp_path / "out.h5mu"
    assert "not the folder of a saved model" in error_of(run("encode", user_file, user_file, out))
    assert "must end in" in error_of(run("encode", saved / "model", user_file, tmp_path / "out.csv"))
    cells = tmp_path / "in.h5mu"
    few = MuData({"rna": query["rna"][:, :10].copy(), "prot": query["Protein"]})
    few.obs["donor"] = query.obs["donor"]
    few.write_h5mu(cells)
    assert "990 are missing" in error_of(run("encode", saved / "model", cells, out))
    MuData({"rna": query["rna"]}).write_h5mu(cells)
    assert "no modality of proteins among 'rna'" in error_of(run("encode", saved / "model", cells, out))
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5mu"]


def test_a_model_that_has_not_learnt_to_predict_says_how_it_would(user_file, tmp_path, pbmc_small, monkeypatch):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    model.train(1, enable_progress_bar=False)
    model.save(tmp_path / "model")
    pbmc_small.write_h5mu(tmp_path / "cells.h5mu")
    error = error_of(run("predict", tmp_path / "model", tmp_path / "cells.h5mu", tmp_path / "out.h5ad"))
    assert "run fit again, with --predict and --save-model" in error


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


def test_a_wrong_ending_is_told_before_anything_runs(user_file, tmp_path):
    error = error_of(run("fit", user_file, tmp_path / "out.loom"))
    assert error.endswith("For instance: " + str(tmp_path / "out.h5mu"))
    assert list(tmp_path.iterdir()) == []
