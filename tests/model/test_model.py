"""The main job on real cells: train, encode, write, save, load."""

from __future__ import annotations

import warnings
from functools import partial

import anndata
import mudata
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc import IndiSeek, _keys
from indiseek_sc._keys import ROLES
from indiseek_sc.losses import HSICCritic, NCECritic
from indiseek_sc.train import LeakProbe

FEW = {"shared": 5, "conditional": 5, "shape": 3, "specific": 2, "decoder": 3}
HELD_OUT = np.arange(0, 600, 5)


def fit(mdata, *, setup=None, train=None, **kwargs):
    IndiSeek.setup_mudata(mdata, **(setup or {}))
    model = IndiSeek(mdata, **kwargs)
    quick = {"max_epochs": FEW, "plan_kwargs": {"n_critic_warmup_steps": 8}, "enable_progress_bar": False}
    model.train(**{**quick, "held_out": HELD_OUT, **(train or {})})
    return model


def all_codes(model, mdata=None, indices=None):
    codes = {"joint": model.get_latent_representation(mdata, indices=indices)}
    for role, name in model.modalities.items():
        for kind in ("shared", "specific"):
            codes[f"{kind}_{role}"] = model.get_latent_representation(mdata, kind=kind, modality=name, indices=indices)
        codes[f"decoded_{role}"] = model.get_reconstruction(mdata, modality=name, indices=indices)
    return codes


def assert_equal_codes(first, second):
    assert first.keys() == second.keys()
    for name, code in first.items():
        np.testing.assert_array_equal(code, second[name], err_msg=name)


@pytest.fixture(scope="module")
def fitted(_pbmc_covid_once):
    mdata = _pbmc_covid_once[::10].copy()
    return fit(mdata), mdata


def test_codes_have_documented_shapes_and_scales(fitted):
    model, mdata = fitted
    codes = all_codes(model)
    for name, code in codes.items():
        assert code.shape[0] == mdata.n_obs, name
        assert code.dtype == np.float32, name
        assert np.isfinite(code).all(), name
    assert codes["shared_rna"].shape == codes["shared_adt"].shape
    train = model.split.train
    np.testing.assert_allclose(codes["specific_rna"][train].std(axis=0), 1, atol=1e-2)
    seen = np.setdiff1d(np.arange(600), HELD_OUT)  # directions are fitted on training and validation cells
    spread = codes["shared_rna"][seen].std(axis=0)
    np.testing.assert_allclose(spread, model.module.rotations["rna"].correlation[: spread.size], rtol=1e-3)
    assert (np.diff(spread) <= 1e-6).all()  # the most shared direction first


def test_reconstruction_is_made_from_codes_and_explains_features(fitted):
    model, _ = fitted
    for name in ("rna", "adt"):
        features = model.get_features(modality=name)
        error = ((features - model.get_reconstruction(modality=name)) ** 2).sum()
        assert error < 0.7 * ((features - features.mean(axis=0)) ** 2).sum()


def test_same_seed_same_bits_and_another_seed_differs(pbmc_small, fitted):
    model, _ = fitted
    torch.manual_seed(987)  # the state of the program must not matter
    again = fit(pbmc_small.copy())
    assert_equal_codes(all_codes(model), all_codes(again))
    other = fit(pbmc_small.copy(), seed=1)
    assert not np.array_equal(
        model.get_latent_representation(kind="specific", modality="rna"),
        other.get_latent_representation(kind="specific", modality="rna"),
    )


@pytest.mark.slow
def test_a_second_training_starts_anew(fitted, pbmc_small):
    model = fit(pbmc_small)
    first = all_codes(model)
    model.train(max_epochs=FEW, held_out=HELD_OUT, enable_progress_bar=False)
    assert_equal_codes(first, all_codes(model))


def test_stage_two_alone_leaves_shared_codes_alone(pbmc_small):
    model = fit(pbmc_small)
    before = all_codes(model)
    history = model.history["shared/train_loss"]
    model.train(stages=("specific",), lambda_=1.0, max_epochs=FEW, enable_progress_bar=False)
    after = all_codes(model)
    np.testing.assert_array_equal(before["shared_rna"], after["shared_rna"])
    np.testing.assert_array_equal(before["shared_adt"], after["shared_adt"])
    assert not np.array_equal(before["specific_rna"], after["specific_rna"])
    assert model.history["shared/train_loss"] is history
    assert model.lambda_ == 1.0


def test_stage_two_may_have_no_epochs_but_those_of_its_critics(pbmc_small):
    model = fit(pbmc_small, train={"max_epochs": {**FEW, "specific": 0}})
    assert model.stages_ == ["shared", "specific"]
    assert np.isfinite(model.get_latent_representation()).all()


def test_wider_shared_codes_are_tried_where_narrow_ones_do_not_suffice(pbmc_small, monkeypatch):
    asked = []

    def answer(sufficient, module, features, split):
        asked.append([module.encoders[role].n_active for role in ROLES])
        return sufficient

    for sufficient, width in ((True, 6), (False, 10)):
        monkeypatch.setattr("indiseek_sc.model._shared_stage.is_sufficient", partial(answer, sufficient))
        model = fit(pbmc_small, train={"stages": ("shared",)})
        assert [model.module.encoders[role].n_active for role in ROLES] == [width] * 2
    assert asked == [[6, 6]] * 2
    model = fit(pbmc_small, train={"stages": ("shared",)}, n_shared=4)
    assert len(asked) == 2  # a width that is asked for is taken
    assert model.module.encoders["rna"].n_active == model.module.n_shared == 4


def test_a_model_shows_the_widths_in_use(fitted, pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    repr(untrained := IndiSeek(pbmc_small))
    assert "shared codes of at most 10 dimensions" in untrained._model_summary_string
    assert "specific codes of at most 16 (rna), 16 (adt)" in untrained._model_summary_string
    model, _ = fitted
    repr(model)
    codes = all_codes(model)
    assert f"shared codes of {codes['shared_rna'].shape[1]} dimensions" in model._model_summary_string
    wanted = f"{codes['specific_rna'].shape[1]} (rna), {codes['specific_adt'].shape[1]} (adt)"
    assert f"specific codes of {wanted}" in model._model_summary_string


def test_held_out_cells_have_no_influence(pbmc_small):
    changed = pbmc_small.copy()
    for name in ("rna", "adt"):
        matrix = changed[name].X.toarray()
        matrix[HELD_OUT] = matrix[HELD_OUT][:, ::-1]
        changed[name].X = matrix
    first, second = fit(pbmc_small), fit(changed)
    kept = np.setdiff1d(np.arange(600), HELD_OUT)
    assert_equal_codes(all_codes(first, indices=kept), all_codes(second, indices=kept))
    np.testing.assert_array_equal(first.split.test, HELD_OUT)


def test_rows_follow_indices(fitted):
    model, _ = fitted
    whole = all_codes(model)
    rows = np.array([9, 3, 7, 1, 3, -1])
    for name, code in all_codes(model, indices=rows).items():
        np.testing.assert_allclose(code, whole[name][rows], atol=1e-5, err_msg=name)
    mask = np.zeros(600, dtype=bool)
    mask[[4, 8]] = True
    np.testing.assert_allclose(model.get_latent_representation(indices=mask), whole["joint"][[4, 8]], atol=1e-5)
    with pytest.raises(ValueError, match="indices must lie below the number of cells, 600"):
        model.get_latent_representation(indices=[600])


def test_backed_data_give_the_same_codes_in_the_order_asked_for(fitted, tmp_path, pbmc_small):
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
    expected = all_codes(model)
    for key, name in {
        "X_indiseek": "joint",
        "X_indiseek_shared_rna": "shared_rna",
        "X_indiseek_shared_adt": "shared_adt",
        "X_indiseek_specific_rna": "specific_rna",
        "X_indiseek_specific_adt": "specific_adt",
    }.items():
        np.testing.assert_allclose(mdata.obsm[key], expected[name], atol=1e-5)
    assert (mdata.obs[_keys.SPLIT] == "test").to_numpy().nonzero()[0].tolist() == HELD_OUT.tolist()
    mdata.write(tmp_path / "codes.h5mu")
    back = mudata.read_h5mu(tmp_path / "codes.h5mu")
    np.testing.assert_array_equal(back.obsm["X_indiseek"], mdata.obsm["X_indiseek"])
    assert back.uns["indiseek"]["modalities"] == {"rna": "rna", "adt": "adt"}


def test_save_and_load_to_the_bit(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    assert_equal_codes(all_codes(model), all_codes(loaded))
    assert loaded.stages_ == ["shared", "specific"]
    assert loaded.lambda_ == model.lambda_
    assert set(loaded.history) == set(model.history)

    without = IndiSeek.load(str(tmp_path / "model"), adata=False)
    new = mdata[:100].copy()
    rows = np.arange(100)
    assert_equal_codes(all_codes(model, indices=rows), all_codes(without, new))
    backwards = mdata[:100].copy()
    backwards.mod["rna"] = backwards["rna"][:, ::-1].copy()
    backwards.update()
    with pytest.raises(ValueError, match="another order"):
        IndiSeek.load(str(tmp_path / "model"), adata=backwards)


@pytest.mark.slow
def test_a_loaded_model_trains_as_the_first_one_did(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    loaded.train(max_epochs=FEW, held_out=HELD_OUT, enable_progress_bar=False)
    assert_equal_codes(all_codes(model), all_codes(loaded))


def test_histories_are_named_by_stage(fitted):
    model, _ = fitted
    stages = {key.split("/")[0] for key in model.history}
    assert stages == {"shared", "conditional", "shape", "shape_without", "specific", "decoder"}
    assert len(model.history["shared/validation_info_nce"]) == FEW["shared"]
    assert np.isfinite(model.history["specific/rna_gaussian_validation_bound"].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("kind", ["normalized", "representation"])
def test_other_inputs_than_counts(pbmc_small, kind):
    rng = np.random.default_rng(0)
    if kind == "representation":
        pbmc_small["rna"].obsm["X_pca"] = rng.standard_normal((600, 20)).astype("float32")
        setup = {"rna_obsm_key": "X_pca"}
    else:
        pbmc_small["rna"].layers["log"] = np.log1p(pbmc_small["rna"].X.toarray())
        pbmc_small["adt"].layers["log"] = np.log1p(pbmc_small["adt"].X.toarray())
        setup = {"rna_layer": "log", "adt_layer": "log"}
    model = fit(pbmc_small, setup=setup)
    assert all(np.isfinite(code).all() for code in all_codes(model).values())


def test_the_user_names_modalities(pbmc_small):
    named = mudata.MuData({"gex": pbmc_small["rna"].copy(), "prot": pbmc_small["adt"].copy()})
    model = fit(named, setup={"modalities": {"rna_layer": "gex", "adt_layer": "prot"}})
    model.write_latents()
    assert {"X_indiseek_shared_gex", "X_indiseek_specific_prot"} <= set(named.obsm)
    with pytest.raises(ValueError, match="the model knows 'gex' and 'prot', not 'rna'"):
        model.get_latent_representation(kind="shared", modality="rna")


def test_the_published_recipe_trains(pbmc_small):
    model = fit(pbmc_small, preset="paper", train={"max_epochs": 2})
    codes = all_codes(model)
    assert codes["shared_rna"].shape[1] == codes["specific_adt"].shape[1] == 50
    assert {key.split("/")[0] for key in model.history} == {"shared", "specific"}


class _Stop(Callback):
    def __init__(self, stage_metric: str, error: BaseException) -> None:
        self.stage_metric, self.error = stage_metric, error

    def on_train_epoch_end(self, trainer, pl_module):
        if self.stage_metric in trainer.callback_metrics and trainer.current_epoch == 1:
            raise self.error


def test_interrupting_stage_one_keeps_shared_codes(pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    stop = _Stop("train_loss", KeyboardInterrupt())
    with pytest.warns(UserWarning, match="Stage 'shared': Interrupted"):
        model.train(max_epochs=4, callbacks=[stop], enable_progress_bar=False)
    assert np.isfinite(model.get_latent_representation(kind="shared", modality="rna")).all()
    with pytest.raises(RuntimeError, match=r"specific codes are not trained yet.*stages=\('specific',\)"):
        model.get_latent_representation()
    model.train(stages="specific", max_epochs=2, enable_progress_bar=False)
    assert np.isfinite(model.get_latent_representation()).all()


def test_interrupting_stage_two_keeps_all_codes(pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    with pytest.warns(UserWarning, match="Stage 'specific': Interrupted"):
        model.train(max_epochs=3, callbacks=[_Stop("rna_error", KeyboardInterrupt())], enable_progress_bar=False)
    assert all(np.isfinite(code).all() for code in all_codes(model).values())


def test_a_loss_that_is_not_finite_ends_the_stage_with_whole_weights(pbmc_small, monkeypatch):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    objective, calls = model.module.shared_objective, []

    def broken(terms):
        calls.extend([1] * model.module.training)
        return objective(terms) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(model.module, "shared_objective", broken)
    with pytest.warns(UserWarning, match="The loss became nan in epoch 3. The last good weights were kept"):
        model.train(max_epochs=6, enable_progress_bar=False)
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(model.get_latent_representation(kind="shared", modality="adt")).all()


def test_what_cannot_be_asked(fitted, pbmc_small):
    model, _ = fitted
    with pytest.raises(ValueError, match="kind must be"):
        model.get_latent_representation(kind="private", modality="rna")
    with pytest.raises(ValueError, match="joint code is of both modalities"):
        model.get_latent_representation(modality="rna")
    with pytest.raises(ValueError, match="devices: training runs on a single device"):
        model.train(devices=2)
    with pytest.raises(ValueError, match="stages must be"):
        model.train(stages=("specific", "shared"))
    IndiSeek.setup_mudata(pbmc_small)
    untrained = IndiSeek(pbmc_small)
    for ask in (untrained.get_latent_representation, untrained.write_latents, untrained.audit):
        with pytest.raises(RuntimeError, match="not trained yet"):
            ask()
    with pytest.raises(RuntimeError, match="shared codes are not trained yet"):
        untrained.train(stages=("specific",))
    assert not any(key.startswith("X_indiseek") for key in pbmc_small.obsm)


def test_audit_reads_held_out_cells(fitted):
    model, _ = fitted
    report = model.audit()
    assert report.n_test == HELD_OUT.size
    assert report.n_train == 600 - HELD_OUT.size
    assert list(report.table.index) == ["rna", "adt"]
    assert report.table.loc["rna", "gain"] > 0.5


def test_other_modalities_and_all_formats_are_left_alone(pbmc_small):
    pbmc_small.mod["atac"] = anndata.AnnData(np.ones((600, 2)), obs=pbmc_small["rna"].obs[[]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pbmc_small.update()
    before = pbmc_small["rna"].X.copy()
    model = fit(pbmc_small)
    model.write_latents()
    assert (before != pbmc_small["rna"].X).nnz == 0
    assert list(pbmc_small.mod) == ["rna", "adt", "atac"]


def test_independence_by_objects_survives_saving(pbmc_small, tmp_path):
    independence = {"wide": partial(HSICCritic, bandwidth=6.0), "small": partial(NCECritic, n_hidden=8)}
    model = fit(pbmc_small, independence=independence, train={"plan_kwargs": {"n_critic_warmup_steps": 0}})
    assert list(model.module.critics["adt"].critics) == ["wide", "small"]
    assert np.isfinite(model.history["specific/adt_wide_validation_bound"].to_numpy(dtype=float)).all()
    model.write_latents()
    assert pbmc_small.uns["indiseek"]["settings"]["independence"] == "wide+small"
    pbmc_small.write(tmp_path / "codes.h5mu")
    model.save(str(tmp_path / "model"))
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=pbmc_small)
    assert loaded.module.critics["rna"].critics["wide"].bandwidth == 6.0
    assert loaded.module.critics["rna"].critics["small"].embed_specific[0].out_features == 8
    assert_equal_codes(all_codes(model), all_codes(loaded))


def test_independence_that_cannot_be_is_refused_at_once(pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    with pytest.raises(
        ValueError, match="independence: unknown critic 'clip' in 'gaussian.clip'. There are gaussian, .*hsic"
    ):
        IndiSeek(pbmc_small, independence="gaussian+clip")
    with pytest.raises(ValueError, match="cannot be saved with the model"):
        IndiSeek(pbmc_small, independence=lambda *sizes: NCECritic(*sizes))


def test_kernel_terms_alone_need_no_critic(pbmc_small):
    model = fit(pbmc_small, independence="hsic")
    assert len(model.history["specific/rna_hsic_train_bound"]) == FEW["specific"]  # no epochs of warm-up
    assert np.isfinite(model.get_latent_representation(kind="specific", modality="rna")).all()


def test_how_critics_learn_may_change_from_one_training_to_the_next(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    few = {"stages": ("specific",), "max_epochs": FEW, "enable_progress_bar": False}
    n_epochs = len(model.history["specific/rna_error"])
    model.train(**few, plan_kwargs={"n_critic_warmup_steps": 0, "n_critic_steps": 1})
    assert len(model.history["specific/rna_error"]) == FEW["specific"] < n_epochs
    loss = model.history["specific/rna_nce_validation_loss"].to_numpy(dtype=float).ravel()
    untaught = dict(model.module.critics.named_parameters())
    model.train(**few, plan_kwargs={"n_critic_warmup_steps": 0, "critic_learning_rate": 1e-12}, keep_critics=True)
    for name, weight in model.module.critics.named_parameters():
        torch.testing.assert_close(weight, untaught[name])
    again = model.history["specific/rna_nce_validation_loss"].to_numpy(dtype=float).ravel()
    assert again[0] == pytest.approx(loss[-1], abs=0.05)
    assert model.settings.n_critic_steps == 4  # what the model was made with

    with pytest.raises(ValueError, match="plan_kwargs: there is no 'lr', only n_critic_steps"):
        model.train(plan_kwargs={"lr": 1.0})
    with pytest.raises(ValueError, match="n_critic_steps must be at least 1"):
        model.train(plan_kwargs={"n_critic_steps": 0})
    with pytest.raises(ValueError, match="keep_critics: critics of former shared codes"):
        model.train(keep_critics=True)


def test_critics_that_lag_are_warned_of(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    few = {"stages": ("specific",), "enable_progress_bar": False, "lambda_": 0.0}
    lagging = {"critic_learning_rate": 1e-12, "n_critic_warmup_steps": 0, "n_critic_steps": 1}
    with pytest.warns(UserWarning, match="bounds of critics stayed negative .*rna gaussian -") as caught:
        model.train(**few, max_epochs={**FEW, "specific": 40}, plan_kwargs=lagging)
    assert sum("stayed negative" in str(warning.message) for warning in caught) == 1


def test_each_modality_keeps_the_code_that_a_fresh_probe_read_least_from(fitted, tmp_path):
    """With no regard for the error, codes come to evade their critics."""
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    settings = {"lambda_": 0.0, "max_epochs": {**FEW, "specific": 15}, "plan_kwargs": {"n_critic_warmup_steps": 8}}
    model.train(stages=("specific",), enable_progress_bar=False, **settings)
    features = {role: model.get_features(modality=role) for role in ROLES}
    parts = {role: torch.from_numpy(x) for role, x in features.items()}
    no_batch = torch.zeros(mdata.n_obs, dtype=torch.long)
    with torch.no_grad():
        conditions = {
            role: model.module.condition(role, model.module.shared(role, parts[role]), no_batch) for role in ROLES
        }
        cells = {role: model.module.prepare_specific(role, parts, conditions) for role in ROLES}
    leak = LeakProbe(cells, model.split.train, model.split.validation, seed=model.seed)(model.module)
    for role in ROLES:
        seen = model.history[f"specific/{role}_leak"].iloc[:, 0].astype(float)
        assert len(seen) == 4  # after 5, 10, 15 and the last, the 17th
        assert leak[f"{role}_leak"] <= seen.min() + 1.5e-3  # a gain of .001 counts as none


@pytest.mark.slow
def test_a_healthy_training_is_not_warned_of_but_one_whose_critics_lag(pbmc_covid):
    IndiSeek.setup_mudata(pbmc_covid)
    model = IndiSeek(pbmc_covid)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*stayed negative")
        model.train(enable_progress_bar=False)
    quick = {"stages": ("specific",), "max_epochs": {"decoder": 0}, "enable_progress_bar": False}
    with pytest.warns(UserWarning, match="stayed negative .*rna gaussian"):
        model.train(**quick, plan_kwargs={"critic_learning_rate": 1e-12})
