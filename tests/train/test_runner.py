from __future__ import annotations

import signal
import warnings
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc._keys import ROLES
from indiseek_sc.nn import LinearMap
from indiseek_sc.train import KeepBest, SharedPlan


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


def start_well(module):
    """Let the encoders read the two features that both modalities have in common, as closely as they can be read."""
    for role in ROLES:
        weight = torch.zeros(module.n_features[role], 3)
        weight[[0, 1], [0, 1]] = 1.0
        module.encoders[role].start_from(LinearMap(torch.zeros(module.n_features[role]), weight))


@pytest.fixture
def after(make_module, features, run):
    """Return a function that trains a module for some epochs, undisturbed."""

    def train(n_epochs):
        module = make_module()
        run(SharedPlan(module), features, max_epochs=n_epochs)
        return module

    return train


def test_a_stage_ends_in_evaluation_without_a_word(make_module, features, run):
    module = make_module()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner = run(SharedPlan(module), features)
    assert runner.reason is None
    assert not module.training
    assert runner.model.trainer is runner.trainer


def test_training_is_in_training_mode_except_for_what_is_frozen(make_module, features, run):
    module = make_module()
    module.frozen = ("rotations", "codecs")
    modes = []

    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            modes.append({name: part.training for name, part in module.named_children()})

    run(SharedPlan(module), features, callbacks=[Look()])
    assert len(modes) == 6  # before, between and after validations
    for mode in modes:
        assert mode["encoders"]
        assert not mode["rotations"]
        assert not mode["codecs"]


def test_histories_of_stages_stand_side_by_side(make_module, features, run):
    module = make_module()
    model = SimpleNamespace(module=module, history_=None)
    run(SharedPlan(module), features, model=model, stage="first")
    first = dict(model.history_)
    assert first
    assert all(name.startswith("first/") for name in first)
    assert all(isinstance(values, pd.DataFrame) and values.index.name == "epoch" for values in first.values())
    run(SharedPlan(module), features, model=model, stage="second", max_epochs=3)
    assert {name.split("/")[0] for name in model.history_} == {"first", "second"}
    assert all(model.history_[name] is values for name, values in first.items())
    run(SharedPlan(module), features, model=model, stage="first", max_epochs=1)
    assert len(model.history_["first/train_loss"]) == 1  # of the new training alone
    assert len(model.history_["second/train_loss"]) == 3


def test_a_stage_ends_no_worse_than_it_began(make_module, features, run):
    module = make_module(learning_rate=10.0)
    start_well(module)
    before = weights(module)
    keep_best = KeepBest({"validation_info_nce": module}, patience=0)
    runner = run(SharedPlan(module), features, keep_best=keep_best, stage="shared")
    assert keep_best.best_epochs == {"validation_info_nce": 0}
    assert all(torch.equal(p, before[name]) for name, p in weights(module).items())
    assert runner.model.history_["shared/best_epoch"]["best_epoch"].tolist() == [0]


def test_the_best_epoch_is_restored_and_written_down(make_module, features, run):
    module = make_module(learning_rate=0.05, dropout=0.0, info_nce_weight=1.0, prediction_weight=0.0)
    keep_best = KeepBest({"validation_info_nce": module}, patience=0, smallest_gain=0.0)
    history = run(SharedPlan(module), features, keep_best=keep_best, stage="shared", max_epochs=40).model.history_
    figures = history["shared/validation_info_nce"].to_numpy(dtype=float).ravel()
    best = int(figures.argmin())
    assert 0 < best < 39  # else the test would show nothing
    assert history["shared/best_epoch"].iloc[0, 0] == best
    with torch.no_grad():
        held_out = {role: x[90:] for role, x in features.items()}
        assert module.shared_terms(held_out)["info_nce"].item() == pytest.approx(figures[best], rel=1e-6)


def test_patience_stops_a_stage(make_module, features, run):
    module = make_module(learning_rate=10.0)
    start_well(module)
    keep_best = KeepBest({"validation_info_nce": module}, patience=3)
    history = run(SharedPlan(module), features, keep_best=keep_best, max_epochs=50).model.history_
    assert len(history["stage/train_loss"]) == 3


def test_a_loss_that_is_not_finite_ends_the_stage_with_the_last_whole_epoch(
    make_module, features, run, after, monkeypatch
):
    module = make_module()
    objective, n_calls = module.shared_objective, 0

    def break_in_the_eighth_batch(terms):
        nonlocal n_calls
        n_calls += module.training
        return objective(terms) * (float("inf") if n_calls == 8 else 1.0)

    monkeypatch.setattr(module, "shared_objective", break_in_the_eighth_batch)
    with pytest.warns(UserWarning, match="Stage 'stage': The loss became inf in epoch 3. The last good weights"):
        runner = run(SharedPlan(module), features, max_epochs=5)
    assert runner.reason.startswith("The loss became inf in epoch 3.")
    assert_equal_weights(module, after(2))
    assert not module.training
    assert len(runner.model.history_["stage/train_loss"]) == 2


def test_an_interrupted_stage_keeps_whole_weights_and_leaves_ctrl_c_as_it_was(make_module, features, run, after):
    def marker(number, frame): ...

    module = make_module()
    handler = signal.signal(signal.SIGINT, marker)
    try:
        with pytest.warns(UserWarning, match="Stage 'stage': Interrupted. The best weights so far were kept"):
            runner = run(SharedPlan(module), features, max_epochs=5, callbacks=[RaiseIn(2, KeyboardInterrupt())])
        assert signal.getsignal(signal.SIGINT) is marker
    finally:
        signal.signal(signal.SIGINT, handler)
    assert runner.reason == "Interrupted. The best weights so far were kept."
    assert_equal_weights(module, after(2))
    assert not module.training
    assert len(runner.model.history_["stage/train_loss"]) == 2


def test_an_interrupted_stage_keeps_the_best_so_far(make_module, features, run):
    module = make_module(learning_rate=10.0)
    start_well(module)
    before = weights(module)
    keep_best = KeepBest({"validation_info_nce": module}, patience=0)
    with pytest.warns(UserWarning, match="Interrupted"):
        run(
            SharedPlan(module), features, keep_best=keep_best, max_epochs=5, callbacks=[RaiseIn(2, KeyboardInterrupt())]
        )
    assert all(torch.equal(p, before[name]) for name, p in weights(module).items())


def test_other_errors_come_through_and_leave_whole_weights(make_module, features, run, after):
    module = make_module()
    with pytest.raises(RuntimeError, match="disk full"):
        run(SharedPlan(module), features, max_epochs=5, callbacks=[RaiseIn(1, RuntimeError("disk full"))])
    assert_equal_weights(module, after(1))
    assert not module.training


def test_callbacks_of_the_user_are_not_changed(make_module, features, run):
    callbacks = (Callback(),)
    run(SharedPlan(make_module()), features, callbacks=callbacks)
    assert len(callbacks) == 1


def test_the_progress_bar_counts_epochs(make_module, features, run, capsys):
    run(SharedPlan(make_module()), features, max_epochs=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown
    run(SharedPlan(make_module()), features, max_epochs=3)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_no_files_are_left_behind(make_module, features, run, tmp_path):
    run(SharedPlan(make_module()), features)
    assert list(tmp_path.iterdir()) == []
