"""Prediction of one modality from the other, on real and on simulated cells."""

from __future__ import annotations

import re
from dataclasses import replace

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.model._cells import get_design

QUIET = {"enable_progress_bar": False}
FEW = {"shared": 3}
HELD_OUT = np.arange(0, 600, 5)


def fit(mdata, *, setup=None, **kwargs):
    IndiSeek.setup_mudata(mdata, **(setup or {}))
    model = IndiSeek(mdata, n_components=12, n_top_genes=200, **kwargs)
    model.train(FEW, held_out=HELD_OUT, stages=("shared",), **QUIET)
    return model


def only(mdata, modality, rows=slice(None), *, with_batch=True):
    """Return new data with one modality, whose obs contains the batches."""
    cells = mdata[modality][rows].copy()
    if with_batch:
        cells.obs["batch"] = mdata.obs["batch"].reindex(cells.obs_names)
    return mudata.MuData({modality: cells})


def assert_equal_predictions(first, second):
    pd.testing.assert_frame_equal(first.mean, second.mean, check_exact=True)
    pd.testing.assert_frame_equal(first.std, second.std, check_exact=True)
    pd.testing.assert_frame_equal(first.half_widths, second.half_widths, check_exact=True)


@pytest.fixture(scope="module")
def fitted(_pbmc_covid_once):
    mdata = _pbmc_covid_once[::10].copy()
    model = fit(mdata, setup={"batch_key": "batch"})
    model.train_prediction(3, **QUIET)
    return model, mdata


def test_predictions_are_indexed_by_cells_and_features(fitted):
    model, mdata = fitted
    rows = [9, 3, 7]
    proteins = model.predict_modality("rna", "adt", indices=rows)
    assert list(proteins.mean.index) == list(mdata.obs_names[rows])
    assert list(proteins.mean.columns) == list(model.get_var_names()["adt"])
    components = model.predict_modality("adt", "rna", indices=rows)
    assert list(components.mean.columns) == [f"component_{k}" for k in range(1, 13)]
    genes = model.predict_modality("adt", "rna", indices=rows, units="normalized")
    assert list(genes.mean.columns) == list(mdata["rna"].var_names[model.module.transforms["rna"].features.numpy()])
    for found in (proteins, components, genes):
        assert found.std.shape == found.mean.shape
        assert (found.std.to_numpy() > 0).all()
        lower, upper = found.interval(0.9)
        assert ((lower < found.mean) & (found.mean < upper)).all(axis=None)
        narrower = found.interval(0.5)
        assert (narrower[0] > lower).all(axis=None)
    assert "'adt' from 'rna': 3 cells" in repr(proteins)


def test_masks_and_unsorted_rows_select_cells(fitted):
    model, mdata = fitted
    every = model.predict_modality("rna", "adt")
    mask = np.zeros(mdata.n_obs, dtype=bool)
    mask[[3, 9]] = True
    np.testing.assert_allclose(
        model.predict_modality("rna", "adt", indices=mask).mean, every.mean.iloc[[3, 9]], atol=1e-5
    )
    np.testing.assert_allclose(
        model.predict_modality("rna", "adt", indices=[9, 3]).mean, every.mean.iloc[[9, 3]], atol=1e-5
    )


def test_normalized_units_are_rescaled_features(fitted):
    model, mdata = fitted
    rows, transform = [0, 5], model.module.transforms["adt"]
    features, ratios = (model.predict_modality("rna", "adt", indices=rows, units=u) for u in ("features", "normalized"))
    # Batch effects are subtracted from features, but not from measured log-ratios.
    design, mean = get_design(model, mdata, rows), torch.from_numpy(features.mean.to_numpy())
    with_offsets = model.module.covariate_offsets["adt"].add(mean, design)
    assert (with_offsets - mean).abs().max() > 0.1
    back = transform.unstandardize(with_offsets).numpy()
    np.testing.assert_allclose(ratios.mean, back, rtol=1e-5, atol=1e-5)
    # Offsets depend on the cell state, which differs between predicted and measured values.
    np.testing.assert_allclose(ratios.std, features.std * transform.spread.numpy(), rtol=0.05)


def test_the_source_modality_alone_suffices(fitted):
    model, mdata = fitted
    rows = np.array([20, 4, 8])
    expected = model.predict_modality("rna", "adt", indices=rows)
    new = only(mdata, "rna", rows)
    found = model.predict_modality("rna", "adt", new)
    assert "_scvi_uuid" not in new.uns
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
    assert list(found.mean.index) == list(expected.mean.index)


def test_cells_of_a_mosaic_that_lack_the_target_are_predicted(fitted):
    model, mdata = fitted
    mosaic = mudata.MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][:400].copy()})
    mosaic.obs["batch"] = mdata.obs["batch"].reindex(mosaic.obs_names)
    found = model.predict_modality("rna", "adt", mosaic)
    np.testing.assert_allclose(found.mean, model.predict_modality("rna", "adt").mean.loc[found.mean.index], atol=1e-5)
    assert len(found.mean) == 600
    report = model.audit_prediction("rna", "adt", mosaic, indices=np.arange(100))
    assert report.measured.shape == (100, len(model.get_var_names()["adt"]))
    with pytest.raises(ValueError, match="200 cells of 'rna' lack 'adt'"):
        model.audit_prediction("rna", "adt", mosaic)


def test_the_audit_compares_held_out_cells_with_measured_values(fitted):
    model, mdata = fitted
    report = model.audit_prediction("rna", "adt")
    assert list(report.measured.index) == list(mdata.obs_names[HELD_OUT])
    np.testing.assert_allclose(report.measured, model.get_features(modality="adt", indices=HELD_OUT), atol=1e-5)
    ratios = model.audit_prediction("rna", "adt", units="normalized")
    features = model.module.transforms["adt"].standardize(torch.from_numpy(ratios.measured.to_numpy()))
    without = model.module.covariate_offsets["adt"](features, get_design(model, mdata, HELD_OUT))
    np.testing.assert_allclose(report.measured, without, rtol=1e-4, atol=1e-4)
    assert model.audit_prediction("adt", "rna", units="normalized").measured.shape == (120, 200)


def test_prediction_is_trained_at_the_first_call_without_changing_representations(pbmc_small):
    model = fit(pbmc_small)
    before = {name: x.clone() for name, x in model.module.state_dict().items() if "modality_predictors" not in name}
    optimisation = replace(model.settings.optimisation, max_epochs_prediction=2)
    model.settings = model.settings._replace(optimisation=optimisation)
    random = torch.get_rng_state()
    first = model.predict_modality("rna", "adt", indices=[0, 1])
    assert torch.equal(torch.get_rng_state(), random)
    after = model.module.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert model.stages_ == ["shared", "prediction"]
    assert "prediction/rna_validation_loss" in model.history_
    model.train_prediction(**QUIET)
    assert_equal_predictions(first, model.predict_modality("rna", "adt", indices=[0, 1]))
    model.train(FEW, held_out=HELD_OUT, stages=("shared",), **QUIET)
    assert model.stages_ == ["shared"]


def test_held_out_cells_have_no_influence(pbmc_small):
    changed = pbmc_small.copy()
    for modality in ("rna", "adt"):
        values = changed[modality].X.tolil() if hasattr(changed[modality].X, "tolil") else changed[modality].X
        values[HELD_OUT] = 7
        changed[modality].X = values.tocsr() if hasattr(values, "tocsr") else values
    states = []
    for mdata in (pbmc_small, changed):
        model = fit(mdata)
        model.train_prediction(2, **QUIET)
        states.append(model.module.modality_predictors.state_dict())
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def test_a_loaded_model_predicts_bitwise_the_same(fitted, tmp_path):
    model, mdata = fitted
    model.save(tmp_path / "model")
    loaded = IndiSeek.load(tmp_path / "model", adata=mdata)
    expected = model.predict_modality("adt", "rna", units="normalized")
    assert_equal_predictions(loaded.predict_modality("adt", "rna", units="normalized"), expected)
    alone = IndiSeek.load(tmp_path / "model", adata=False)
    assert_equal_predictions(alone.predict_modality("adt", "rna", mdata, units="normalized"), expected)
    with pytest.raises(ValueError, match="loaded without data"):
        alone.predict_modality("adt", "rna")


def test_training_the_prediction_requires_the_training_cells(pbmc_small, tmp_path):
    fit(pbmc_small).save(tmp_path / "model")
    alone = IndiSeek.load(tmp_path / "model", adata=False)
    with pytest.raises(RuntimeError, match=re.escape("call train_prediction() and save it again")):
        alone.predict_modality("rna", "adt", pbmc_small)
    other = IndiSeek.load(tmp_path / "model", adata=pbmc_small[:300].copy())
    lacking = (
        r"train_prediction needs the cells that the model was trained with, but the data lack \d+ of 360 train cells"
    )
    with pytest.raises(RuntimeError, match=lacking):
        other.train_prediction()


def test_invalid_features_values_and_batches_are_rejected(fitted):
    model, mdata = fitted

    def predict(change):
        new = only(mdata, "rna", slice(20))
        if change == "batch":
            new["rna"].obs["batch"] = "none"
        if change == "features":
            new = mudata.MuData({"rna": new["rna"][:, 700:].copy()})
        if change == "values":
            values = new["rna"].X.toarray()
            values[3, 5] = np.nan
            new["rna"].X = values
        model.predict_modality("rna", "adt", new)

    with pytest.raises(ValueError, match="20 cells .* of batches unknown to the model: 'none'"):
        predict("batch")
    with pytest.raises(ValueError, match="of the 200 genes that the model uses 157 are missing"):
        predict("features")
    with pytest.raises(ValueError, match=f"1 values that are not finite: nan in cell {mdata.obs_names[3]!r}"):
        predict("values")


def draw_linear(n_cells: int = 1500) -> tuple[mudata.MuData, np.ndarray]:
    """Draw RNA and proteins from three common factors, and return the noise of the proteins."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n_cells, 3))
    noise = np.linspace(0.5, 2.0, 6)
    rna = 3 * factors @ rng.normal(size=(3, 20)) + 0.1 * rng.normal(size=(n_cells, 20))
    adt = factors @ rng.normal(size=(3, 6)) + noise * rng.normal(size=(n_cells, 6))
    mods = {}
    for name, values in (("gex", rna), ("prot", adt)):
        names = pd.Index([f"{name}_{j}" for j in range(values.shape[1])])
        cells = pd.DataFrame(index=[f"cell_{i}" for i in range(n_cells)])
        mods[name] = anndata.AnnData(values.astype(np.float32), obs=cells, var=pd.DataFrame(index=names))
    return mudata.MuData(mods), noise


@pytest.mark.slow
def test_standard_deviations_and_coverage_on_linear_gaussian_cells():
    mdata, noise = draw_linear()
    IndiSeek.setup_mudata(mdata, modalities={"rna_layer": "gex", "adt_layer": "prot"})
    model = IndiSeek(mdata)
    model.train(FEW, held_out=np.arange(0, 1500, 3), stages=("shared",), **QUIET)
    model.train_prediction(20, **QUIET)
    report = model.audit_prediction("gex", "prot", units="normalized")
    found = model.predict_modality("gex", "prot", indices=model.split.test, units="normalized")
    # The noise is the error of the best predictor; that of a network of 900 cells is little larger.
    np.testing.assert_allclose(report.table["rmse"], noise, rtol=0.15)
    np.testing.assert_allclose(found.std.mean(axis=0), noise, rtol=0.15)
    n_validation, n_test = model.split.validation.size, model.split.test.size
    chance = np.sqrt(0.9 * 0.1 * (1 / n_validation + 1 / n_test))
    assert (abs(report.table["coverage"] - 0.9) < 4 * chance).all()
    assert abs(report.coverage - 0.9) < 4 * chance / np.sqrt(6)
