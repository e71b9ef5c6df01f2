"""Run the training steps of a stage as a plain PyTorch loop over tensors on the device."""

from __future__ import annotations

import copy
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from indiseek_sc.model import _runs
from indiseek_sc.train import KeepBest, RegressionPlan, SharedPlan, SpecificPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from indiseek_sc.train import StageData, StagePlan

EPOCHS_BETWEEN_PROBES = 5
"""As in :class:`indiseek_sc.train.SpecificPlan`."""


@dataclass
class StepTimes:
    """Seconds per step of a stage, one value for each repeat.

    Attributes
    ----------
    fit
        The stage itself, including validation, callbacks and history.
    validated
        A plain loop that evaluates validation cells as often as the stage does.
    bare
        A plain loop of training steps alone.
    """

    fit: list[float] = field(default_factory=list)
    validated: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


@contextmanager
def timed_stages(n_epochs: int, n_repeats: int) -> Iterator[dict[str, StepTimes]]:
    """Time each stage that is trained in the context in three ways, then train it as usual."""
    fit_stage, times = _runs.fit_stage, {}

    def fit_and_time(plan: StagePlan, data: StageData, **kwargs: Any) -> Any:
        times[kwargs["stage"]] = _time_stage(fit_stage, plan, data, kwargs, n_epochs, n_repeats)
        return fit_stage(plan, data, **kwargs)

    _runs.fit_stage = fit_and_time
    try:
        yield times
    finally:
        _runs.fit_stage = fit_stage


def _time_stage(
    fit_stage: Callable[..., Any],
    plan: StagePlan,
    data: StageData,
    kwargs: dict[str, Any],
    n_epochs: int,
    n_repeats: int,
) -> StepTimes:
    module, n_steps = plan.module, kwargs["limit_train_batches"]
    start = {name: x.clone() for name, x in module.state_dict().items()}
    parts = {name: kept.part for name, kept in kwargs["keep_best"].parts.items()}
    times = StepTimes()

    def measure(seconds: list[float], run: Callable[[StagePlan], object]) -> None:
        module.load_state_dict(start)
        twin = copy.copy(plan)
        twin.n_steps = n_epochs * n_steps
        twin.n_warmup_steps = 0
        _wait(module.device)
        began = time.perf_counter()
        run(twin)
        _wait(module.device)
        seconds.append((time.perf_counter() - began) / (n_epochs * n_steps))

    for _ in range(n_repeats):
        keep_best = KeepBest(parts, patience=0)
        changed = {**kwargs, "keep_best": keep_best, "max_epochs": n_epochs}
        cells = _copy(data)
        measure(times.fit, lambda twin, cells=cells, changed=changed: fit_stage(twin, cells, **changed))
        measure(times.validated, lambda twin: run_loop(twin, data, n_epochs, n_steps, validate=True))
        measure(times.bare, lambda twin: run_loop(twin, data, n_epochs, n_steps, validate=False))
    module.load_state_dict(start)
    return times


def _copy(data: StageData) -> StageData:
    """Return a shallow copy, since a stage releases its data."""
    twin = copy.copy(data)
    twin._train, twin._validation = copy.copy(data._train), copy.copy(data._validation)
    return twin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_loop(plan: StagePlan, data: StageData, n_epochs: int, n_steps: int, *, validate: bool) -> None:
    """Train by a plain loop.

    Parameters
    ----------
    plan
        Provides losses and optimisers.
    data
        The cells.
    n_epochs, n_steps
        Number of epochs, and of steps in each.
    validate
        Evaluate validation cells before the first epoch and after each.
    """
    run_epoch: Any = {SharedPlan: _shared_epoch, RegressionPlan: _regression_epoch, SpecificPlan: _specific_epoch}[
        type(plan)
    ]
    optimizers, schedules = _read_optimizers(plan.configure_optimizers())
    if validate:
        _validate(plan, data, 0)
    plan.train()
    for epoch in range(n_epochs):
        run_epoch(plan, data, n_steps, optimizers, schedules)
        if validate:
            _validate(plan, data, epoch + 1)


def _read_optimizers(configured: Any) -> tuple[list[Any], list[Any]]:
    if isinstance(configured, torch.optim.Optimizer):
        return [configured], []
    if isinstance(configured, dict):
        return [configured["optimizer"]], [configured["lr_scheduler"]["scheduler"]]
    return configured


def _draw(data: StageData, n_steps: int) -> list[Tensor]:
    """Return the rows of each batch of one epoch."""
    source = data._train
    rows = source.rows[torch.randperm(source.n_cells).to(source.device)]
    return list(torch.tensor_split(rows, source.n_batches))[:n_steps]


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _shared_epoch(plan: SharedPlan, data: StageData, n_steps: int, optimizers: list[Any], schedules: list[Any]) -> None:
    for rows in _draw(data, n_steps):
        batch = {name: x[rows] for name, x in data._train.cells.items()}
        _step(optimizers[0], plan.module.shared_objective(plan.module.shared_terms(batch)))
        for schedule in schedules:
            schedule.step()


def _take(data: StageData, rows: Tensor) -> dict[str, dict[str, Tensor]]:
    return {name: {key: x[rows] for key, x in cells.items()} for name, cells in data._train.cells.items()}


def _regression_epoch(
    plan: RegressionPlan, data: StageData, n_steps: int, optimizers: list[Any], schedules: list[Any]
) -> None:
    for rows in _draw(data, n_steps):
        batch = _take(data, rows)
        _step(optimizers[0], torch.stack([plan.loss(name, batch[name]) for name in plan.parts]).sum())
        schedules[0].step()


def _specific_epoch(
    plan: SpecificPlan, data: StageData, n_steps: int, optimizers: list[Any], schedules: list[Any]
) -> None:
    module, names = plan.module, plan.modalities
    for rows, *extra in zip(*(_draw(data, n_steps) for _ in range(1 + data._train.n_extra)), strict=True):
        for more in extra:
            batch = _take(data, more)
            losses = [loss for name in names for loss in module.critic_losses(name, batch[name]).values()]
            _step(optimizers[1], torch.stack(losses).sum())
        batch = _take(data, rows)
        terms = [plan._objective(module.specific_terms(name, batch[name])) for name in names]
        _step(optimizers[0], torch.stack(terms).sum())
        schedules[0].step()


@torch.no_grad()
def _validate(plan: StagePlan, data: StageData, n_done: int) -> None:
    plan.eval()
    for batch in data.val_dataloader():
        plan.validation_step(batch, 0)
    plan._means["validation"].pop()
    if isinstance(plan, SpecificPlan) and plan.probe is not None and n_done % EPOCHS_BETWEEN_PROBES == 0:
        plan.probe(plan.module)
    plan.train()
