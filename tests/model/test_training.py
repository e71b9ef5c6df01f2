"""Training on real cells: reproducibility, interruptions, failures, and reported results."""

from __future__ import annotations

import gc
import warnings
import weakref
from functools import partial

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback

import indiseek_sc as isk
from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES
from indiseek_sc.datasets import synthetic
from indiseek_sc.model import TrainingOutcome, _stages
from indiseek_sc.model._cells import read_features
from indiseek_sc.module import IndiSeekModule
from indiseek_sc.train import EarlyEndWarning, LeakProbe, RegressionPlan, SharedPlan, SpecificPlan, StageData, StageFit

from .conftest import FEW, HELD_OUT, UNGATED, all_latents, assert_equal_latents, fit


def test_results_are_reproducible_for_a_seed_and_differ_between_seeds(pbmc_small, fitted):
    model, _ = fitted
    torch.manual_seed(987)  # the global random state must have no influence
    again = fit(pbmc_small.copy())
    assert_equal_latents(all_latents(model), all_latents(again))
    other = fit(pbmc_small.copy(), seed=1)
    assert not np.array_equal(
        model.get_latent_representation(kind="specific", modality="rna"),
        other.get_latent_representation(kind="specific", modality="rna"),
    )


@pytest.mark.slow
def test_a_second_training_starts_from_the_initial_weights(fitted, pbmc_small):
    model = fit(pbmc_small)
    first = all_latents(model)
    model.train(max_epochs=FEW, held_out=HELD_OUT, plan_kwargs=UNGATED, enable_progress_bar=False)
    assert_equal_latents(first, all_latents(model))


@pytest.mark.slow
def test_stage_two_alone_does_not_change_shared_representations(pbmc_small):
    model = fit(pbmc_small)
    before = all_latents(model)
    history = model.history["shared/train_loss"]
    longer = {"max_epochs": {**FEW, "specific": 8}, "plan_kwargs": {**UNGATED, "keep_least_leak": False}}
    model.train(stages=("specific",), lambda_=1.0, enable_progress_bar=False, **longer)
    after = all_latents(model)
    np.testing.assert_array_equal(before["shared_rna"], after["shared_rna"])
    np.testing.assert_array_equal(before["shared_adt"], after["shared_adt"])
    assert not np.array_equal(before["specific_rna"], after["specific_rna"])
    assert model.history["shared/train_loss"] is history
    assert model.lambda_ == 1.0


@pytest.mark.slow
def test_stage_two_accepts_zero_epochs(pbmc_small):
    model = fit(pbmc_small, train={"max_epochs": {**FEW, "specific": 0}})
    assert model.stages_ == ["shared", "specific"]
    assert np.isfinite(model.get_latent_representation()).all()


def test_insufficient_shared_representations_are_retrained_wider(pbmc_small, monkeypatch):
    tested = []

    def pretend(sufficient, module, features, rows, within):
        tested.append([module.encoders[role].n_active for role in ROLES])
        return sufficient

    for sufficient, width in ((True, 6), (False, 10)):
        monkeypatch.setattr("indiseek_sc.model._shared.is_sufficient", partial(pretend, sufficient))
        model = fit(pbmc_small, train={"stages": ("shared",)})
        assert [model.module.encoders[role].n_active for role in ROLES] == [width] * 2
    assert tested == [[6, 6]] * 2
    model = fit(pbmc_small, train={"stages": ("shared",)}, n_shared=4)
    assert len(tested) == 2  # a width given by the user is not tested
    assert model.module.encoders["rna"].n_active == model.module.n_shared == 4


def test_held_out_cells_have_no_influence(pbmc_small):
    changed = pbmc_small.copy()
    for name in ("rna", "adt"):
        matrix = changed[name].X.toarray()
        matrix[HELD_OUT] = matrix[HELD_OUT][:, ::-1]
        changed[name].X = matrix
    first, second = fit(pbmc_small), fit(changed)
    kept = np.setdiff1d(np.arange(600), HELD_OUT)
    assert_equal_latents(all_latents(first, indices=kept), all_latents(second, indices=kept))
    np.testing.assert_array_equal(first.split.test, HELD_OUT)


@pytest.mark.slow
def test_a_loaded_model_trains_to_the_same_result(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    loaded.train(max_epochs=FEW, held_out=HELD_OUT, plan_kwargs=UNGATED, enable_progress_bar=False)
    assert_equal_latents(all_latents(model), all_latents(loaded))


def test_history_keys_start_with_the_stage(fitted):
    model, _ = fitted
    stages = {key.split("/")[0] for key in model.history}
    assert stages - {"flow"} == {"shared", "specific", "decoder"}
    assert len(model.history["shared/validation_info_nce"]) == FEW["shared"]
    assert np.isfinite(model.history["specific/rna_gaussian_validation_bound"].to_numpy(dtype=float)).all()


def test_the_published_recipe_trains(pbmc_small):
    model = fit(pbmc_small, preset="paper", train={"max_epochs": 2})
    latents = all_latents(model)
    assert latents["shared_rna"].shape[1] == latents["specific_adt"].shape[1] == 50
    assert {key.split("/")[0] for key in model.history} == {"shared", "specific"}


class _Stop(Callback):
    def __init__(self, stage_metric: str, error: BaseException) -> None:
        self.stage_metric, self.error = stage_metric, error

    def on_train_epoch_end(self, trainer, pl_module):
        if self.stage_metric in trainer.callback_metrics and trainer.current_epoch == 1:
            raise self.error


def test_interrupting_stage_one_keeps_shared_representations(pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    stop = _Stop("train_loss", KeyboardInterrupt())
    with pytest.warns(UserWarning, match="Stage 'shared': Interrupted"):
        outcome = model.train(max_epochs=4, callbacks=[stop], enable_progress_bar=False)
    assert outcome.is_applied
    assert outcome.is_interrupted
    assert model.stages_ == ["shared"]
    assert np.isfinite(model.get_latent_representation(kind="shared", modality="rna")).all()
    with pytest.raises(RuntimeError, match=r"specific representations are not trained yet.*stages=\('specific',\)"):
        model.get_latent_representation()
    model.train(stages="specific", max_epochs=2, enable_progress_bar=False)
    assert np.isfinite(model.get_latent_representation()).all()


def test_interrupting_stage_two_keeps_all_representations(pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    with pytest.warns(UserWarning, match="Stage 'specific': Interrupted"):
        model.train(
            max_epochs=3,
            callbacks=[_Stop("rna_error", KeyboardInterrupt())],
            plan_kwargs=UNGATED,
            enable_progress_bar=False,
        )
    assert all(np.isfinite(latent).all() for latent in all_latents(model).values())


def test_a_non_finite_loss_ends_the_stage_with_finite_weights(pbmc_small, monkeypatch):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    objective, calls = IndiSeekModule.shared_objective, []

    def broken(module, terms):
        calls.extend([1] * module.training)
        return objective(module, terms) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(IndiSeekModule, "shared_objective", broken)
    with pytest.warns(UserWarning, match="The loss became nan in epoch 3. The best weights so far were kept"):
        model.train(max_epochs=6, enable_progress_bar=False)
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(model.get_latent_representation(kind="shared", modality="adt")).all()


def test_kernel_terms_alone_train_without_critics(pbmc_small):
    model = fit(pbmc_small, independence="hsic")
    # There are no warm-up epochs.
    assert len(model.history["specific/rna_hsic_train_bound"]) == FEW["specific"]
    assert np.isfinite(model.get_latent_representation(kind="specific", modality="rna")).all()


@pytest.mark.slow
def test_plan_kwargs_change_one_training_only(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    few = {"stages": ("specific",), "enable_progress_bar": False}
    others = {stage: n for stage, n in FEW.items() if stage != "specific"}
    model.train(**few, max_epochs=others, batch_size=512, plan_kwargs={**UNGATED, "n_critic_steps": 1})
    own = model.settings.optimisation
    # With one critic step per epoch, the 8 warm-up steps take 8 epochs.
    assert len(model.history["specific/rna_error"]) == 8 + own.max_epochs_specific
    critics = []
    for n_steps in (1, 2):
        slow = {**UNGATED, "n_critic_warmup_steps": 0, "critic_learning_rate": 1e-12, "n_critic_steps": n_steps}
        model.train(**few, max_epochs=FEW, plan_kwargs=slow)
        assert len(model.history["specific/rna_error"]) == FEW["specific"]
        critics.append(dict(model.module.critics.named_parameters()))
    for name, weight in critics[0].items():
        torch.testing.assert_close(weight, critics[1][name])
    assert model.settings.optimisation is own  # the settings of the model
    assert own.n_critic_steps == 4


@pytest.mark.slow
def test_undertrained_critics_cause_a_warning(fitted, tmp_path):
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    few = {"stages": ("specific",), "enable_progress_bar": False, "lambda_": 0.0}
    lagging = {**UNGATED, "critic_learning_rate": 1e-12, "n_critic_warmup_steps": 0, "n_critic_steps": 1}
    with pytest.warns(UserWarning, match="bounds of critics stayed negative .*rna gaussian -") as caught:
        model.train(**few, max_epochs={**FEW, "specific": 40}, plan_kwargs=lagging)
    assert sum("stayed negative" in str(warning.message) for warning in caught) == 1


def test_each_modality_keeps_the_epoch_of_least_leak(fitted, tmp_path):
    """With lambda 0, leakage increases during training as representations evade their critics."""
    model, mdata = fitted
    model.save(str(tmp_path / "model"))
    model = IndiSeek.load(str(tmp_path / "model"), adata=mdata)
    settings = {"lambda_": 0.0, "max_epochs": {**FEW, "specific": 17}, "plan_kwargs": UNGATED}
    model.train(stages=("specific",), enable_progress_bar=False, **settings)
    parts = {role: read_features(model, mdata, role, np.arange(mdata.n_obs)) for role in ROLES}
    no_batch = torch.zeros(mdata.n_obs, 0)
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
        assert leak[f"{role}_leak"] <= seen.min() + 1.5e-3  # smaller gains than .001 are ignored


@pytest.mark.slow
def test_default_training_causes_no_warning_of_critics(pbmc_covid):
    IndiSeek.setup_mudata(pbmc_covid)
    model = IndiSeek(pbmc_covid)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*stayed negative")
        model.train(enable_progress_bar=False)


# --- failures -------------------------------------------------------------------------------------

ONE = {"max_epochs": 1, "enable_progress_bar": False}


def make_cells(seed=0):
    return synthetic.make("S6", 240, n_genes=60, n_proteins=12, seed=seed)


@pytest.fixture(scope="module")
def trained():
    """A trained model that tests must leave unchanged."""
    mdata = make_cells()
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata, n_shared=4)
    model.train(held_out=np.arange(0, 240, 4), lambda_=30.0, **ONE)
    return model


def state_of(model):
    return {
        "latents": all_latents(model),
        "weights": {name: x.clone() for name, x in model.module.state_dict().items()},
        "history": {key: x.copy() for key, x in model.history.items()},
        "split": {"cells": model.split_["cells"].copy(), "part": model.split_["part"].copy()},
        "sums": {role: x.copy() for role, x in model.split_["sums"].items()},
        "others": (list(model.stages_), model.lambda_, model.is_trained_, model.settings, model.chosen_path),
        "objects": (model.module, model.trainer, model.adata),
        "torch": torch.get_rng_state(),
        "needs": [p.requires_grad for p in model.module.parameters()],
    }


def assert_same_state(first, second):
    assert_equal_latents(first["latents"], second["latents"])
    assert all(torch.equal(x, second["weights"][name]) for name, x in first["weights"].items())
    assert first["history"].keys() == second["history"].keys()
    for key, x in first["history"].items():
        pd.testing.assert_frame_equal(x, second["history"][key])
    for part in ("split", "sums"):
        assert_equal_latents(first[part], second[part])
    assert first["others"] == second["others"]
    assert all(x is y for x, y in zip(first["objects"], second["objects"], strict=True))
    assert torch.equal(first["torch"], second["torch"])
    assert first["needs"] == second["needs"]


class _Fail(Callback):
    """Raise an error at the end of the first epoch of a stage."""

    def __init__(self, plan, error):
        self.plan, self.error = plan, error

    def on_train_epoch_end(self, trainer, pl_module):
        if isinstance(pl_module, self.plan):
            raise self.error


@pytest.mark.parametrize("plan", [SharedPlan, RegressionPlan, SpecificPlan])
def test_an_error_in_any_stage_changes_nothing(plan, trained):
    before = state_of(trained)
    with pytest.raises(RuntimeError, match="no luck"):
        trained.train(lambda_=10.0, callbacks=[_Fail(plan, RuntimeError("no luck"))], plan_kwargs=UNGATED, **ONE)
    assert_same_state(before, state_of(trained))


@pytest.mark.parametrize(
    ("stages", "plan", "first"),
    [
        (("shared", "specific"), SharedPlan, "shared"),
        (("shared",), SharedPlan, "shared"),
        (("specific",), RegressionPlan, "flow"),
    ],
)
def test_interrupting_the_first_stage_changes_nothing(stages, plan, first, trained, monkeypatch):
    monkeypatch.setattr(_stages, "needs_flow", lambda *_: True)
    before = state_of(trained)
    with pytest.warns(EarlyEndWarning) as caught:
        outcome = trained.train(stages=stages, callbacks=[_Fail(plan, KeyboardInterrupt())], **ONE)
    assert [str(warning.message).split(".")[0] for warning in caught if warning.category is EarlyEndWarning] == [
        f"Stage {first!r}: Interrupted",
        "The first stage was not completed: the model keeps its previous training",
    ]
    assert not outcome.is_applied
    assert outcome.is_interrupted
    assert outcome.reason.startswith(f"Stage {first!r}: Interrupted.")
    assert [fit.stage for fit in outcome.fits] == [first]
    assert_same_state(before, state_of(trained))


def test_interrupting_a_later_stage_keeps_the_training_so_far(trained):
    model = IndiSeek(trained.adata, n_shared=4)
    model.take_over(trained)
    before = model.module
    with pytest.warns(EarlyEndWarning, match="Stage 'specific': Interrupted"):
        outcome = model.train(
            lambda_=10.0, callbacks=[_Fail(SpecificPlan, KeyboardInterrupt())], plan_kwargs=UNGATED, **ONE
        )
    assert outcome.is_applied
    assert outcome.is_interrupted
    assert model.module is not before
    assert model.lambda_ == 10.0
    assert all(np.isfinite(latent).all() for latent in all_latents(model).values())


def test_a_modality_without_variation_changes_nothing(trained):
    before, proteins = state_of(trained), trained.adata["adt"].X.copy()
    trained.adata["adt"].X = proteins[np.zeros(240, dtype=int)]
    with pytest.raises(ValueError, match=r"mdata\['adt'\]: none of its 12 features varies among the training cells"):
        trained.train(**ONE)
    trained.adata["adt"].X = proteins
    assert_same_state(before, state_of(trained))


def test_counts_of_a_single_protein_are_rejected():
    mdata = make_cells()
    mdata = mudata.MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][:, :1].copy()})
    mdata["adt"].X = mdata["adt"].X.toarray() + 1
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    with pytest.raises(
        ValueError,
        match=r"mdata\['adt'\]: none of its 1 features .* Counts of a single feature cannot be normalised .*: give log-transformed values",
    ):
        model.train(**ONE)
    assert model.stages_ == []
    assert model.split_ == {}


def test_non_finite_values_change_nothing(trained):
    before, genes = state_of(trained), trained.adata["rna"].X
    trained.adata["rna"].X = genes.toarray()
    trained.adata["rna"].X[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"mdata\['rna'\].* not finite.*'cell_7'"):
        trained.train(**ONE)
    trained.adata["rna"].X = genes
    assert_same_state(before, state_of(trained))


# --- epochs and results ---------------------------------------------------------------------------


@pytest.mark.parametrize(("max_epochs", "n_epochs"), [(1, 1), (np.int64(2), 2)])
def test_max_epochs_applies_to_every_stage(max_epochs, n_epochs, trained, monkeypatch):
    monkeypatch.setattr(_stages, "needs_flow", lambda *_: True)
    monkeypatch.setattr(_stages, "explains", lambda *_: True)
    model = IndiSeek(trained.adata, n_shared=4)
    outcome = model.train(max_epochs, enable_progress_bar=False)
    figures = {
        "shared": "train_loss",
        "flow": "rna_train_loss",
        "critics": "adt_train_loss",
        "specific": "rna_nce_train_loss",
        "decoder": "adt_train_loss",
    }
    assert {stage: len(model.history[f"{stage}/{figure}"]) for stage, figure in figures.items()} == dict.fromkeys(
        figures, n_epochs
    )
    stages = ["shared", "flow", "critics", "specific", "decoder"]
    assert [fit.stage for fit in outcome.fits] == stages
    assert [fit.n_epochs for fit in outcome.fits] == [n_epochs] * len(stages)
    assert outcome.reason is None
    assert outcome.is_applied
    assert not outcome.is_interrupted
    assert outcome.seconds == sum(fit.seconds for fit in outcome.fits) > 0
    assert repr(outcome).startswith(f"TrainingOutcome: shared {n_epochs} epochs (")


def test_repr_of_an_outcome():
    fits = (
        StageFit("shared", {}, {}, 3, 1.4, None, False),
        StageFit("flow", {}, {}, 2, 12.6, "Interrupted. The best weights so far were kept.", True),
    )
    whole = TrainingOutcome(fits[:1])
    assert repr(whole) == "TrainingOutcome: shared 3 epochs (1 s)."
    early = TrainingOutcome(fits, "Stage 'flow': Interrupted. The best weights so far were kept.", True)
    assert repr(early) == (
        "TrainingOutcome: shared 3 epochs (1 s), flow 2 epochs (13 s). Ended early. "
        "Stage 'flow': Interrupted. The best weights so far were kept."
    )
    assert early.seconds == pytest.approx(14.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_representations_end_the_stage_with_finite_weights(value, trained, monkeypatch):
    """The Cholesky factor of the canonical term is computed before the loss is checked."""
    terms, calls = IndiSeekModule.shared_terms, []

    def broken(module, features):
        calls.extend([1] * module.training)
        return terms(module, {name: x * (value if len(calls) > 2 else 1.0) for name, x in features.items()})

    monkeypatch.setattr(IndiSeekModule, "shared_terms", broken)
    model = IndiSeek(trained.adata, n_shared=4)
    with pytest.warns(EarlyEndWarning, match="The loss became nan in epoch 3. The best weights so far were kept"):
        outcome = model.train(max_epochs=6, stages=("shared",), enable_progress_bar=False)
    assert outcome.is_applied
    assert not outcome.is_interrupted
    assert outcome.reason.startswith("Stage 'shared': The loss became nan in epoch 3.")
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(model.get_latent_representation(kind="shared", modality="adt")).all()

    calls.clear()
    before = state_of(trained)
    with pytest.warns(EarlyEndWarning, match="The first stage was not completed"):
        outcome = trained.train(max_epochs=6, enable_progress_bar=False)
    assert not outcome.is_applied
    assert_same_state(before, state_of(trained))


def test_the_trainer_of_a_model_holds_no_data(pbmc_small, monkeypatch):
    seen = []
    make = StageData.__init__

    def note(data, cells, *args, **kwargs):
        parts = [x for part in cells.values() for x in (part.values() if isinstance(part, dict) else [part])]
        seen.extend(weakref.ref(x) for x in parts)
        make(data, cells, *args, **kwargs)

    monkeypatch.setattr(StageData, "__init__", note)
    model = fit(pbmc_small)
    gc.collect()
    assert len(seen) >= 20
    assert not [x for x in seen if x() is not None]
    assert model.trainer is not None


def test_csc_matrices_are_converted_once_per_training_and_once_per_encoding(pbmc_small, monkeypatch):
    expected = fit(pbmc_small.copy(), train={"stages": ("shared",)})
    mdata = pbmc_small.copy()
    mdata["rna"].X = sp.csc_matrix(mdata["rna"].X)
    converted = []
    convert = sp.csc_matrix.tocsr
    monkeypatch.setattr(
        sp.csc_matrix, "tocsr", lambda x, copy=False: converted.append(x.shape) or convert(x, copy=copy)
    )
    model = fit(mdata, train={"stages": ("shared",)})
    assert converted == [mdata["rna"].shape]
    with isk.settings.override(cells_at_once=100):
        latent = model.get_latent_representation(kind="shared", modality="rna")
    assert converted == [mdata["rna"].shape] * 2
    np.testing.assert_array_equal(latent, expected.get_latent_representation(kind="shared", modality="rna"))
