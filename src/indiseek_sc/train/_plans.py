"""Training plans of regressions and of stage 1: losses, optimisers and validation metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from indiseek_sc.module import set_trainable
from indiseek_sc.nn import NamedModules
from indiseek_sc.train._stopping import NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule, Optimisation

    Batch = Mapping[Role, Mapping[str, Tensor]]

WARMUP_SHARE = 0.25
"""Fraction of a cycle in which the learning rate rises."""

MIN_CYCLE_STEPS = 8
"""Smallest number of steps for a cycle; with fewer, the learning rate is constant."""


class Means:
    """Means of metrics over the cells of an epoch, accumulated on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.n_cells: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor], n_cells: int) -> None:
        """Add the metrics of a batch of ``n_cells`` cells."""
        for name, value in values.items():
            self.sums[name] = value.detach() * n_cells + self.sums.get(name, 0.0)
            self.n_cells[name] = self.n_cells.get(name, 0) + n_cells

    def pop(self) -> dict[str, Tensor]:
        """Return the means, and reset the sums."""
        means = {name: total / self.n_cells[name] for name, total in self.sums.items()}
        self.sums, self.n_cells = {}, {}
        return means


class StagePlan(pl.LightningModule):
    """Base class of training plans.

    Parameters
    ----------
    module
        The module; parts that the plan does not train are frozen.
    """

    def __init__(self, module: IndiSeekModule) -> None:
        super().__init__()
        self.module = module
        self._watched: Tensor | None = None
        self._means: dict[str, Means] = {"train": Means(), "validation": Means()}

    def train(self, mode: bool = True) -> StagePlan:
        """Set the training mode; the module keeps frozen parts in evaluation mode."""
        self.training = mode
        self.module.train(mode)
        return self

    def cpu(self) -> StagePlan:
        """Return the plan unchanged, since Lightning would move it to the CPU after each stage."""
        return self

    def record(self, values: Mapping[str, Tensor], n_cells: int) -> None:
        """Record metrics of a batch; their means over the cells are logged at the end of the epoch.

        Lightning's own aggregation takes longer than the forward pass of a small network.
        """
        self._means["train" if self.training else "validation"].add(values, n_cells)

    def _log_means(self, split: str) -> None:
        self.log_dict(self._means[split].pop(), on_step=False, on_epoch=True, batch_size=1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log training metrics with the last batch, so that callbacks can use them at epoch end."""
        if self.trainer.is_last_batch:
            self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log validation metrics."""
        self._log_means("validation")

    def release(self) -> None:
        """Release data of cells, since the trainer, which the model keeps, refers to the plan."""

    def watch(self, loss: Tensor) -> Tensor:
        """Return the loss, and remember the first non-finite one.

        It is checked once per epoch, since each check synchronises with the device.
        """
        latest, first = loss.detach(), self._watched
        self._watched = latest if first is None else torch.where(torch.isfinite(first), latest, first)
        return loss

    def _require_finite(self) -> None:
        if self._watched is not None and not torch.isfinite(self._watched):
            raise NonFiniteLossError(f"The loss became {self._watched.item()} in epoch {self.current_epoch + 1}.")

    def on_validation_epoch_start(self) -> None:
        """Stop the stage before weights with a non-finite loss are selected."""
        self._require_finite()

    def on_train_epoch_end(self) -> None:
        """Stop the stage also in epochs without validation."""
        self._require_finite()


class SharedPlan(StagePlan):
    """Stage 1: train the encoders of the shared representations.

    Logs ``train_loss``, ``validation_loss`` and ``temperature``; and, for terms with a weight,
    ``validation_info_nce``, ``validation_correlation`` (mean squared canonical correlation) and
    ``validation_prediction`` (fraction of the variance of a modality predicted from the
    representation of the other one, mean of both).

    Parameters
    ----------
    module
        The module.
    optimisation
        Learning rate and weight decay.
    n_steps
        Total number of steps, for the learning rate schedule; not needed for a constant learning
        rate.
    """

    def __init__(self, module: IndiSeekModule, optimisation: Optimisation, n_steps: int = 0) -> None:
        super().__init__(module)
        self.optimisation = optimisation
        self.n_steps = n_steps
        self.n_active = module.encoders[module.modalities[0]].n_active
        self.trained: list[nn.Module | nn.Parameter] = [module.encoders, module.predictors, module.log_scale]
        set_trainable(module, self.trained)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch."""
        loss = self.watch(self.module.shared_objective(self.module.shared_terms(batch)))
        self.record({"train_loss": loss}, count_cells(batch))
        return loss

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Log the terms of the loss on validation cells."""
        terms = self.module.shared_terms(batch)
        figures = {
            "validation_loss": self.module.shared_objective(terms),
            "temperature": (-self.module.log_scale).exp(),
        }
        if "info_nce" in terms:
            figures["validation_info_nce"] = terms["info_nce"]
        if "canonical" in terms:
            figures["validation_correlation"] = -terms["canonical"] / self.n_active
        if "prediction" in terms:
            figures["validation_prediction"] = 1 - terms["prediction"]
        self.record(figures, count_cells(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, with a one-cycle schedule if set; the temperature has no weight decay."""
        networks = [p for part in (self.module.encoders, self.module.predictors) for p in part.parameters()]
        rate = self.optimisation.learning_rate
        adam = torch.optim.AdamW(
            [
                {"params": networks, "weight_decay": self.optimisation.weight_decay},
                {"params": [self.module.log_scale], "weight_decay": 0.0},
            ],
            lr=rate,
            fused=True,
        )
        if not self.optimisation.one_cycle or self.n_steps < MIN_CYCLE_STEPS:
            return adam
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=self.n_steps + 1, pct_start=WARMUP_SHARE)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class RegressionPlan(StagePlan):
    """Train one network per modality on a regression loss; their parameters are disjoint.

    Logs ``<modality>_train_loss`` and ``<modality>_validation_loss``.

    Parameters
    ----------
    module
        The module.
    parts
        The networks to train, by modality.
    loss
        Function of a modality and a batch of its cells that returns a scalar loss.
    n_steps
        Total number of steps, for the decay of the learning rate.
    learning_rate
        Initial learning rate.
    weight_decay
        Decoupled weight decay.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        parts: Mapping[Role, nn.Module],
        loss: Callable[[Role, Mapping[str, Tensor]], Tensor],
        *,
        n_steps: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        super().__init__(module)
        self.parts = NamedModules(parts)
        self.loss = loss
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        set_trainable(module, [self.parts])

    def train(self, mode: bool = True) -> RegressionPlan:
        """Set the mode of the trained networks; others stay in evaluation mode, without dropout."""
        super().train(False)
        self.training = mode
        self.parts.train(mode)
        return self

    def _losses(self, batch: Batch, figure: str) -> list[Tensor]:
        losses = {name: self.loss(name, batch[name]) for name, _ in self.parts.items()}
        self.record({f"{name}_{figure}": loss for name, loss in losses.items()}, count_cells(batch))
        return list(losses.values())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of losses over modalities."""
        return self.watch(torch.stack(self._losses(batch, "train_loss")).sum())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses of validation cells."""
        self._losses(batch, "validation_loss")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with cosine decay, which converges faster than a constant learning rate."""
        adam = torch.optim.AdamW(
            self.parts.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.n_steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


def count_cells(cells: Any) -> int:
    """Return the number of cells in a batch: the length of its first tensor."""
    while not isinstance(cells, Tensor):
        cells = next(iter(cells.values()))
    return len(cells)
