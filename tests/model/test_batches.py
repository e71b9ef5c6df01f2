"""Simulated batch effects on real cells, and what remains of them in representations."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES
from indiseek_sc.baselines import JointOpt
from indiseek_sc.data import apply_transform
from indiseek_sc.metrics import label_accuracy
from indiseek_sc.model._cells import get_design, get_matrix

FEW = {"shared": 5, "flow": 3, "specific": 2, "decoder": 3}
HELD_OUT = np.arange(0, 1200, 5)


def handle(mdata: mudata.MuData) -> mudata.MuData:
    """Simulate a second batch, unbalanced among cell types, with scaled counts of many features."""
    rng = np.random.default_rng(0)
    second = rng.random(mdata.n_obs) < np.where(mdata.obs["cell_type"].str.contains("B|NK|Mono"), 0.8, 0.2)
    for name, share in (("rna", 0.3), ("adt", 0.8)):
        values = mdata[name].X.toarray()
        factors = np.where(rng.random(values.shape[1]) < share, rng.choice([0.3, 3.0], values.shape[1]), 1.0)
        values[second] = np.round(values[second] * factors)
        mdata[name].X = csr_matrix(values.astype(np.float32))
    mdata.obs["handling"] = np.where(second, "second", "first")
    mdata.obs["handling"] = mdata.obs["handling"].astype("category")
    return mdata


def fit(mdata: mudata.MuData, **kwargs) -> IndiSeek:
    IndiSeek.setup_mudata(mdata, batch_key="handling")
    model = IndiSeek(mdata, **kwargs)
    model.train(
        FEW, held_out=HELD_OUT, plan_kwargs={"n_critic_warmup_steps": 8}, accelerator="cpu", enable_progress_bar=False
    )
    return model


@pytest.fixture(scope="module")
def handled(_pbmc_covid_once) -> mudata.MuData:
    return handle(_pbmc_covid_once[::5].copy())


@pytest.fixture(scope="module")
def corrected(handled) -> IndiSeek:
    return fit(handled.copy())


@pytest.fixture(scope="module")
def plain(handled) -> IndiSeek:
    return fit(handled.copy(), batch_offsets=False)


def batch_predictability(model: IndiSeek, latent: np.ndarray) -> float:
    """Return the accuracy of predicting the batch by neighbours of the same type.

    Accuracy on held-out cells is rescaled so that chance is 0 and perfect prediction is 1.
    """
    obs = model.adata.obs
    is_held_out = np.isin(np.arange(len(obs)), HELD_OUT)
    right, chance, n = 0.0, 0.0, 0
    for cell_type in obs["cell_type"].unique():
        is_type = (obs["cell_type"] == cell_type).to_numpy()
        train, test = np.flatnonzero(is_type & ~is_held_out), np.flatnonzero(is_type & is_held_out)
        if len(train) > 40 and len(test) > 5:
            right += label_accuracy(latent, obs["handling"].to_numpy(), train, test) * len(test)
            chance += obs["handling"].iloc[test].value_counts(normalize=True).max() * len(test)
            n += len(test)
    return (right - chance) / (n - chance)


def test_neighbours_of_the_same_type_do_not_predict_the_batch(corrected, plain):
    assert batch_predictability(plain, plain.get_latent_representation()) > 0.5
    assert batch_predictability(corrected, corrected.get_latent_representation()) < 0.15
    for name in corrected.modalities.values():
        for kind in ("shared", "specific"):
            latent = corrected.get_latent_representation(kind=kind, modality=name)
            assert batch_predictability(corrected, latent) < 0.15, (name, kind)


def test_cell_types_are_predicted_as_well_as_without_correction(corrected, plain):
    train = np.setdiff1d(np.arange(corrected.adata.n_obs), HELD_OUT)
    labels = corrected.adata.obs["cell_type"].to_numpy()
    accuracy = [
        label_accuracy(model.get_latent_representation(), labels, train, HELD_OUT) for model in (corrected, plain)
    ]
    assert accuracy[0] > accuracy[1] - 0.02


def test_features_are_transformed_values_minus_offsets(corrected, plain):
    for model, is_corrected in ((corrected, True), (plain, False)):
        design = get_design(model, model.adata, np.arange(model.adata.n_obs))
        for role in ROLES:
            raw = apply_transform(model.module.transforms[role], get_matrix(model, model.adata, role))
            offsets = model.module.covariate_offsets[role]
            assert (offsets.overall.abs().max() > 0.05) == is_corrected
            assert (offsets.of_states.abs().max() > 0.05) == is_corrected
            features, used = model.get_features(modality=model.modalities[role]), model.module.transforms[role].used
            np.testing.assert_allclose(features, offsets(raw, design)[:, used], atol=1e-5)


def test_offsets_of_new_cells_do_not_depend_on_the_order_of_categories(corrected):
    rows = np.r_[7:60:3, 3]
    new = corrected.adata[rows].copy()
    new.obs["handling"] = new.obs["handling"].cat.reorder_categories(["second", "first"])
    for name in corrected.modalities.values():
        np.testing.assert_allclose(
            corrected.get_features(new, modality=name), corrected.get_features(modality=name, indices=rows), atol=1e-5
        )
    np.testing.assert_allclose(
        corrected.get_latent_representation(new), corrected.get_latent_representation(indices=rows), atol=1e-4
    )
    moved = corrected.adata[rows].copy()
    moved.obs["handling"] = "first"
    latent = corrected.get_latent_representation(moved)
    assert not np.allclose(latent, corrected.get_latent_representation(indices=rows), atol=0.1)


def test_module_inference_equals_model_representations(corrected):
    rows = np.arange(40)
    tensors = {
        "X": torch.from_numpy(get_matrix(corrected, corrected.adata, "rna")[rows].toarray()),
        "adt": torch.from_numpy(get_matrix(corrected, corrected.adata, "adt")[rows].toarray()),
        "batch": torch.from_numpy((corrected.adata.obs["handling"] == "second").to_numpy()[rows, None].astype(int)),
    }
    with torch.inference_mode():
        found = corrected.module.inference(**corrected.module._get_inference_input(tensors))
    for role in ROLES:
        expected = corrected.get_features(modality=corrected.modalities[role], indices=rows)
        used = corrected.module.transforms[role].used
        np.testing.assert_allclose(found["features"][role][:, used], expected, atol=1e-5)
    np.testing.assert_allclose(found["joint"], corrected.get_latent_representation(indices=rows), atol=1e-4)


def test_offsets_are_saved_and_taken_over(corrected, tmp_path):
    corrected.save(str(tmp_path / "model"), save_anndata=False)
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=corrected.adata)
    np.testing.assert_array_equal(loaded.get_latent_representation(), corrected.get_latent_representation())
    other = IndiSeek(corrected.adata, independence="nce")
    other.take_over(corrected)
    for name in corrected.modalities.values():
        np.testing.assert_array_equal(other.get_features(modality=name), corrected.get_features(modality=name))


@pytest.mark.slow
def test_offsets_are_estimated_again_in_each_training(handled):
    mdata = handled.copy()
    IndiSeek.setup_mudata(mdata, batch_key="handling")
    model, quick = IndiSeek(mdata), {"stages": ("shared",), "enable_progress_bar": False}
    model.train(1, held_out=HELD_OUT, **quick)
    first = model.module.covariate_offsets["adt"].overall.clone()
    model.train(1, held_out=np.arange(600), **quick)
    assert not torch.equal(model.module.covariate_offsets["adt"].overall, first)
    model.train(1, held_out=HELD_OUT, **quick)
    assert torch.equal(model.module.covariate_offsets["adt"].overall, first)


def test_the_published_recipe_and_a_single_batch_have_no_offsets(handled):
    mdata = handled.copy()
    IndiSeek.setup_mudata(mdata, batch_key="handling")
    assert not IndiSeek(mdata, preset="paper").settings.architecture.batch_offsets
    one = handled[:400].copy()
    one.obs["handling"] = "only"
    IndiSeek.setup_mudata(one, batch_key="handling")
    model = IndiSeek(one)
    model.train(1, stages=("shared",), accelerator="cpu", enable_progress_bar=False)
    assert model.module.design.n_columns == model.module.covariate_offsets["rna"].overall.numel() == 0


def test_batches_are_part_of_conditions_and_decoders(corrected):
    n_batches = corrected.adata.obs["handling"].nunique()
    assert corrected.module.n_condition == corrected.module.n_shared + n_batches
    moved = corrected.adata.copy()
    moved.obs["handling"] = moved.obs["handling"].cat.rename_categories({"first": "second", "second": "first"})
    decoded = corrected.get_reconstruction(moved, modality="rna")
    assert not np.allclose(decoded, corrected.get_reconstruction(modality="rna"))


def test_encoders_trained_in_stage_2_do_not_change_offsets(handled, corrected):
    mdata = handled.copy()
    JointOpt.setup_mudata(mdata, batch_key="handling")
    model = JointOpt(mdata)
    few = {"plan_kwargs": {"n_critic_warmup_steps": 8}, "accelerator": "cpu", "enable_progress_bar": False}
    model.train(1, held_out=HELD_OUT, **few)
    assert torch.equal(model.module.covariate_offsets["adt"].overall, corrected.module.covariate_offsets["adt"].overall)
