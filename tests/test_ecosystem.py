"""Other packages of the field work with models and representations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from lightning.pytorch.loggers import CSVLogger
from mudata import MuData

from indiseek_sc import IndiSeek, tl


@pytest.fixture(scope="module")
def fitted(_pbmc_covid_once: MuData) -> MuData:
    """600 cells with representations."""
    mdata = _pbmc_covid_once[::10].copy()
    IndiSeek.setup_mudata(mdata, batch_key="batch")
    model = IndiSeek(mdata)
    model.train(max_epochs=2, enable_progress_bar=False)
    model.write_latents()
    return mdata


def test_accessor_gives_frames_by_cell(fitted):
    frame = fitted.indiseek.specific("rna")
    assert frame.index.equals(fitted.obs_names)
    assert frame.columns[0] == "specific_rna_0"
    np.testing.assert_array_equal(frame, fitted.obsm["X_indiseek_specific_rna"])
    np.testing.assert_array_equal(fitted.indiseek.shared("adt"), fitted.obsm["X_indiseek_shared_adt"])
    np.testing.assert_array_equal(fitted.indiseek.joint, fitted.obsm["X_indiseek"])
    with pytest.raises(ValueError, match="modality='protein' is not known"):
        fitted.indiseek.shared("protein")


def test_accessor_of_data_without_representations(pbmc_small):
    with pytest.raises(KeyError, match=r"Call model.write_latents\(mdata\) first"):
        pbmc_small.indiseek.shared("rna")


def test_anndata_for_tools_that_read_no_mudata(fitted):
    cells = fitted.indiseek.to_anndata()
    assert set(cells.obsm) == {key for key in fitted.obsm if key.startswith("X_indiseek")}
    pd.testing.assert_series_equal(cells.obs["cell_type"], fitted.obs["cell_type"])
    sc.pp.neighbors(cells, use_rep="X")
    assert cells.obsp["connectivities"].shape == (600, 600)


def _train_with(logger, mdata: MuData) -> None:
    IndiSeek.setup_mudata(mdata)
    IndiSeek(mdata).train(max_epochs=1, logger=logger, log_every_n_steps=1, enable_progress_bar=False)


def test_csv_logger_records_losses(pbmc_small, tmp_path):
    _train_with(CSVLogger(tmp_path, name="run"), pbmc_small)
    recorded = pd.concat(pd.read_csv(file) for file in Path(tmp_path).rglob("metrics.csv"))
    assert any("loss" in column for column in recorded.columns)


def test_tensorboard_logger_writes_events(pbmc_small, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from lightning.pytorch.loggers import TensorBoardLogger

    _train_with(TensorBoardLogger(tmp_path, name="run"), pbmc_small)
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_mlflow_logger_records_losses(pbmc_small, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    from lightning.pytorch.loggers import MLFlowLogger

    uri = f"sqlite:///{tmp_path}/runs.db"
    _train_with(MLFlowLogger("run", tracking_uri=uri, artifact_location=str(tmp_path)), pbmc_small)
    runs = mlflow.MlflowClient(uri).search_runs([mlflow.MlflowClient(uri).get_experiment_by_name("run").experiment_id])
    assert any("loss" in name for run in runs for name in run.data.metrics)


def test_values_normalised_by_muon_are_features(pbmc_small, caplog):
    muon = pytest.importorskip("muon", reason="muon (extra 'test') is not installed")
    pbmc_small["rna"].obs["n_genes"] = pbmc_small["rna"].X.getnnz(axis=1)
    muon.pp.filter_obs(pbmc_small["rna"], "n_genes", lambda n_genes: n_genes > np.quantile(n_genes, 0.05))
    muon.pp.intersect_obs(pbmc_small)
    sc.pp.normalize_total(pbmc_small["rna"])
    sc.pp.log1p(pbmc_small["rna"])
    muon.prot.pp.clr(pbmc_small["adt"])
    with caplog.at_level("INFO", logger="scvi"):
        IndiSeek.setup_mudata(pbmc_small)
        model = IndiSeek(pbmc_small)
    assert caplog.text.count("normalised values in") == 2
    model.train(max_epochs=1, enable_progress_bar=False)
    assert len(model.get_latent_representation()) == pbmc_small.n_obs < 600


@pytest.mark.slow  # compiles for minutes
def test_weights_of_muon_are_compared_with_theta(fitted):
    muon = pytest.importorskip("muon", reason="muon (extra 'test') is not installed")
    mdata = fitted.copy()
    for name in ("rna", "adt"):
        sc.pp.pca(mdata[name], n_comps=5)
        sc.pp.neighbors(mdata[name])
    muon.pp.neighbors(mdata, key_added="wnn")
    weights, source = tl.find_wnn_weights(mdata)
    assert "muon" in source
    np.testing.assert_array_equal(weights, mdata.obs["rna:mod_weight"])
    table = tl.rank_correlation(mdata, "cell_type", n_bootstrap=10)
    assert table["weights"].str.contains("muon").all()


@pytest.mark.slow  # compiles for a minute
def test_scib_metrics_benchmarker_reads_representations(fitted):
    benchmark = pytest.importorskip("scib_metrics.benchmark", reason="scib-metrics is not installed")
    cells = fitted.indiseek.to_anndata()
    sc.pp.pca(cells, n_comps=10)
    keys = ["X_indiseek", "X_indiseek_shared_rna"]
    scores = benchmark.Benchmarker(cells, batch_key="batch", label_key="cell_type", embedding_obsm_keys=keys)
    scores.benchmark()
    results = scores.get_results(min_max_scale=False)
    assert set(keys) <= set(results.index)
    assert results.loc[keys, "Total"].between(0, 1).all()


@pytest.mark.slow  # starts Ray
def test_scvi_autotune_searches_settings(pbmc_small, tmp_path):
    pytest.importorskip("ray.tune", reason="Ray Tune (extra 'tune') is not installed")
    pytest.importorskip("hyperopt", reason="hyperopt, which scvi.autotune uses, is not installed")
    from ray import tune
    from scvi import autotune

    IndiSeek.setup_mudata(pbmc_small)
    found = autotune.run_autotune(
        IndiSeek,
        pbmc_small,
        metrics="shared/validation_loss",
        mode="min",
        search_space={"model_params": {"n_shared": tune.choice([3, 4])}, "train_params": {"max_epochs": 1}},
        num_samples=2,
        resources={"cpu": 1},
        seed=0,
        scheduler="fifo",
        logging_dir=str(tmp_path),
    )
    assert len(found.result_grid) == 2
    assert not found.result_grid.errors
