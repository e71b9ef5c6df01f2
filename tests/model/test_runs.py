"""Options of a training run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.datasets import synthetic
from indiseek_sc.model._runs import EPOCH_STAGES, RunOptions, StageRun, copy_module, read_options, release
from indiseek_sc.module import make_settings
from indiseek_sc.train import Rows, StageData, TrainerOptions

GIVEN = {
    "max_epochs": None,
    "batch_size": None,
    "accelerator": "cpu",
    "devices": "auto",
    "early_stopping": True,
    "enable_progress_bar": False,
    "trainer_kwargs": {},
}
MODEL = SimpleNamespace(settings=make_settings("default"))


def read(**given) -> RunOptions:
    return read_options(MODEL, **{**GIVEN, **given})


def test_defaults_are_the_settings_of_the_model():
    options = read()
    assert options.optimisation == MODEL.settings.optimisation
    assert options.device.torch == torch.device("cpu")
    assert options.max_epochs == {}
    assert options.trainer == TrainerOptions(enable_progress_bar=False)


def test_arguments_change_one_run_only():
    changed = read(
        batch_size=np.int32(64), plan_kwargs={"n_critic_steps": 2}, trainer_kwargs={"early_stopping_patience": 3}
    ).optimisation
    assert (changed.batch_size, changed.specific_batch_size, changed.n_critic_steps, changed.patience) == (64, 64, 2, 3)
    assert read(early_stopping=False, trainer_kwargs={"early_stopping_patience": 3}).optimisation.patience == 0
    assert MODEL.settings == make_settings("default")


def test_max_epochs_for_all_or_some_stages():
    assert read(max_epochs=np.int16(3)).max_epochs == dict.fromkeys(EPOCH_STAGES, 3)
    given = read(max_epochs={"flow": np.int64(0), "decoder": 2}).max_epochs
    assert given == {"flow": 0, "decoder": 2}
    assert all(type(number) is int for number in given.values())
    run = StageRun(None, read(max_epochs={"flow": 4}), None, {}, 0)
    optimisation = MODEL.settings.optimisation
    assert run.max_epochs("flow") == 4
    assert run.max_epochs("shared") == optimisation.max_epochs_shared
    assert run.max_epochs("prediction") == run.max_epochs("prediction_again") == optimisation.max_epochs_prediction


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_epochs": {"flow": -1}}, "max_epochs must be whole numbers of at least 0"),
        ({"max_epochs": {"flows": 1}}, "max_epochs: the stage 'flows' is not known. Available: 'shared', 'flow'"),
        ({"max_epochs": "all"}, "max_epochs must be whole numbers of at least 0, but is 'all'"),
        ({"plan_kwargs": {"lambda_": 1.0}}, "plan_kwargs: give lambda_ to train"),
        ({"plan_kwargs": {"specific_batch_size": 9}}, "plan_kwargs: give batch_size to train"),
        ({"plan_kwargs": {"max_epochs_flow": 9}}, "plan_kwargs: give max_epochs to train"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 64.0}, "batch_size must be a whole number"),
        ({"trainer_kwargs": {"early_stopping_patience": 0}}, "early_stopping_patience must be"),
        ({"trainer_kwargs": {"early_stopping_patience": True}}, "early_stopping_patience must be"),
    ],
)
def test_invalid_numbers_are_rejected(given, message):
    with pytest.raises(ValueError, match=message):
        read(**given)


@pytest.mark.parametrize(
    ("n_cells", "limit", "expected"),
    [
        (1000, 1.0, 10),
        (1000, 0.25, 2),
        (1000, 3, 3),
        (1000, 30, 10),
        (50, 0.1, 1),
        (30_000, 1.0, 100),
        (30_000, 0.5, 50),
    ],
)
def test_steps_per_epoch(n_cells, limit, expected):
    """An epoch has all batches, up to 100 and up to the limit of the user."""
    cells, rows = torch.zeros(n_cells, 1), torch.arange(n_cells)
    options = RunOptions(MODEL.settings.optimisation, trainer=TrainerOptions(limit_train_batches=limit))
    run = StageRun(None, options, Rows(rows, rows[:1]), {}, 0)
    assert run.steps_per_epoch(StageData(cells, rows, rows[:1], batch_size=100)) == expected


def test_training_a_copy_of_the_module_does_not_change_the_model():
    mdata = synthetic.make("S1", 60)
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    before = {name: x.clone() for name, x in model.module.state_dict().items()}
    module = copy_module(model, read())
    with torch.no_grad():
        for x in (*module.parameters(), *module.buffers()):
            x.add_(1)
    module.frozen = ("encoders",)
    module.requires_grad_(False)
    module.train()
    for name, x in model.module.state_dict().items():
        torch.testing.assert_close(x, before[name], rtol=0, atol=0, equal_nan=True)
    release(module)
    assert module.frozen == ()
    assert all(p.requires_grad for p in module.parameters())
    assert not any(part.training for part in module.modules())
