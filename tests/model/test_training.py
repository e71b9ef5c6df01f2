"""Training on real cells: what it leaves as it was, how it ends, and what it says of itself."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES
from indiseek_sc.module import IndiSeekModule
from indiseek_sc.train import LeakProbe

from .conftest import FEW, HELD_OUT, all_codes, assert_equal_codes, fit


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


def test_stage_two_may_have_no_epochs(pbmc_small):
    model = fit(pbmc_small, train={"max_epochs": {**FEW, "specific": 0}})
    assert model.stages_ == ["shared", "specific"]
    assert np.isfinite(model.get_latent_representation()).all()


def test_wider_shared_codes_are_tried_where_narrow_ones_do_not_suffice(pbmc_small, monkeypatch):
    asked = []

    def answer(sufficient, module, features, rows):
        asked.append([module.encoders[role].n_active for role in ROLES])
        return sufficient

    for sufficient, width in ((True, 6), (False, 10)):
        monkeypatch.setattr("indiseek_sc.model._stages.is_sufficient", partial(answer, sufficient))
        model = fit(pbmc_small, train={"stages": ("shared",)})
        assert [model.module.encoders[role].n_active for role in ROLES] == [width] * 2
    assert asked == [[6, 6]] * 2
    model = fit(pbmc_small, train={"stages": ("shared",)}, n_shared=4)
    assert len(asked) == 2  # a width that is asked for is taken
    assert model.module.encoders["rna"].n_active == model.module.n_shared == 4


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
    objective, calls = IndiSeekModule.shared_objective, []

    def broken(module, terms):
        calls.extend([1] * module.training)
        return objective(module, terms) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(IndiSeekModule, "shared_objective", broken)
    with pytest.warns(UserWarning, match="The loss became nan in epoch 3. The last good weights were kept"):
        model.train(max_epochs=6, enable_progress_bar=False)
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(model.get_latent_representation(kind="shared", modality="adt")).all()


def test_kernel_terms_alone_need_no_critic(pbmc_small):
    model = fit(pbmc_small, independence="hsic")
    assert len(model.history["specific/rna_hsic_train_bound"]) == FEW["specific"]  # no epochs of warm-up
    assert np.isfinite(model.get_latent_representation(kind="specific", modality="rna")).all()


def test_how_critics_learn_may_change_from_one_training_to_the_next(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    few = {"stages": ("specific",), "enable_progress_bar": False}
    whole = {stage: n for stage, n in FEW.items() if stage != "specific"}
    model.train(**few, max_epochs=whole, plan_kwargs={"n_critic_warmup_steps": 8, "n_critic_steps": 1})
    own = model.settings.optimisation
    assert len(model.history["specific/rna_error"]) == 8 + own.max_epochs_specific  # a step of the critics an epoch
    critics = []
    for n_steps in (1, 2):
        still = {"n_critic_warmup_steps": 0, "critic_learning_rate": 1e-12, "n_critic_steps": n_steps}
        model.train(**few, max_epochs=FEW, plan_kwargs=still)
        assert len(model.history["specific/rna_error"]) == FEW["specific"]
        critics.append(dict(model.module.critics.named_parameters()))
    for name, weight in critics[0].items():
        torch.testing.assert_close(weight, critics[1][name])
    assert model.settings.optimisation is own  # what the model was made with
    assert own.n_critic_steps == 4

    with pytest.raises(ValueError, match="plan_kwargs: there is no 'lr', only learning_rate, specific_learning_rate"):
        model.train(plan_kwargs={"lr": 1.0})
    with pytest.raises(ValueError, match="n_critic_steps must be at least 1"):
        model.train(plan_kwargs={"n_critic_steps": 0})


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
    settings = {"lambda_": 0.0, "max_epochs": {**FEW, "specific": 17}, "plan_kwargs": {"n_critic_warmup_steps": 8}}
    model.train(stages=("specific",), enable_progress_bar=False, **settings)
    features = {role: model.get_features(modality=role) for role in ROLES}
    parts = {role: torch.from_numpy(x) for role, x in features.items()}
    no_batch = torch.zeros(mdata.n_obs, dtype=torch.long)
    with torch.no_grad():
        conditions = {
            role: model.module.condition(role, model.module.shared(role, parts[role]), no_batch) for role in ROLES
        }
        cells = {role: model.module.prepare_specific(role, parts, conditions) for role in ROLES}
    rows = model.split.on(model.module.device)
    leak = LeakProbe(cells, rows.train, rows.validation, seed=model.seed)(model.module)
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
