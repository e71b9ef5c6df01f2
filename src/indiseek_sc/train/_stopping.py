"""What validation cells say while a stage is trained: which weights to keep, when to stop, what a representation leaks."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from indiseek_sc.nn import FourierRegression

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

MOST_CELLS = 4096
"""Cells that a :class:`LeakProbe` is fitted on, and that its figures are of."""

TOLERANCE = 0.05
"""How far below 0, in nats, a bound may be by chance."""

_BOUND, _LOSS = "_validation_bound", "_validation_loss"


class NonFiniteLossError(RuntimeError):
    """A loss was not a number or infinite."""


class EarlyEndWarning(UserWarning):
    """A stage was interrupted, or its loss was no longer finite."""


class _Kept:
    """The best state of one part so far."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part
        self.score = math.inf
        self.epoch = -1
        self.keep(0)

    def keep(self, epoch: int) -> None:
        self.epoch = epoch
        self.state: dict[str, Tensor] = {name: x.detach().clone() for name, x in self.part.state_dict().items()}

    def restore(self) -> None:
        self.part.load_state_dict(self.state)


class KeepBest(Callback):
    """Keeps the weights of each part as they were at its best validation figure, and stops when none has improved for long.

    The figures before training count too: a stage that starts in closed form ends no worse than it began. Without a figure
    to go by, the state after each whole epoch is kept, so that a stage cut short ends with whole weights.

    Parameters
    ----------
    parts
        The figure to minimise (a key that the plan logs) and the part of the module that it belongs to; a key that is never logged
        means the latest state, and one that is logged in some epochs counts in these.
    patience
        Epochs without an improvement of any part before training stops; 0 means never.
    smallest_gain
        A smaller improvement counts as none.
    at
        After how many epochs each part is kept, by the same keys, for a training that no cells are left to choose by. A training
        that is cut short before keeps the latest weights.
    """

    def __init__(
        self,
        parts: Mapping[Any, nn.Module],
        *,
        patience: int,
        smallest_gain: float = 1e-4,
        at: Mapping[Any, int] | None = None,
    ) -> None:
        self.parts = {name: _Kept(part) for name, part in parts.items()}
        self.patience = patience
        self.smallest_gain = smallest_gain
        self.at = None if at is None else dict(at)
        self._last_gain = 0

    @property
    def best_epochs(self) -> dict[str, int]:
        """Number of whole epochs behind the kept state, by figure; nothing where the number was given."""
        return {} if self.at is not None else {name: kept.epoch for name, kept in self.parts.items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the figures of this epoch."""
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        for name, kept in self.parts.items():
            if self.at is not None:
                if epoch <= self.at[name]:
                    kept.keep(epoch)
            elif name not in trainer.callback_metrics:
                if math.isinf(kept.score):
                    kept.keep(epoch)
                    self._last_gain = epoch
            elif (score := float(trainer.callback_metrics[name])) < kept.score - self.smallest_gain:
                kept.score = score
                kept.keep(epoch)
                self._last_gain = epoch
        if self.patience and epoch - self._last_gain >= self.patience:
            trainer.should_stop = True

    def restore(self) -> None:
        """Give each part its best weights back."""
        for kept in self.parts.values():
            kept.restore()


class LeakProbe:
    """A probe beside the critics: it is fitted anew whenever it is asked, so that no representation can have learned to evade it.

    The bounds of critics that train along are no evidence: where encoders have come to evade critics that overfit, a representation leaks more
    than at its start while bounds on the training cells fall.

    Parameters
    ----------
    cells
        What :meth:`~indiseek_sc.module.IndiSeekModule.prepare_specific` returns, by modality.
    train, validation
        Row numbers of the cells to fit on and of those that the figure is of; at most 4,096 of each are drawn.
    seed
        Decides the draw and the random features.
    """

    def __init__(
        self,
        cells: Mapping[Role, Mapping[str, Tensor]],
        train: Tensor,
        validation: Tensor,
        *,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            rows[torch.randperm(len(rows), generator=generator)[:MOST_CELLS].to(rows.device)]
            for rows in (train, validation)
        ]
        self.n_fit = len(drawn[0])
        rows = torch.cat(drawn)
        self.cells = {name: {key: x[rows] for key, x in of_modality.items()} for name, of_modality in cells.items()}

    @torch.no_grad()
    def __call__(self, module: IndiSeekModule) -> dict[str, Tensor]:
        """Return ``<modality>_leak`` of the representations as they are: see :func:`share_explained`. The module should be in evaluation mode."""
        return {
            f"{name}_leak": share_explained(
                module.encode_prepared(name, cells), cells["against"], self.n_fit, seed=self.seed
            )
            for name, cells in self.cells.items()
        }


@torch.no_grad()
def share_explained(source: Tensor, target: Tensor, n_fit: int, *, seed: int = 0) -> Tensor:
    """Share of the variance of ``target`` that ``source`` explains in cells that were not fitted on.

    By a :class:`~indiseek_sc.nn.FourierRegression`, at the penalty which explains most in these cells.

    Parameters
    ----------
    source
        Shape ``(n_cells, n_source)``; constant columns explain nothing.
    target
        Shape ``(n_cells, n_target)``; columns weigh by their variance.
    n_fit
        The first so many cells are fitted on; the figure is of the others.
    seed
        Seed of the random features: the same for representations that are compared.

    Returns
    -------
    Scalar, at most 1; below 0 where even the largest penalty misleads, 0 where the target does not vary.
    """
    source, target = source.double(), target.double()
    regression = FourierRegression(source.shape[1], target.shape[1], seed=seed).to(source)
    regression.fit(source, target, n_fit)
    missed = (target - regression(source))[n_fit:].square().sum()
    total = (target[n_fit:] - target[:n_fit].mean(dim=0)).square().sum()
    return torch.where(total > 0, 1 - missed / total, 0.0)


def find_negative_bounds(history: Mapping[str, pd.DataFrame], *, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Find critics whose bound on validation cells stayed negative.

    The mean of a bound over all pairs of held-out cells is 0 where representations and conditions are independent, whatever the critic
    has learnt, but for chance. Clearly below 0, the encoder has learnt to mislead the critic, or the critic has overfitted
    its training cells.

    Parameters
    ----------
    history
        Data frames of one column, by ``<stage>/<modality>_<critic>_validation_bound`` and ``_validation_loss``. Terms without a
        loss have nothing to learn, and are left out.
    tolerance
        How far below 0 the mean of the last half of the epochs must be, in nats.

    Returns
    -------
    That mean, by ``<stage>/<modality>_<critic>``.
    """
    names = [key.removesuffix(_BOUND) for key in history if key.endswith(_BOUND)]
    means = {}
    for name in names:
        if f"{name}{_LOSS}" in history:
            values = history[f"{name}{_BOUND}"].iloc[:, 0].astype(float)
            means[name] = float(values.iloc[len(values) // 2 :].mean())
    return {name: mean for name, mean in means.items() if mean < -tolerance}


def warn_of_negative_bounds(history: Mapping[str, pd.DataFrame]) -> None:
    """Warn of critics that :func:`find_negative_bounds` finds, in one warning for all."""
    negative = find_negative_bounds(history)
    if not negative:
        return
    listed = ", ".join(f"{name.rpartition('/')[2].replace('_', ' ')} {mean:.2f}" for name, mean in negative.items())
    warnings.warn(
        f"On validation cells the bounds of critics stayed negative ({listed} nats, mean of the last half of the epochs). They are no "
        "bounds then, and no evidence of independence: the critics lag behind the encoders, or have overfitted their training "
        "cells. Try more steps or a larger learning rate for critics (plan_kwargs: n_critic_steps, critic_learning_rate), a "
        "larger lambda_, or other critics (independence), and rely on model.audit().",
        UserWarning,
        stacklevel=4,
    )
