"""Use of validation cells during training: best weights, early stopping and leakage."""

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
"""Largest numbers of cells on which a :class:`LeakProbe` is fitted and evaluated."""

TOLERANCE = 0.05
"""Distance below 0, in nats, up to which a negative bound is attributed to chance."""

_BOUND, _LOSS = "_validation_bound", "_validation_loss"


class NonFiniteLossError(RuntimeError):
    """Error raised if a loss is NaN or infinite."""


class EarlyEndWarning(UserWarning):
    """Warning of a stage that was interrupted or whose loss became non-finite."""


class _Kept:
    """Best state of a module so far."""

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
    """Keep the weights of each module at its best validation metric, and stop if none improves.

    Metrics before training count too, so that a stage with a closed-form initialisation never ends
    worse than it started. Without a metric, the state after each complete epoch is kept.

    Parameters
    ----------
    parts
        The modules whose weights are kept, each by the metric to minimise (a key that the plan
        logs). If a metric is never logged, the latest state is kept; epochs without a value are
        skipped.
    patience
        Number of epochs without any improvement before training stops; 0 for never.
    smallest_gain
        Smallest decrease of a metric that counts as an improvement.
    at
        Number of epochs after which the weights of each module are kept, by the same keys, for
        training without validation cells. If training ends earlier, the latest weights are kept.
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
        """Number of epochs after which the kept state was reached, by metric; empty with ``at``."""
        return {} if self.at is not None else {name: kept.epoch for name, kept in self.parts.items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the metrics of this epoch with the best ones."""
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
        """Restore the best weights of each module."""
        for kept in self.parts.values():
            kept.restore()


class LeakProbe:
    """Probe of leakage that is independent of the critics, since it is refitted at each evaluation.

    Bounds of critics are no evidence of independence: if encoders evade overfitted critics, leakage
    may increase beyond its initial value while bounds on the training cells fall.

    Parameters
    ----------
    cells
        Output of :meth:`~indiseek_sc.module.IndiSeekModule.prepare_specific`, by modality.
    train, validation
        Row numbers of the cells to fit and to evaluate the probe on; at most 4,096 of each are
        drawn.
    seed
        Seed of the draw and of the random features.
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
        """Return ``<modality>_leak`` of the current representations, see :func:`share_explained`.

        The module should be in evaluation mode.
        """
        return {
            f"{name}_leak": share_explained(
                module.encode_prepared(name, cells), cells["against"], self.n_fit, seed=self.seed
            )
            for name, cells in self.cells.items()
        }


@torch.no_grad()
def share_explained(source: Tensor, target: Tensor, n_fit: int, *, seed: int = 0) -> Tensor:
    """Return the fraction of variance of ``target`` explained by ``source`` on held-out cells.

    Uses a :class:`~indiseek_sc.nn.FourierRegression` with the penalty that explains most variance
    on these cells.

    Parameters
    ----------
    source
        Shape ``(n_cells, n_source)``; constant columns explain nothing.
    target
        Shape ``(n_cells, n_target)``; columns are weighted by their variance.
    n_fit
        Number of cells to fit on, which come first; the others are held out.
    seed
        Seed of the random features; use the same one for representations to be compared.

    Returns
    -------
    Scalar, at most 1; negative if predictions are worse than the mean, 0 if the target is constant.
    """
    source, target = source.double(), target.double()
    regression = FourierRegression(source.shape[1], target.shape[1], seed=seed).to(source)
    regression.fit(source, target, n_fit)
    missed = (target - regression(source))[n_fit:].square().sum()
    total = (target[n_fit:] - target[:n_fit].mean(dim=0)).square().sum()
    return torch.where(total > 0, 1 - missed / total, 0.0)


def find_negative_bounds(history: Mapping[str, pd.DataFrame], *, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Find critics whose bounds on validation cells stayed negative.

    If representations and conditions are independent, the expected mean of a bound over all pairs
    of held-out cells is 0 for any critic. If it is clearly below 0, the encoder has learnt to
    mislead the critic, or the critic has overfitted the training cells.

    Parameters
    ----------
    history
        Data frames with one column, by ``<stage>/<modality>_<critic>_validation_bound`` and
        ``_validation_loss``. Terms without a loss have no parameters and are ignored.
    tolerance
        Distance below 0, in nats, that the mean over the last half of the epochs must exceed for a
        critic to be returned.

    Returns
    -------
    The means, by ``<stage>/<modality>_<critic>``.
    """
    names = [key.removesuffix(_BOUND) for key in history if key.endswith(_BOUND)]
    means = {}
    for name in names:
        if f"{name}{_LOSS}" in history:
            values = history[f"{name}{_BOUND}"].iloc[:, 0].astype(float)
            means[name] = float(values.iloc[len(values) // 2 :].mean())
    return {name: mean for name, mean in means.items() if mean < -tolerance}


def warn_of_negative_bounds(history: Mapping[str, pd.DataFrame]) -> None:
    """Issue one warning about all critics that :func:`find_negative_bounds` returns."""
    negative = find_negative_bounds(history)
    if not negative:
        return
    listed = ", ".join(f"{name.rpartition('/')[2].replace('_', ' ')} {mean:.2f}" for name, mean in negative.items())
    warnings.warn(
        f"On validation cells the bounds of critics stayed negative ({listed} nats, mean of the last half of the epochs). Such "
        "bounds are invalid and no evidence of independence: the critics lag behind the encoders, or have overfitted their training "
        "cells. Try more steps or a larger learning rate for critics (plan_kwargs: n_critic_steps, critic_learning_rate), a "
        "larger lambda_, or other critics (independence), and rely on model.audit().",
        UserWarning,
        stacklevel=4,
    )
