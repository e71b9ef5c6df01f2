"""Recording of metrics: means over cells, once per epoch."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor

from indiseek_sc.module import Optimisation
from indiseek_sc.train import SharedPlan
from indiseek_sc.train._fit import History
from indiseek_sc.train._plans import Means


class Losses(Callback):
    """Records the loss of each batch, and the metric that callbacks see at the end of an epoch."""

    def __init__(self):
        self.epochs, self.read = [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append([])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.epochs[-1].append(outputs["loss"].item())

    def on_train_epoch_end(self, trainer, pl_module):
        self.read.append(float(trainer.callback_metrics["train_loss"]))


def test_training_metrics_are_epoch_means_available_to_callbacks(make_module, features, run):
    losses = Losses()
    plan = SharedPlan(make_module(), Optimisation())
    history = run(plan, features, stage="shared", max_epochs=3, callbacks=(losses,)).history
    found = history["shared/train_loss"].to_numpy(dtype=float).ravel()
    np.testing.assert_allclose(found, np.mean(losses.epochs, axis=1), rtol=1e-5)
    np.testing.assert_allclose(losses.read, found, rtol=1e-6)


def test_means_are_weighted_by_batch_size_and_reset():
    means = Means()
    means.add({"loss": torch.tensor(1.0)}, 10)
    means.add({"loss": torch.tensor(4.0), "error": torch.tensor(7.0)}, 5)
    assert {name: x.item() for name, x in means.pop().items()} == {"loss": 2.0, "error": 7.0}
    assert means.pop() == {}


def test_history_is_indexed_by_epoch_or_step():
    history = History()
    history.log_metrics({"loss": 2.0, "epoch": 0}, step=9)
    history.log_metrics({"loss": 1.0, "epoch": 1}, step=19)
    history.log_metrics({"rate": 0.1}, step=7)
    loss, rate = history.history["loss"], history.history["rate"]
    assert (loss.index.name, list(loss.index), list(loss["loss"])) == ("epoch", [0, 1], [2.0, 1.0])
    assert (rate.index.name, list(rate.index)) == ("step", [7])


def test_metrics_of_callbacks_are_kept(make_module, features, run):
    plan = SharedPlan(make_module(), Optimisation(one_cycle=False))
    monitor = LearningRateMonitor(logging_interval="epoch")
    history = run(plan, features, stage="shared", callbacks=(monitor,)).history
    assert [name for name in history if name.startswith("shared/lr-AdamW")]
