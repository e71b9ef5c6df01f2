"""Choice of the device, and validation of trainer arguments."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from scvi.train import SaveCheckpoint
from scvi.train import Trainer as ScviTrainer

from indiseek_sc.train import Device, TrainerOptions, choose_device, read_trainer_kwargs
from indiseek_sc.train._arguments import PASSED, REFUSED, USED


@pytest.fixture
def with_gpus(monkeypatch):
    """Return a function that sets the number of GPUs that torch detects."""

    def set_number(n: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)

    return set_number


# Devices


@pytest.mark.parametrize("accelerator", ["auto", "cpu", "CPU"])
@pytest.mark.parametrize("devices", ["auto", 1, "1", [0]])
def test_cpu_without_gpus(with_gpus, accelerator, devices):
    with_gpus(0)
    device = choose_device(accelerator, devices)
    assert device == Device()
    assert (device.accelerator, device.devices, device.torch) == ("cpu", 1, torch.device("cpu"))


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda", "GPU"])
@pytest.mark.parametrize(("devices", "index"), [("auto", 0), (1, 0), ([0], 0), ([1], 1), ((1,), 1), ([np.int64(1)], 1)])
def test_gpu_by_number(with_gpus, accelerator, devices, index):
    with_gpus(2)
    device = choose_device(accelerator, devices)
    assert device == Device("gpu", index)
    assert (device.accelerator, device.devices, device.torch) == ("gpu", [index], torch.device("cuda", index))


def test_cpu_can_be_requested_with_gpus(with_gpus):
    with_gpus(2)
    assert choose_device("cpu") == Device()


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_missing_gpu_raises(with_gpus, accelerator):
    with_gpus(0)
    with pytest.raises(ValueError, match=f"accelerator='{accelerator}': torch finds no CUDA GPU .* accelerator='cpu'"):
        choose_device(accelerator)


@pytest.mark.parametrize("n_gpus", [0, 2])
def test_unsupported_accelerators_are_rejected(with_gpus, n_gpus):
    with_gpus(n_gpus)
    with pytest.raises(ValueError, match="accelerator='mps': .* double precision.* Use accelerator='cpu'"):
        choose_device("mps")
    with pytest.raises(ValueError, match="accelerator must be 'auto', 'gpu' or 'cpu', but is 'tpu'"):
        choose_device("tpu")


@pytest.mark.parametrize("accelerator", ["auto", "cpu", "gpu"])
@pytest.mark.parametrize("devices", [2, [0, 1], "0,1", -1, "-1", 0, [], ["0"], True, None, 1.5])
def test_several_devices_or_none_are_rejected(with_gpus, accelerator, devices):
    with_gpus(2)
    message = f"devices: training runs on a single device, .* but {re.escape(repr(devices))} was requested"
    with pytest.raises(ValueError, match=message):
        choose_device(accelerator, devices)


@pytest.mark.parametrize(
    ("n_gpus", "accelerator"), [(2, "auto"), (2, "gpu"), (0, "auto"), (0, "cpu"), (0, "gpu"), (2, "cpu")]
)
@pytest.mark.parametrize("devices", [[3], [-1]])
def test_unknown_device_number_is_rejected(with_gpus, n_gpus, accelerator, devices):
    with_gpus(n_gpus)
    with pytest.raises(ValueError, match=r"devices=\[(3|-1)\]|accelerator='gpu'"):
        choose_device(accelerator, devices)


# Arguments of the trainer


def read(**kwargs) -> TrainerOptions:
    return read_trainer_kwargs(kwargs, enable_progress_bar=False)


def test_defaults():
    assert read() == TrainerOptions(enable_progress_bar=False)
    assert read_trainer_kwargs({}, enable_progress_bar=True) == TrainerOptions()
    assert read(callbacks=None, logger=None, gradient_clip_val=None, limit_train_batches=None) == read()
    assert read(check_val_every_n_epoch=None, gradient_clip_algorithm=None) == read()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_unsupported_arguments_are_rejected_with_an_alternative(name):
    with pytest.raises(ValueError) as error:
        read(**{name: 1})
    assert str(error.value) == f"{name} is not supported: {REFUSED[name]}."


def test_every_argument_of_trainers_is_covered():
    known = {*REFUSED, *PASSED, *USED}
    given_by_name = {"max_epochs", "accelerator", "devices", "enable_progress_bar", "early_stopping"}
    others = {"self", "kwargs", "model_registry", "additional_val_metrics", "early_stopping_patience"}
    for trainer in (Trainer, ScviTrainer):
        names = set(inspect.signature(trainer.__init__).parameters)
        assert names - known - given_by_name - others == set()
    assert not set(REFUSED) & PASSED
    assert not set(REFUSED) & set(USED)
    assert not PASSED & set(USED)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_epoch", "max_epochs"),
        ("gradient_clip", "gradient_clip_val"),
        ("loggers", "logger"),
        ("callback", "callbacks"),
        ("batchsize", "batch_size"),
        ("determinstic", "deterministic"),
    ],
)
def test_unknown_argument_suggests_a_similar_one(name, near):
    with pytest.raises(TypeError) as error:
        read(**{name: 1})
    assert str(error.value) == f"There is no argument {name!r}. Did you mean {near!r}?"


def test_unknown_argument_without_a_similar_one():
    with pytest.raises(TypeError) as error:
        read(xyz=1)
    assert str(error.value) == "There is no argument 'xyz'."


@pytest.mark.parametrize("name", sorted(PASSED))
def test_other_arguments_are_passed_on(name):
    value = object()
    assert read(**{name: value}).passed == {name: value}


def test_patience_is_ignored_here():
    assert read(early_stopping_patience=3) == read()


@pytest.mark.parametrize("precision", [64, "64-true", 16, "16-mixed", "bf16-mixed", "bf16"])
def test_other_precision_is_rejected(precision):
    with pytest.raises(ValueError, match=f"precision={precision!r} is not supported: .* single precision"):
        read(precision=precision)


@pytest.mark.parametrize("precision", [32, "32", "32-true"])
def test_single_precision_is_accepted(precision):
    assert read(precision=precision) == read()


@pytest.mark.parametrize("limit", [0, -1, 1.5, 0.0, -0.5, float("nan"), True, False, "3"])
def test_invalid_limit_train_batches_is_rejected(limit):
    with pytest.raises(ValueError, match=f"limit_train_batches must .* but is {limit!r}"):
        read(limit_train_batches=limit)


@pytest.mark.parametrize("limit", [3, 1, 0.5, 1.0, np.int64(3), np.float64(0.25)])
def test_limit_train_batches_as_number_or_fraction(limit):
    taken = read(limit_train_batches=limit).limit_train_batches
    assert taken == limit
    assert isinstance(taken, float) == isinstance(limit, float)


@pytest.mark.parametrize("every", [0, -1, 1.0, 0.5, True, False, "2"])
def test_invalid_check_val_every_n_epoch_is_rejected(every):
    with pytest.raises(ValueError, match=f"check_val_every_n_epoch must be .* but is {every!r}"):
        read(check_val_every_n_epoch=every)


def test_check_val_every_n_epoch():
    assert read(check_val_every_n_epoch=2).check_val_every_n_epoch == 2
    assert read(check_val_every_n_epoch=np.int64(3)).check_val_every_n_epoch == 3


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "1", [1.0]])
def test_invalid_gradient_clip_val_is_rejected(value):
    with pytest.raises(ValueError, match="gradient_clip_val must be (a number|above 0), but is"):
        read(gradient_clip_val=value)


def test_gradient_clip_algorithm():
    assert (read(gradient_clip_val=2).gradient_clip_val, read(gradient_clip_val=2).gradient_clip_algorithm) == (
        2,
        "norm",
    )
    by_value = read(gradient_clip_val=0.5, gradient_clip_algorithm="value")
    assert (by_value.gradient_clip_val, by_value.gradient_clip_algorithm) == (0.5, "value")
    with pytest.raises(ValueError, match="gradient_clip_algorithm must be 'norm' or 'value', but is 'max'"):
        read(gradient_clip_val=1.0, gradient_clip_algorithm="max")


def test_one_or_several_callbacks():
    first, second = Callback(), Callback()
    assert read(callbacks=first).callbacks == (first,)
    assert read(callbacks=[first, second]).callbacks == (first, second)
    assert read(callbacks=(first,)).callbacks == (first,)
    assert read(callbacks=[]).callbacks == ()


@pytest.mark.parametrize("callbacks", [print, [Callback(), "callback"], Callback])
def test_invalid_callbacks_are_rejected(callbacks):
    with pytest.raises(TypeError, match="callbacks must be callbacks of lightning.pytorch, but one is"):
        read(callbacks=callbacks)


@pytest.mark.parametrize("make", [SaveCheckpoint, ModelCheckpoint])
def test_checkpoint_callbacks_are_rejected(make, tmp_path):
    checkpoint = make(dirpath=str(tmp_path))
    message = f"callbacks: {make.__name__} is not supported: the best weights .* model.save"
    for callbacks in (checkpoint, [Callback(), checkpoint]):
        with pytest.raises(ValueError, match=message):
            read(callbacks=callbacks)


@pytest.mark.parametrize("logger", [None, True, False, []])
def test_no_loggers(logger):
    assert read(logger=logger).loggers == ()


def test_one_or_several_loggers(tmp_path):
    first, second = (CSVLogger(str(tmp_path), name) for name in ("first", "second"))
    assert read(logger=first).loggers == (first,)
    assert read(logger=[first, second]).loggers == (first, second)


@pytest.mark.parametrize("logger", ["csv", 1, [None]])
def test_invalid_loggers_are_rejected(logger):
    with pytest.raises(TypeError, match="logger must be a logger of lightning.pytorch or several, but one is"):
        read(logger=logger)
