"""Fit of one stage: end, history, progress bar, and user options."""

from __future__ import annotations

import copy
import random
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from indiseek_sc._keys import ROLES
from indiseek_sc.module import Optimisation
from indiseek_sc.nn import LinearMap
from indiseek_sc.train import (
    EarlyEndWarning,
    KeepBest,
    NonFiniteLossError,
    RegressionPlan,
    SharedPlan,
    SpecificPlan,
    choose_device,
    isolated_seed,
    merge_history,
)

DEFAULT = Optimisation()
LARGE_LEARNING_RATE = Optimisation(learning_rate=10.0)


class RaiseIn(Callback):
    """Raises an error in the second batch of an epoch, counted from 0."""

    def __init__(self, epoch: int, error: BaseException) -> None:
        self.epoch, self.error = epoch, error

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            raise self.error


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_equal_weights(first, second):
    for name, p in weights(first).items():
        assert torch.equal(p, weights(second)[name]), name


def set_good_start(module):
    """Set the encoders to the two features that both modalities have in common."""
    for role in ROLES:
        weight = torch.zeros(module.n_features[role], 3)
        weight[[0, 1], [0, 1]] = 1.0
        module.encoders[role].start_from(LinearMap(torch.zeros(module.n_features[role]), weight))


@pytest.fixture
def after(make_module, features, run):
    """Return a function that trains a module for some epochs without interruption."""

    def train(n_epochs):
        module = make_module()
        run(SharedPlan(module, DEFAULT), features, max_epochs=n_epochs)
        return module

    return train


def test_stage_ends_in_evaluation_mode_without_warnings(make_module, features, run):
    module = make_module()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = run(SharedPlan(module, DEFAULT), features)
    assert fit.reason is None
    assert not fit.is_interrupted
    assert not module.training
    assert (fit.stage, fit.n_epochs) == ("stage", 2)
    assert fit.seconds > 0


def test_frozen_modules_stay_in_evaluation_mode(make_module, features, run):
    module = make_module()
    module.frozen = ("rotations", "encoder_decoders")
    modes = []

    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            modes.append({name: part.training for name, part in module.named_children()})

    run(SharedPlan(module, DEFAULT), features, callbacks=(Look(),))
    assert len(modes) == 6  # before, between and after validations
    for mode in modes:
        assert mode["encoders"]
        assert not mode["rotations"]
        assert not mode["encoder_decoders"]


def test_histories_of_stages_are_merged(make_module, features, run):
    module = make_module()

    def fit(stage, n_epochs=2):
        return run(SharedPlan(module, DEFAULT), features, stage=stage, max_epochs=n_epochs)

    first = merge_history({}, [fit("first")])
    assert first
    assert all(name.startswith("first/") for name in first)
    assert all(isinstance(values, pd.DataFrame) and values.index.name == "epoch" for values in first.values())
    both = merge_history(first, [fit("second", 3)])
    assert {name.split("/")[0] for name in both} == {"first", "second"}
    assert all(both[name] is values for name, values in first.items())
    again = merge_history(both, [fit("first", 1)])
    assert len(again["first/train_loss"]) == 1  # of the new training only
    assert len(again["second/train_loss"]) == 3
    assert len(both["first/train_loss"]) == 2  # the input is unchanged


def test_history_of_a_repeated_stage_is_replaced(make_module, features, run):
    module = make_module()
    fits = [
        run(SharedPlan(module, DEFAULT), features, stage=stage, max_epochs=n)
        for stage, n in (("flow", 1), ("flow_again", 2), ("flow", 3))
    ]
    history = merge_history({}, fits)
    assert (len(history["flow/train_loss"]), len(history["flow_again/train_loss"])) == (3, 2)
    assert fits[0].without_history().history == {}
    assert fits[0].without_history().n_epochs == 1
    assert fits[0].history


def test_stage_never_ends_worse_than_it_started(make_module, features, run):
    module = make_module()
    set_good_start(module)
    before = weights(module)
    keep_best = KeepBest({"validation_info_nce": module}, patience=0)
    fit = run(SharedPlan(module, LARGE_LEARNING_RATE), features, keep_best=keep_best, stage="shared")
    assert keep_best.best_epochs == {"validation_info_nce": 0}
    assert all(torch.equal(p, before[name]) for name, p in weights(module).items())
    assert fit.history["shared/best_epoch"]["best_epoch"].tolist() == [-1]  # the state before the first epoch


def test_best_epoch_is_restored_and_recorded(make_module, features, run):
    module = make_module(dropout=0.0, info_nce_weight=1.0, prediction_weight=0.0)
    plan = SharedPlan(module, Optimisation(learning_rate=0.05))
    keep_best = KeepBest({"validation_info_nce": module}, patience=0, smallest_gain=0.0)
    history = run(plan, features, keep_best=keep_best, stage="shared", max_epochs=40).history
    figures = history["shared/validation_info_nce"].to_numpy(dtype=float).ravel()
    best = int(figures.argmin())
    assert 0 < best < 39  # neither the first nor the last epoch
    assert history["shared/best_epoch"].iloc[0, 0] == best
    with torch.no_grad():
        held_out = {role: x[90:] for role, x in features.items()}
        assert module.shared_terms(held_out)["info_nce"].item() == pytest.approx(figures[best], rel=1e-6)


def test_early_stopping(make_module, features, run):
    module = make_module()
    set_good_start(module)
    keep_best = KeepBest({"validation_info_nce": module}, patience=3)
    history = run(SharedPlan(module, LARGE_LEARNING_RATE), features, keep_best=keep_best, max_epochs=50).history
    assert len(history["stage/train_loss"]) == 3


def test_non_finite_loss_restores_the_last_complete_epoch(make_module, features, run, after, monkeypatch):
    module = make_module()
    break_in_epoch(module, monkeypatch, 2)
    with pytest.warns(EarlyEndWarning, match="Stage 'stage': The loss became inf in epoch 3. The best weights so far"):
        fit = run(SharedPlan(module, DEFAULT), features, max_epochs=5)
    assert fit.reason.startswith("The loss became inf in epoch 3.")
    assert_equal_weights(module, after(2))
    assert not module.training
    assert len(fit.history["stage/train_loss"]) == 2


def test_interruption_keeps_a_complete_epoch_and_restores_the_signal_handler(make_module, features, run, after):
    def marker(number, frame): ...

    module = make_module()
    handler = signal.signal(signal.SIGINT, marker)
    try:
        with pytest.warns(EarlyEndWarning, match="Stage 'stage': Interrupted. The best weights so far were kept"):
            fit = run(SharedPlan(module, DEFAULT), features, max_epochs=5, callbacks=(RaiseIn(2, KeyboardInterrupt()),))
        assert signal.getsignal(signal.SIGINT) is marker
    finally:
        signal.signal(signal.SIGINT, handler)
    assert fit.reason == "Interrupted. The best weights so far were kept."
    assert_equal_weights(module, after(2))
    assert not module.training
    assert len(fit.history["stage/train_loss"]) == 2


def test_interruption_keeps_the_best_weights(make_module, features, run):
    module = make_module()
    set_good_start(module)
    before = weights(module)
    keep_best = KeepBest({"validation_info_nce": module}, patience=0)
    with pytest.warns(EarlyEndWarning, match="Interrupted"):
        run(
            SharedPlan(module, LARGE_LEARNING_RATE),
            features,
            keep_best=keep_best,
            max_epochs=5,
            callbacks=(RaiseIn(2, KeyboardInterrupt()),),
        )
    assert all(torch.equal(p, before[name]) for name, p in weights(module).items())


def test_other_errors_propagate_and_leave_a_complete_epoch(make_module, features, run, after):
    module = make_module()
    with pytest.raises(RuntimeError, match="disk full"):
        run(SharedPlan(module, DEFAULT), features, max_epochs=5, callbacks=(RaiseIn(1, RuntimeError("disk full")),))
    assert_equal_weights(module, after(1))
    assert not module.training


def test_callbacks_of_the_user_are_unchanged(make_module, features, run):
    callbacks = [Callback()]
    run(SharedPlan(make_module(), DEFAULT), features, callbacks=callbacks)
    assert len(callbacks) == 1


def test_progress_bar(make_module, features, run, capsys):
    run(SharedPlan(make_module(), DEFAULT), features, max_epochs=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown
    run(SharedPlan(make_module(), DEFAULT), features, max_epochs=3)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_no_files_are_written(make_module, features, run, tmp_path):
    run(SharedPlan(make_module(), DEFAULT), features)
    assert list(tmp_path.iterdir()) == []


def states() -> list[object]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


def test_isolated_seed_does_not_affect_other_random_states():
    torch.manual_seed(5)
    before = states()
    with isolated_seed(0):
        first = torch.randn(4)
    assert states() == before
    expected = torch.randn(4)
    torch.manual_seed(5)
    with isolated_seed(0):
        again = torch.randn(4)
    assert torch.equal(first, again)
    assert torch.equal(torch.randn(4), expected)
    with isolated_seed(1):
        assert not torch.equal(torch.randn(4), first)


def test_random_state_is_restored_after_errors():
    before = states()
    with pytest.raises(KeyError), isolated_seed(0):
        torch.randn(4)
        raise KeyError
    assert states() == before


# Options of the user


def test_loggers_of_the_user_receive_all_metrics(make_module, features, run, tmp_path):
    loggers = [CSVLogger(str(tmp_path / name), name="", version="") for name in ("first", "second")]
    fit = run(SharedPlan(make_module(), DEFAULT), features, stage="shared", max_epochs=3, loggers=tuple(loggers))
    for name in ("first", "second"):
        written = pd.read_csv(tmp_path / name / "metrics.csv")
        assert set(fit.history) == {f"shared/{figure}" for figure in written.columns.drop(["epoch", "step"])}
        for key, values in fit.history.items():
            rows = written.dropna(subset=key.removeprefix("shared/"))
            assert values.index.tolist() == rows["epoch"].tolist() == [0, 1, 2]
            found = rows[key.removeprefix("shared/")].to_numpy()
            np.testing.assert_allclose(values.to_numpy(dtype=float).ravel(), found, rtol=1e-6)


class ReadGradients(Callback):
    """Records the gradients of each optimiser before and after clipping."""

    def __init__(self, plan):
        self.before, self.after = [], []
        plan.on_before_optimizer_step = lambda optimizer: self.after.append(self.read(optimizer))  # after all callbacks

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.before.append(self.read(optimizer))

    @staticmethod
    def read(optimizer):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        return id(optimizer), torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).clone()


def clip(gradient, limit, algorithm):
    return (
        gradient.clamp(-limit, limit) if algorithm == "value" else gradient * min(1.0, limit / gradient.norm().item())
    )


def fit_and_read(make_plan, cells, run, **kwargs):
    plan = make_plan()
    read = ReadGradients(plan)
    run(plan, cells, callbacks=(read,), max_epochs=2, **kwargs)
    return plan, read


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 1e-3), ("norm", 1e6), ("value", 1e-4)])
def test_gradients_of_stage_1_are_clipped(make_module, features, run, algorithm, limit):
    clipping = {"gradient_clip_val": limit, "gradient_clip_algorithm": algorithm}
    _, read = fit_and_read(lambda: SharedPlan(make_module(), DEFAULT), features, run, **clipping)
    assert len(read.before) == len(read.after) == 6
    for (_, raw), (_, clipped) in zip(read.before, read.after, strict=True):
        torch.testing.assert_close(clipped, clip(raw, limit, algorithm), rtol=1e-4, atol=1e-12)
        assert torch.equal(raw, clipped) == (limit == 1e6)


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 1e-3), ("value", 1e-4)])
def test_gradients_of_both_optimisers_of_stage_2_are_clipped(make_module, prepare, run, algorithm, limit):
    module = make_module()
    cells = prepare(module)
    for role in ROLES:
        torch.nn.init.normal_(module.encoder_decoders[role].correction[-1].weight, std=0.5)
    plan, read = fit_and_read(
        lambda: SpecificPlan(module, Optimisation(n_critic_warmup_steps=0), lambda_=1.0, n_steps=6),
        cells,
        run,
        n_extra=2,
        gradient_clip_val=limit,
        gradient_clip_algorithm=algorithm,
    )
    encoders, critics = map(id, plan.trainer.optimizers)
    assert [optimizer for optimizer, _ in read.after] == [critics, critics, encoders] * 6
    for (_, raw), (_, clipped) in zip(read.before, read.after, strict=True):
        torch.testing.assert_close(clipped, clip(raw, limit, algorithm), rtol=1e-4, atol=1e-12)
        assert not torch.equal(raw, clipped)


def test_gradients_are_unchanged_without_clipping(make_module, features, run):
    _, read = fit_and_read(lambda: SharedPlan(make_module(), DEFAULT), features, run)
    assert all(torch.equal(raw, used) for (_, raw), (_, used) in zip(read.before, read.after, strict=True))


def test_limit_train_batches(make_module, features, run):
    plan = SharedPlan(make_module(), DEFAULT)
    run(plan, features, max_epochs=3, limit_train_batches=2)
    assert plan.trainer.global_step == 6


# Validation and non-finite losses


class Epochs(Callback):
    """Records the numbers of complete epochs at validations."""

    def __init__(self):
        self.validated, self.trained = [], 0

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(0 if trainer.sanity_checking else trainer.current_epoch + 1)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.trained += 1


def break_in_epoch(module, monkeypatch, epoch, value=float("inf")):
    """Make the loss of stage 1 non-finite in the second of three batches of an epoch."""
    objective, n_calls = module.shared_objective, 0

    def broken(terms):
        nonlocal n_calls
        n_calls += module.training
        return objective(terms) * (value if n_calls == 3 * epoch + 2 and module.training else 1.0)

    monkeypatch.setattr(module, "shared_objective", broken)


def test_validation_in_every_second_epoch(make_module, features, run):
    epochs = Epochs()
    fit = run(
        SharedPlan(make_module(), DEFAULT), features, max_epochs=6, check_val_every_n_epoch=2, callbacks=(epochs,)
    )
    assert epochs.validated == [0, 2, 4, 6]
    assert fit.history["stage/validation_loss"].index.tolist() == [1, 3, 5]
    assert fit.history["stage/train_loss"].index.tolist() == [0, 1, 2, 3, 4, 5]
    assert fit.best_epochs == {"latest": 6}


def test_short_stage_is_validated_at_its_end(make_module, features, run, after):
    module, epochs = make_module(), Epochs()
    fit = run(SharedPlan(module, DEFAULT), features, max_epochs=2, check_val_every_n_epoch=9, callbacks=(epochs,))
    assert epochs.validated == [0, 2]
    assert fit.best_epochs == {"latest": 2}
    assert_equal_weights(module, after(2))


@pytest.mark.parametrize(("epoch", "last_good"), [(2, 2), (3, 2), (4, 4)])
def test_non_finite_loss_between_validations_restores_validated_weights(
    make_module, features, run, after, monkeypatch, epoch, last_good
):
    module, epochs = make_module(), Epochs()
    break_in_epoch(module, monkeypatch, epoch)
    with pytest.warns(EarlyEndWarning, match=f"The loss became inf in epoch {epoch + 1}. The best weights so far"):
        fit = run(SharedPlan(module, DEFAULT), features, max_epochs=8, check_val_every_n_epoch=2, callbacks=(epochs,))
    assert epochs.validated == [0, 2, 4][: last_good // 2 + 1]
    assert epochs.trained == 3 * (epoch + 1)  # detected at the end of the epoch
    assert (fit.n_epochs, fit.best_epochs) == (epoch, {"latest": last_good})
    assert_equal_weights(module, after(last_good))
    assert all(p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
def test_no_validation_after_a_non_finite_loss(make_module, features, run, after, monkeypatch, value):
    module, epochs = make_module(), Epochs()
    break_in_epoch(module, monkeypatch, 1, value)
    with pytest.warns(EarlyEndWarning, match=f"The loss became {value} in epoch 2. "):
        fit = run(SharedPlan(module, DEFAULT), features, max_epochs=5, callbacks=(epochs,))
    assert epochs.validated == [0, 1]
    assert not fit.is_interrupted
    assert_equal_weights(module, after(1))


def test_earlier_non_finite_loss_is_remembered(make_module):
    plan = SharedPlan(make_module(), DEFAULT)
    plan.on_validation_epoch_start()  # no loss yet
    for loss in (1.0, float("nan"), float("inf"), 2.0):
        assert plan.watch(torch.tensor(loss)).item() == pytest.approx(loss, nan_ok=True)
    for ask in (plan.on_validation_epoch_start, plan.on_train_epoch_end):
        with pytest.raises(NonFiniteLossError, match="The loss became nan in epoch 1"):
            ask()


@pytest.mark.parametrize("broken", ["critic_losses", "specific_terms"])
def test_non_finite_losses_of_critics_and_encoders_are_detected(make_module, prepare, run, monkeypatch, broken):
    module = make_module()
    cells = prepare(module)
    before = copy.deepcopy(module)
    compute, n_calls = getattr(module, broken), 0

    def break_once(name, cells):
        nonlocal n_calls
        values = compute(name, cells)
        n_calls += module.training
        return {key: x * (float("nan") if n_calls == 3 and module.training else 1.0) for key, x in values.items()}

    monkeypatch.setattr(module, broken, break_once)
    plan = SpecificPlan(module, Optimisation(n_critic_warmup_steps=0), lambda_=1.0, n_steps=6)
    with pytest.warns(EarlyEndWarning, match="Stage 'stage': The loss became nan in epoch 1. The best weights so far"):
        fit = run(plan, cells, n_extra=2)
    assert fit.n_epochs == 0
    assert_equal_weights(module, before)


# Devices


@pytest.mark.parametrize("accelerator", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_modules_stay_on_the_device(make_module, features, prepare, run, accelerator):
    device = choose_device(accelerator)
    module = make_module()
    cells = prepare(module)
    for role in ROLES:
        cells[role]["values"] = module.encoder_decoders[role].scores(features[role], cells[role]["condition"])
    parts = {role: copy.deepcopy(module.encoder_decoders[role].flow) for role in ROLES}  # not parts of the module

    def loss(role, cells):
        return parts[role].loss(cells["values"], cells["condition"])

    plans = {
        "shared": lambda: SharedPlan(module, DEFAULT),
        "regression": lambda: RegressionPlan(module, parts, loss, n_steps=6, learning_rate=1e-2, weight_decay=1e-2),
        "specific": lambda: SpecificPlan(module, DEFAULT, lambda_=1.0, n_steps=6),
    }
    for stage, make in plans.items():
        plan = make()
        run(
            plan,
            features if stage == "shared" else cells,
            stage=stage,
            device=device,
            n_extra=2 * (stage == "specific"),
        )
        for part in (plan, module, copy.deepcopy(module), *(parts.values() if stage != "shared" else ())):
            assert {x.device for x in part.state_dict().values()} == {device.torch}, stage
        assert plan.device == device.torch
