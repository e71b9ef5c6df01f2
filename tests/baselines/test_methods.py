"""Tests of every method: training, encoding, writing, saving and loading."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.baselines import METHODS, JointOpt, make
from indiseek_sc.model._cells import read_features
from indiseek_sc.nn._conditional_encoder_decoder import FEWEST

FEW = {"shared": 2, "flow": 2, "specific": 2, "decoder": 1}
HELD_OUT = np.arange(0, 300, 3)
BASELINES = [name for name, method in METHODS.items() if method.model is not IndiSeek]


@pytest.fixture
def mdata(pbmc_small):
    return pbmc_small[::2].copy()


def fit(mdata, name, seed=0, **train):
    model = make(name, mdata, seed=seed, n_hidden=32)
    # Few critic steps keep the test fast.
    optimisation = replace(model.settings.optimisation, n_critic_warmup_steps=2, n_critic_steps=2)
    model.settings = model.settings._replace(optimisation=optimisation)
    model.train(**{"max_epochs": FEW, "held_out": HELD_OUT, "enable_progress_bar": False, **train})
    return model


def all_latents(model):
    latents = {"joint": model.get_latent_representation()}
    for name in model.modalities.values():
        for kind in ("shared", "specific"):
            latents[f"{kind}_{name}"] = model.get_latent_representation(kind=kind, modality=name)
        latents[f"decoded_{name}"] = model.get_reconstruction(modality=name)
    return latents


def assert_equal_latents(first, second):
    assert first.keys() == second.keys()
    for name, latent in first.items():
        np.testing.assert_array_equal(latent, second[name], err_msg=name)


@pytest.mark.parametrize("name", BASELINES)
def test_train_encode_write_save_load(mdata, name, tmp_path):
    model = fit(mdata, name)
    latents = all_latents(model)
    # With few cells, the conditional encoder-decoder has few dimensions.
    is_conditional = model.settings.architecture.conditional_encoder_decoder
    widths = {0} if name == "clip" else set(range(1, FEWEST + 1)) if is_conditional else {16}
    for key, latent in latents.items():
        assert latent.shape[0] == 300, key
        assert np.isfinite(latent).all(), key
        if key.startswith("specific"):
            assert latent.shape[1] in widths
        else:
            assert latent.shape[1] > 0
    model.write_latents()
    np.testing.assert_array_equal(mdata.obsm["X_indiseek_specific_adt"], latents["specific_adt"])
    model.save(tmp_path / "model")
    assert_equal_latents(latents, all_latents(METHODS[name].model.load(tmp_path / "model", adata=mdata)))


@pytest.mark.parametrize("name", ["factorized_cl", "info_disen", "joint_opt"])
def test_results_are_determined_by_the_seed(mdata, name):
    first = all_latents(fit(mdata.copy(), name))
    torch.manual_seed(123)  # the global random state must not matter
    state = torch.get_rng_state()
    assert_equal_latents(first, all_latents(fit(mdata.copy(), name)))
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(first["specific_rna"], all_latents(fit(mdata.copy(), name, seed=1))["specific_rna"])


def test_whitening_without_critics_equals_the_initialisation_of_indiseek(mdata):
    model = fit(mdata, "no_critics", max_epochs={**FEW, "specific": 0})
    features = {role: read_features(model, mdata, role, np.arange(300)) for role in model.modalities}
    module = model.module
    with torch.no_grad():
        shared = module.shared("rna", features["rna"])
        condition = module.condition("rna", shared, torch.zeros(300, dtype=torch.long))
        start = module.encoder_decoders["rna"].prepare(features["rna"], condition)["start"]
    train = model.split.train
    start = (start - start[train].mean(dim=0)) / start[train].std(dim=0, correction=0)
    specific = model.get_latent_representation(kind="specific", modality="rna")
    np.testing.assert_allclose(specific, start[:, : specific.shape[1]], atol=2e-3)


def test_audit_of_an_empty_specific_representation(mdata):
    report = fit(mdata, "clip").audit()
    assert (report.table["leak"].abs() < 0.05).all()
    assert np.isfinite(report.table["r2_shared"]).all()
    np.testing.assert_allclose(report.table["r2_both"], report.table["r2_shared"], atol=0.05)


def test_larger_lambda_reduces_the_reconstruction_error(mdata):
    model = fit(mdata, "joint_opt", lambda_=0.0, max_epochs=8)
    error = model.history["specific/rna_error"].iloc[-1, 0]
    model.train(lambda_=1000.0, max_epochs=8, held_out=HELD_OUT, enable_progress_bar=False)
    assert model.history["specific/rna_error"].iloc[-1, 0] < error - 0.05


def test_joint_optimisation_rejects_separate_stages(mdata):
    JointOpt.setup_mudata(mdata)
    with pytest.raises(ValueError, match="JointOpt trains both stages at once"):
        JointOpt(mdata).train(stages=("shared",))


def test_methods_have_unique_titles_and_decreasing_lambdas():
    titles = [method.title for method in METHODS.values()]
    assert len(set(titles)) == len(titles)
    for method in METHODS.values():
        assert sorted(method.lambdas, reverse=True) == list(method.lambdas)


def test_given_settings_override_those_of_a_method(mdata, capsys):
    model = make(
        "info_disen", mdata, n_specific=5, n_shared=7, setup={"modalities": {"rna_layer": "rna", "adt_layer": "adt"}}
    )
    architecture = model.settings.architecture
    assert (architecture.n_specific, architecture.n_shared, architecture.against) == (5, 7, "own")
    repr(model)  # scvi-tools prints it
    assert "InfoDisen with shared representations" in capsys.readouterr().out
    assert make("indiseek_literal", mdata).settings.architecture.n_layers == 5


def test_unknown_methods_are_rejected(mdata):
    with pytest.raises(ValueError, match="name: there is no method 'clop', only indiseek, "):
        make("clop", mdata)
