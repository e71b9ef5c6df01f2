"""Choice of the device, and validation of arguments for Lightning's trainer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import Logger

from indiseek_sc._checks import check_number, check_whole, is_whole

ONE_DEVICE = (
    "training runs on a single device, since the negatives of InfoNCE are the other cells of a batch on that device"
)
HAS_OWN_CRITERION = (
    "each stage has its own criterion for early stopping; use early_stopping and early_stopping_patience"
)
IN_MEMORY = "the best weights of each stage are kept in memory; save the trained model by model.save(folder)"
BY_MAX_EPOCHS = "give max_epochs, and limit_train_batches for shorter epochs"
IN_PLAN_KWARGS = 'give it in plan_kwargs, such as plan_kwargs={"learning_rate": 1e-3}'
HAS_OWN_PROGRESS_BAR = "each stage has one progress bar; use enable_progress_bar"
ALL_VALIDATION = "the best weights are selected on the validation cells; give validation_size for fewer of them"

PASSED = frozenset(
    {
        "benchmark",
        "default_root_dir",
        "detect_anomaly",
        "deterministic",
        "enable_autolog_hparams",
        "enable_model_summary",
        "inference_mode",
        "log_every_n_steps",
        "max_time",
        "profiler",
    }
)
"""Arguments that are passed to the trainer unchanged."""

REFUSED: dict[str, str] = {
    "accumulate_grad_batches": "give a larger batch_size",
    "barebones": "it omits validation, by which the best weights are selected",
    "checkpointing_monitor": IN_MEMORY,
    "ckpt_path": IN_MEMORY,
    "early_stopping_min_delta": HAS_OWN_CRITERION,
    "early_stopping_mode": HAS_OWN_CRITERION,
    "early_stopping_monitor": HAS_OWN_CRITERION,
    "early_stopping_warmup_epochs": HAS_OWN_CRITERION,
    "enable_checkpointing": IN_MEMORY,
    "fast_dev_run": "give max_epochs=1 and limit_train_batches=1",
    "learning_rate_monitor": "add lightning.pytorch.callbacks.LearningRateMonitor to callbacks",
    "limit_predict_batches": "training makes no predictions",
    "limit_test_batches": "training uses no test cells; use model.audit()",
    "limit_val_batches": ALL_VALIDATION,
    "log_save_dir": "model.history contains the metrics; add a logger to write them to disk",
    "lr": IN_PLAN_KWARGS,
    "max_steps": BY_MAX_EPOCHS,
    "min_epochs": "give early_stopping=False",
    "min_steps": "give early_stopping=False",
    "num_nodes": ONE_DEVICE,
    "num_sanity_val_steps": "all validation cells are always evaluated before training",
    "overfit_batches": ALL_VALIDATION,
    "plugins": ONE_DEVICE,
    "progress_bar_refresh_rate": HAS_OWN_PROGRESS_BAR,
    "reload_dataloaders_every_n_epochs": "data stay on the device and are never reloaded",
    "simple_progress_bar": HAS_OWN_PROGRESS_BAR,
    "strategy": ONE_DEVICE,
    "sync_batchnorm": ONE_DEVICE,
    "use_distributed_sampler": ONE_DEVICE,
    "use_gpu": 'give accelerator="gpu" or accelerator="cpu"',
    "val_check_interval": "give check_val_every_n_epoch",
    "weight_decay": IN_PLAN_KWARGS,
}
"""Arguments of trainers that are not supported, and alternatives."""

USED = (
    "callbacks",
    "check_val_every_n_epoch",
    "early_stopping_patience",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "logger",
    "precision",
)
"""Arguments that :func:`read_trainer_kwargs` evaluates."""


@dataclass(frozen=True)
class Device:
    """Device on which features are computed and models are trained.

    Parameters
    ----------
    accelerator
        Name of the accelerator in Lightning, ``"cpu"`` or ``"gpu"``.
    index
        Number of the GPU.
    """

    accelerator: str = "cpu"
    index: int | None = None

    @property
    def torch(self) -> torch.device:
        """The device in torch."""
        return torch.device("cpu") if self.index is None else torch.device("cuda", self.index)

    @property
    def devices(self) -> int | list[int]:
        """The argument ``devices`` of Lightning."""
        return 1 if self.index is None else [self.index]


def choose_device(
    accelerator: str = "auto", devices: int | Sequence[int] | str = "auto", *, device: int | str | None = None
) -> Device:
    """Choose the device for training.

    Parameters
    ----------
    accelerator
        ``"auto"`` (a GPU if available), ``"gpu"`` or ``"cuda"``, or ``"cpu"``.
    devices
        ``"auto"`` or 1 for any single device, or a list with the number of one GPU.
    device
        Number of the GPU or ``"auto"``, for functions with this argument instead of ``devices``.

    Raises
    ------
    ValueError
        If the device does not exist, or several devices are requested.
    """
    given = f"devices={devices!r}" if device is None else f"device={device!r}"
    index = _read_index(devices) if device is None else _read_number(device)
    name = str(accelerator).lower()
    if name == "mps":
        raise ValueError(
            "accelerator='mps': closed-form solutions need double precision, which Apple's GPUs lack. Use accelerator='cpu'."
        )
    if name not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"accelerator must be 'auto', 'gpu' or 'cpu', but is {accelerator!r}.")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and n_gpus == 0):
        if index != 0:
            raise ValueError(f"{given}: with accelerator={accelerator!r} training runs on the CPU, not on a GPU.")
        return Device()
    if n_gpus == 0:
        raise ValueError(
            f"accelerator={accelerator!r}: torch finds no CUDA GPU here (torch.cuda.is_available() is False). "
            "Use accelerator='cpu', or install a CUDA build of torch and a driver."
        )
    if not 0 <= index < n_gpus:
        raise ValueError(f"{given}: there is no GPU {index}. Available: {n_gpus}, numbered from 0.")
    return Device("gpu", index)


def _read_index(devices: int | Sequence[int] | str) -> int:
    """Return the number of the requested GPU, 0 by default."""
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        if len(devices) == 1 and is_whole(devices[0]):
            return int(devices[0])
    elif devices == "auto" or str(devices) == "1":
        return 0
    raise ValueError(
        f"devices: {ONE_DEVICE}, but {devices!r} was requested. Give the number of one device, such as [0]."
    )


def _read_number(device: int | str) -> int:
    """Return the number of the requested GPU, 0 by default."""
    if device == "auto":
        return 0
    if not is_whole(device):
        raise ValueError(f"device must be the number of one GPU or 'auto', but is {device!r}.")
    return int(device)


@dataclass(frozen=True)
class TrainerOptions:
    """User options for Lightning's trainer, which apply to each stage.

    Parameters
    ----------
    enable_progress_bar
        Show a progress bar for each stage.
    callbacks
        Additional callbacks.
    loggers
        Additional loggers; the history of the model is always kept.
    check_val_every_n_epoch
        Number of epochs between evaluations of the validation cells.
    limit_train_batches
        Largest number of batches in an epoch, or fraction of all batches.
    gradient_clip_val
        Limit at which gradients are clipped; None for no clipping.
    gradient_clip_algorithm
        ``"norm"`` or ``"value"``.
    passed
        Arguments passed to :class:`scvi.train.Trainer` unchanged.
    """

    enable_progress_bar: bool = True
    callbacks: tuple[Callback, ...] = ()
    loggers: tuple[Logger, ...] = ()
    check_val_every_n_epoch: int = 1
    limit_train_batches: float = 1.0
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    passed: Mapping[str, Any] = field(default_factory=dict)


def read_trainer_kwargs(kwargs: Mapping[str, Any], *, enable_progress_bar: bool) -> TrainerOptions:
    """Validate trainer arguments of Lightning and scvi-tools.

    ``early_stopping_patience`` is evaluated elsewhere, with the settings.

    Raises
    ------
    TypeError
        If an argument is unknown.
    ValueError
        If an argument is not supported, with the reason and an alternative, or its value is
        invalid.
    """
    for name in kwargs:
        if name in REFUSED:
            raise ValueError(f"{name} is not supported: {REFUSED[name]}.")
        if name not in PASSED and name not in USED:
            near = difflib.get_close_matches(name, [*PASSED, *USED, "max_epochs", "batch_size", "accelerator"], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"There is no argument {name!r}.{hint}")
    if str(kwargs.get("precision", 32)) not in ("32", "32-true"):
        raise ValueError(
            f"precision={kwargs['precision']!r} is not supported: networks are trained in single precision, and closed-form solutions are computed in double."
        )
    algorithm = kwargs.get("gradient_clip_algorithm") or "norm"
    if algorithm not in ("norm", "value"):
        raise ValueError(f"gradient_clip_algorithm must be 'norm' or 'value', but is {algorithm!r}.")
    clip, every = kwargs.get("gradient_clip_val"), kwargs.get("check_val_every_n_epoch")
    return TrainerOptions(
        enable_progress_bar,
        _read_callbacks(kwargs.get("callbacks")),
        _read_loggers(kwargs.get("logger")),
        1 if every is None else check_whole("check_val_every_n_epoch", every, 1),
        _read_limit(kwargs.get("limit_train_batches")),
        None if clip is None else check_number("gradient_clip_val", clip, above_zero=True),
        algorithm,
        {name: value for name, value in kwargs.items() if name in PASSED},
    )


def _read_limit(limit: Any) -> float:
    """Return a number of batches (an integer) or a fraction of them (a float)."""
    if limit is None:
        return 1.0
    if is_whole(limit):
        return check_whole("limit_train_batches", limit, 1)
    share = check_number("limit_train_batches", limit, above_zero=True)
    if share > 1:
        raise ValueError(
            f"limit_train_batches must be a whole number of batches, or a fraction of at most 1.0, but is {share}."
        )
    return share


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


def _read_callbacks(given: Any) -> tuple[Callback, ...]:
    callbacks = () if given is None else _as_tuple(given)
    for callback in callbacks:
        if isinstance(callback, Checkpoint):
            raise ValueError(f"callbacks: {type(callback).__name__} is not supported: {IN_MEMORY}.")
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be callbacks of lightning.pytorch, but one is {callback!r}.")
    return callbacks


def _read_loggers(given: Any) -> tuple[Logger, ...]:
    loggers = () if given is None or isinstance(given, bool) else _as_tuple(given)
    for logger in loggers:
        if not isinstance(logger, Logger):
            raise TypeError(f"logger must be a logger of lightning.pytorch or several, but one is {logger!r}.")
    return loggers
