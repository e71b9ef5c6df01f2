"""Choice of lambda without held-out cells and without changing the model."""

from __future__ import annotations

import copy
import dataclasses
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc import IndiSeek
from indiseek_sc.datasets import synthetic
from indiseek_sc.metrics import SpecificAuditor
from indiseek_sc.model._cells import read_features
from indiseek_sc.model._run_stages import run_stages
from indiseek_sc.model._runs import RunOptions, copy_module, start_run
from indiseek_sc.model._stages import REUSED_START

FEW = {"shared": 2, "flow": 2, "specific": 4, "decoder": 1}
HELD_OUT = np.arange(0, 240, 5)
QUICK = {"max_epochs": FEW, "enable_progress_bar": False}
LAMBDAS = (1, 1000)


@pytest.fixture(scope="module")
def _cells_once():
    return synthetic.make("S6", 240, n_genes=60, n_proteins=12, seed=2)  # with some leak


@pytest.fixture
def cells(_cells_once):
    return _cells_once.copy()


def fit(mdata, **train):
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    # A short critic warm-up, for speed. Encoders are always trained, since with few cells no
    # dependence is detected and lambda would have no effect.
    optimisation = dataclasses.replace(
        model.settings.optimisation, n_critic_warmup_steps=4, keep_least_leak=False, gate_critics=False
    )
    model.settings = model.settings._replace(optimisation=optimisation)
    model.train(**{**QUICK, "held_out": HELD_OUT, **train})
    return model


@pytest.fixture(scope="module")
def fitted(_cells_once):
    return fit(_cells_once.copy())


@pytest.fixture(scope="module")
def path(fitted):
    return fitted.lambda_path(LAMBDAS, tolerance=1.0, **QUICK)


def fitted_copy(fitted):
    """Return a copy of the model with the same data."""
    model = copy.copy(fitted)
    model.module = copy.deepcopy(fitted.module)
    return model


def state_of(model):
    return {
        "weights": {name: x.clone() for name, x in model.module.state_dict().items()},
        "history": dict(model.history),
        "others": copy.deepcopy((model.lambda_, model.stages_, model.is_trained_, model.module.training)),
        "trainer": model.trainer,
        "torch": torch.get_rng_state(),
    }


def assert_same(first, second):
    for name, x in first["weights"].items():
        assert torch.equal(x, second["weights"][name]), name
    assert first["history"].keys() == second["history"].keys()
    assert all(first["history"][key] is second["history"][key] for key in first["history"])
    assert first["others"] == second["others"]
    assert first["trainer"] is second["trainer"]
    assert torch.equal(first["torch"], second["torch"])


def test_the_table_has_a_row_for_each_lambda_and_modality(path, fitted):
    assert path.table["lambda"].tolist() == [1000, 1000, 1, 1]
    assert path.table["modality"].tolist() == ["rna", "adt"] * 2
    figures = path.table[["leak", "leak_max", "leak_ratio_se", "leak_p", "gain", "complete"]]
    assert np.isfinite(figures).all(axis=None)
    assert path.chosen == 1000  # any leak is within this tolerance
    assert (path.n_train, path.n_test) == (fitted.split.train.size, fitted.split.validation.size)


def test_measures_of_the_shared_representations_do_not_depend_on_lambda(path):
    for _, rows in path.table.groupby("modality"):
        assert rows["leak_max"].nunique() == rows["r2_shared"].nunique() == 1
        assert rows["leak"].nunique() == 2


def test_the_model_is_unchanged(fitted):
    before = state_of(fitted)
    fitted.lambda_path([100], tolerance=1.0, **QUICK)
    assert_same(before, state_of(fitted))


def test_the_search_starts_from_the_trained_conditional_whitening(fitted):
    """The conditional whitening is not trained again, and its dropout is off."""
    options = RunOptions(dataclasses.replace(fitted.settings.optimisation, gate_critics=True))
    run, values = start_run(fitted, fitted.adata, copy_module(fitted, options), fitted.split, options)
    values = run_stages(REUSED_START, run, values)
    assert [fit.stage for fit in run.fits] == ["critics"]
    with torch.no_grad():
        for role in ("rna", "adt"):
            module, features = fitted.module, values["features"][role]
            condition = module.condition(role, module.shared(role, features), values["design"])
            start = module.encoder_decoders[role].prepare(features, condition)["start"]
            torch.testing.assert_close(values["cells"][role]["start"], start)
            specific = run.module.encode_prepared(role, values["cells"][role])
            assert torch.corrcoef(torch.stack([specific[:, 0], start[:, 0]]))[0, 1] > 0.999


def test_a_model_without_specific_representations_is_searched_and_unchanged(cells):
    model = fit(cells, stages=("shared",))
    model.lambda_path([100], tolerance=1.0, **QUICK)
    with pytest.raises(RuntimeError, match="specific representations are not trained yet"):
        model.audit()


def test_held_out_cells_are_never_read(cells, path, monkeypatch):
    """Features of held-out cells are NaN, which would change the results if they were used."""
    model = fit(cells)
    seen = []

    def poisoned(model, mdata, role, rows, module=None, matrix=None):
        values = read_features(model, mdata, role, rows, module, matrix)
        values[np.isin(rows, HELD_OUT)] = torch.nan
        seen.append(np.isin(rows, HELD_OUT).sum())
        return values

    monkeypatch.setattr("indiseek_sc.model._runs.read_features", poisoned)
    np.testing.assert_array_equal(model.lambda_path(LAMBDAS, tolerance=1.0, **QUICK).table, path.table)
    assert seen == [0, 0]


def test_the_smallest_leak_is_chosen_with_a_warning_if_none_is_within_the_tolerance(fitted):
    with pytest.warns(UserWarning, match="No lambda keeps the leak ratio within 0 in both modalities"):
        path = fitted.lambda_path(LAMBDAS, tolerance=0.0, **QUICK)
    worst = path.table.groupby("lambda")["leak_ratio"].max()
    assert path.chosen == worst.idxmin()
    assert not path.is_within


def test_applied_representations_are_those_that_were_evaluated(fitted, path):
    model = fitted_copy(fitted)
    applied = model.lambda_path(LAMBDAS, tolerance=1.0, apply=True, **QUICK)
    assert model.lambda_ == model.chosen_path.chosen == 1000
    split, names = model.split, ("rna", "adt")
    rows = np.concatenate([split.train, split.validation])
    latents = {
        kind: {name: model.get_latent_representation(kind=kind, modality=name, indices=np.sort(rows)) for name in names}
        for kind in ("shared", "specific")
    }
    features = {name: model.get_features(modality=name, indices=np.sort(rows)) for name in names}
    place = {part: np.searchsorted(np.sort(rows), getattr(split, part)) for part in ("train", "validation")}
    evaluate = SpecificAuditor(features, latents["shared"], train=place["train"], test=place["validation"])
    leaks = evaluate(latents["specific"])["leak"]
    np.testing.assert_allclose(leaks, applied.table["leak"][:2], atol=2e-3)
    np.testing.assert_array_equal(applied.table, path.table)


@pytest.mark.slow
def test_auto_chooses_the_first_lambda_within_the_tolerance_and_is_saved(tmp_path, capsys):
    cells = synthetic.make("S6", 240, n_genes=60, n_proteins=12)  # without leak at the largest lambda
    model = fit(cells, lambda_="auto")
    assert model.lambda_ == 1000
    assert model.chosen_path.table["lambda"].unique().tolist() == [1000]
    stages = {key.split("/")[0] for key in model.history}
    assert stages - {"flow", "critics"} == {"shared", "specific", "decoder"}
    model.save(str(tmp_path / "model"))
    loaded = IndiSeek.load(str(tmp_path / "model"), adata=cells)
    assert loaded.lambda_ == 1000
    assert str(loaded.chosen_path) == str(model.chosen_path)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    repr(loaded)
    assert "Lambda 1000, chosen on validation cells" in " ".join(capsys.readouterr().out.split())
    latents = model.get_latent_representation()
    model.train(lambda_=1000, held_out=HELD_OUT, **QUICK)
    assert model.chosen_path is None
    np.testing.assert_array_equal(model.get_latent_representation(), latents)


def test_results_do_not_depend_on_the_order_of_lambdas(fitted, path):
    """Training at every lambda starts from the same state."""
    alone = [fitted.lambda_path([value], tolerance=1.0, **QUICK).table for value in (1000, 1)]
    np.testing.assert_array_equal(path.table[:2], alone[0])
    np.testing.assert_array_equal(path.table[2:], alone[1])


class _Stop(Callback):
    def __init__(self, n_stages):
        self.n_stages = n_stages

    def on_train_epoch_end(self, trainer, pl_module):
        if "rna_error" in trainer.callback_metrics and trainer.current_epoch == 0:
            self.n_stages -= 1
            if self.n_stages == 0:
                raise KeyboardInterrupt


def test_an_interrupted_search_returns_completed_lambdas(fitted, monkeypatch):
    # Train encoders even if no dependence is detected.
    monkeypatch.setattr("indiseek_sc.model._stages.find_dependence", lambda *_: True)
    with pytest.warns(UserWarning, match="Stage 'specific': Interrupted"):
        path = fitted.lambda_path(LAMBDAS, tolerance=1.0, callbacks=[_Stop(2)], **QUICK)
    assert path.table["lambda"].unique().tolist() == [1000]
    with (
        pytest.warns(UserWarning, match="Stage 'specific': Interrupted"),
        pytest.raises(RuntimeError, match="Training at the largest lambda was not completed. Interrupted"),
    ):
        fitted.lambda_path(LAMBDAS, callbacks=[_Stop(1)], **QUICK)


def test_invalid_arguments_are_rejected(fitted, cells, monkeypatch):
    for wrong in ([], [0], [-1, 10], [np.inf]):
        with pytest.raises(ValueError, match="lambdas must be"):
            fitted.lambda_path(wrong)
    with pytest.raises(ValueError, match="tolerance must"):
        fitted.lambda_path(tolerance=-1)
    with pytest.raises(ValueError, match="n_jobs must be at least 1"):
        fitted.lambda_path(n_jobs=0)
    with pytest.raises(ValueError, match="lambda_ must be a number or 'auto', but is 'best'"):
        fitted.train(lambda_="best")
    IndiSeek.setup_mudata(cells)
    with pytest.raises(RuntimeError, match="shared representations are not trained yet"):
        IndiSeek(cells).lambda_path()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'n_jobs=2 needs Ray Tune. Install it by pip install "indiseek_sc\[tune\]"'):
        fitted.lambda_path([100], n_jobs=2, **QUICK)


@pytest.mark.slow
def test_parallel_results_equal_sequential_results(fitted):
    pytest.importorskip("ray.tune", reason='Ray Tune is not installed: pip install "indiseek_sc[tune]"')
    model = fitted_copy(fitted)
    parallel = model.lambda_path(LAMBDAS, tolerance=1.0, n_jobs=2, **QUICK)
    alone = model.lambda_path(LAMBDAS, tolerance=1.0, **QUICK).table.set_index("modality")
    np.testing.assert_allclose(parallel.table.set_index("modality"), alone, atol=1e-5)
    assert parallel.table["lambda"].tolist() == [1000, 1000, 1, 1]
    applied = fitted_copy(fitted)
    applied.lambda_path(LAMBDAS, tolerance=1.0, n_jobs=2, apply=True, **QUICK)
    assert applied.lambda_ == 1000


def test_ending_at_the_choice_does_not_change_it(fitted, path):
    short = fitted.lambda_path(LAMBDAS, tolerance=1.0, stop_early=True, **QUICK)
    assert short.chosen == path.chosen == 1000 and short.reason == path.reason
    np.testing.assert_array_equal(short.table, path.table[path.table["lambda"] == 1000])
