"""Training, encoding, writing, saving and loading on real cells."""

from __future__ import annotations

import warnings
from functools import partial

import anndata
import mudata
import numpy as np
import pytest

import indiseek_sc as isk
from indiseek_sc import IndiSeek, _keys
from indiseek_sc.data import apply_transform
from indiseek_sc.losses import HSICCritic, NCECritic
from indiseek_sc.nn import ConditionalEncoderDecoder

from .conftest import HELD_OUT, all_latents, assert_equal_latents, fit


def test_representations_have_documented_shapes_and_scales(fitted):
    model, mdata = fitted
    latents = all_latents(model)
    for name, latent in latents.items():
        assert latent.shape[0] == mdata.n_obs, name
        assert latent.dtype == np.float32, name
        assert np.isfinite(latent).all(), name
    assert latents["shared_rna"].shape == latents["shared_adt"].shape
    train = model.split.train
    np.testing.assert_allclose(latents["specific_rna"][train].std(axis=0), 1, atol=1e-2)
    seen = np.setdiff1d(np.arange(600), HELD_OUT)  # directions are fitted on these
    spread = latents["shared_rna"][seen].std(axis=0)
    np.testing.assert_allclose(spread, model.module.rotations["rna"].correlation[: spread.size], rtol=1e-3)
    assert (np.diff(spread) <= 1e-6).all()  # most shared direction first


def test_reconstruction_explains_features(fitted):
    model, _ = fitted
    for name in ("rna", "adt"):
        features = model.get_features(modality=name)
        error = ((features - model.get_reconstruction(modality=name)) ** 2).sum()
        assert error < 0.7 * ((features - features.mean(axis=0)) ** 2).sum()


def test_printing_a_model_shows_the_widths_in_use(fitted, pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    repr(untrained := IndiSeek(pbmc_small))
    assert "shared representations of at most 10 dimensions" in untrained._model_summary_string
    assert "specific representations of at most 16 (rna), 16 (adt)" in untrained._model_summary_string
    model, _ = fitted
    repr(model)
    latents = all_latents(model)
    assert f"shared representations of {latents['shared_rna'].shape[1]} dimensions" in model._model_summary_string
    wanted = f"{latents['specific_rna'].shape[1]} (rna), {latents['specific_adt'].shape[1]} (adt)"
    assert f"specific representations of {wanted}" in model._model_summary_string


def test_rows_follow_indices(fitted):
    model, _ = fitted
    whole = all_latents(model)
    rows = np.array([9, 3, 7, 1, 3, -1])
    for name, latent in all_latents(model, indices=rows).items():
        np.testing.assert_allclose(latent, whole[name][rows], atol=1e-5, err_msg=name)
    mask = np.zeros(600, dtype=bool)
    mask[[4, 8]] = True
    np.testing.assert_allclose(model.get_latent_representation(indices=mask), whole["joint"][[4, 8]], atol=1e-5)
    with pytest.raises(ValueError, match="indices must lie below the number of cells, 600"):
        model.get_latent_representation(indices=[600])


@pytest.mark.parametrize(
    ("kind", "modality", "n_read"),
    [("shared", "rna", 1), ("shared", "adt", 1), ("specific", "rna", 1), ("joint", None, 2)],
)
def test_a_representation_reads_only_the_modalities_it_needs(fitted, monkeypatch, kind, modality, n_read):
    model, mdata = fitted
    model.write_latents(written := mdata.copy())
    expected = written.obsm["X_indiseek" if modality is None else f"X_indiseek_{kind}_{modality}"]
    read = record_reads(monkeypatch)
    if kind != "joint":
        monkeypatch.setattr(ConditionalEncoderDecoder, "decode", None)
    latent = model.get_latent_representation(kind=kind, modality=modality, indices=np.arange(50))
    np.testing.assert_allclose(latent, expected[:50], atol=1e-4)
    assert len(read) == n_read
    assert modality is None or read == [model.module.transforms[modality]]


def test_all_representations_are_written_in_one_pass(fitted, monkeypatch):
    model, mdata = fitted
    read = record_reads(monkeypatch)
    model.write_latents(mdata.copy())
    assert len(read) == 2


def record_reads(monkeypatch):
    """Return a list to which a transform is appended whenever it computes features."""
    read = []

    def note(transform, *args):
        read.append(transform)
        return apply_transform(transform, *args)

    monkeypatch.setattr("indiseek_sc.model._cells.apply_transform", note)
    return read


def test_encoding_in_parts_does_not_change_representations(fitted):
    model, mdata = fitted
    rows = np.random.default_rng(0).permutation(mdata.n_obs)[:45]
    for kind, modality in (("joint", None), ("specific", "adt")):
        whole = model.get_latent_representation(kind=kind, modality=modality, indices=rows)
        with isk.settings.override(cells_at_once=7):
            parts = model.get_latent_representation(kind=kind, modality=modality, indices=rows)
        np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_backed_data_give_the_same_representations_in_the_given_order(fitted, tmp_path, pbmc_small):
    model, _ = fitted
    pbmc_small.write(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    rows = [9, 3, 7, 1]
    np.testing.assert_allclose(
        model.get_latent_representation(backed, indices=rows), model.get_latent_representation(indices=rows), atol=1e-5
    )
    backed.file.close()


def test_write_latents(fitted, tmp_path):
    model, mdata = fitted
    model.write_latents()
    expected = all_latents(model)
    for key, name in {
        "X_indiseek": "joint",
        "X_indiseek_shared_rna": "shared_rna",
        "X_indiseek_shared_adt": "shared_adt",
        "X_indiseek_specific_rna": "specific_rna",
        "X_indiseek_specific_adt": "specific_adt",
    }.items():
        np.testing.assert_allclose(mdata.obsm[key], expected[name], atol=1e-5)
    assert (mdata.obs[_keys.SPLIT] == "test").to_numpy().nonzero()[0].tolist() == HELD_OUT.tolist()
    mdata.write(tmp_path / "latents.h5mu")
    back = mudata.read_h5mu(tmp_path / "latents.h5mu")
    np.testing.assert_array_equal(back.obsm["X_indiseek"], mdata.obsm["X_indiseek"])
    assert back.uns["indiseek"]["modalities"] == {"rna": "rna", "adt": "adt"}


def test_saved_and_loaded_models_are_bitwise_identical(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    assert_equal_latents(all_latents(model), all_latents(loaded))
    assert loaded.stages_ == ["shared", "specific"]
    assert loaded.lambda_ == model.lambda_
    assert set(loaded.history) == set(model.history)

    without = IndiSeek.load(str(tmp_path / "model"), adata=False)
    new = mdata[:100].copy()
    rows = np.arange(100)
    assert_equal_latents(all_latents(model, indices=rows), all_latents(without, new))
    backwards = mdata[:100].copy()
    backwards.mod["rna"] = backwards["rna"][:, ::-1].copy()
    backwards.update()
    beside = IndiSeek.load(str(tmp_path / "model"), adata=backwards)  # features are matched by name
    np.testing.assert_allclose(all_latents(beside)["joint"], all_latents(model, indices=rows)["joint"], atol=2e-5)


@pytest.mark.parametrize("kind", ["normalized", "representation"])
def test_inputs_other_than_counts(pbmc_small, kind):
    rng = np.random.default_rng(0)
    if kind == "representation":
        pbmc_small["rna"].obsm["X_pca"] = rng.standard_normal((600, 20)).astype("float32")
        setup = {"rna_obsm_key": "X_pca"}
    else:
        pbmc_small["rna"].layers["log"] = np.log1p(pbmc_small["rna"].X.toarray())
        pbmc_small["adt"].layers["log"] = np.log1p(pbmc_small["adt"].X.toarray())
        setup = {"rna_layer": "log", "adt_layer": "log"}
    model = fit(pbmc_small, setup=setup)
    assert all(np.isfinite(latent).all() for latent in all_latents(model).values())


def test_modalities_are_named_by_the_user(pbmc_small):
    named = mudata.MuData({"gex": pbmc_small["rna"].copy(), "prot": pbmc_small["adt"].copy()})
    model = fit(named, setup={"modalities": {"rna_layer": "gex", "adt_layer": "prot"}})
    model.write_latents()
    assert {"X_indiseek_shared_gex", "X_indiseek_specific_prot"} <= set(named.obsm)
    with pytest.raises(ValueError, match="modality='rna' is not known. Available: 'gex', 'prot'"):
        model.get_latent_representation(kind="shared", modality="rna")


def test_audit_uses_held_out_cells(fitted):
    model, _ = fitted
    report = model.audit()
    assert report.n_test == HELD_OUT.size
    assert report.n_train == 600 - HELD_OUT.size
    assert list(report.table.index) == ["rna", "adt"]
    assert report.table.loc["rna", "gain"] > 0.5


def test_input_values_and_other_modalities_are_unchanged(pbmc_small):
    pbmc_small.mod["atac"] = anndata.AnnData(np.ones((600, 2)), obs=pbmc_small["rna"].obs[[]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pbmc_small.update()
    before = pbmc_small["rna"].X.copy()
    model = fit(pbmc_small)
    model.write_latents()
    assert (before != pbmc_small["rna"].X).nnz == 0
    assert list(pbmc_small.mod) == ["rna", "adt", "atac"]


@pytest.mark.slow
def test_custom_critics_are_named_in_a_saved_model_and_given_again(pbmc_small, tmp_path):
    independence = {"wide": partial(HSICCritic, bandwidth=6.0), "small": partial(NCECritic, n_hidden=8)}
    model = fit(
        pbmc_small,
        independence=independence,
        train={"plan_kwargs": {"gate_critics": False, "n_critic_warmup_steps": 0}},
    )
    assert list(model.module.critics["adt"].critics) == ["wide", "small"]
    assert np.isfinite(model.history["specific/adt_wide_validation_bound"].to_numpy(dtype=float)).all()
    model.write_latents()
    assert pbmc_small.uns["indiseek"]["settings"]["independence"] == "wide+small"
    pbmc_small.write(tmp_path / "latents.h5mu")
    model.save(str(tmp_path / "model"))
    with pytest.raises(ValueError, match=r"independence: .* created with custom code, .*HSICCritic\(bandwidth=6.0\)"):
        IndiSeek.load(tmp_path / "model", adata=False)
    with pytest.raises(ValueError, match=r"independence: .* was created with .*bandwidth=6.0.* but 'hsic' was given"):
        IndiSeek.load(tmp_path / "model", adata=False, independence="hsic")
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=pbmc_small, independence=independence)
    assert loaded.module.critics["rna"].critics["wide"].bandwidth == 6.0
    assert loaded.module.critics["rna"].critics["small"].embed_specific[0].out_features == 8
    assert_equal_latents(all_latents(model), all_latents(loaded))
    query = IndiSeek.load_query_data(pbmc_small, tmp_path / "model", independence=independence)
    assert_equal_latents(all_latents(model), all_latents(query))


def test_settings_that_train_replaces_are_recorded(pbmc_small, tmp_path):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    plan = {"specific_learning_rate": 1e-4, "n_critic_steps": 2}
    model.train(1, plan_kwargs=plan, early_stopping_patience=7, enable_progress_bar=False)
    model.write_latents()
    used = pbmc_small.uns["indiseek"]["settings"]
    expected = {**plan, "patience": 7, "max_epochs_shared": 1, "max_epochs_specific": 1}
    assert {name: used[name] for name in expected} == expected
    assert used["learning_rate"] == model.settings.optimisation.learning_rate
    model.save(str(tmp_path / "model"))
    again = IndiSeek.load(str(tmp_path / "model"), adata=pbmc_small)
    assert again.train_settings_ == model.train_settings_
    model.train(1, stages=("specific",), enable_progress_bar=False)
    assert model.train_settings_["patience"] == 7  # of stage 1
    model.train(enable_progress_bar=False, max_epochs={"shared": 1, "specific": 1})
    assert "patience" not in model.train_settings_


def test_an_auditor_has_its_own_probes_and_seed(fitted):
    model, _ = fitted
    auditor = model.make_auditor(probes=["ridge"], seed=3)
    assert model.audit(auditor=auditor).probes == ("ridge",)
    with pytest.raises(ValueError, match="auditor has its own probes and seed"):
        model.audit(auditor=auditor, seed=5)
