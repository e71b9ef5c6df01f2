"""How encoders and regressions learn by a loss on batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from indiseek_sc._keys import ROLES
from indiseek_sc.module import set_trainable
from indiseek_sc.nn import NamedModules
from indiseek_sc.train._keep_best import NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule


class StagePlan(pl.LightningModule):
    """What the plans of all stages have in common.

    Parameters
    ----------
    module
        The module; the parts that the plan does not train keep still.
    """

    def __init__(self, module: IndiSeekModule) -> None:
        super().__init__()
        self.module = module

    def train(self, mode: bool = True) -> StagePlan:
        """Switch mode, through the module's own idea of what is frozen."""
        self.training = mode
        self.module.train(mode)
        return self

    def record(self, values: Mapping[str, Tensor], n_cells: int, prefix: str = "") -> None:
        """Log means over the cells of an epoch."""
        self.log_dict(
            {f"{prefix}{k}": v.detach() for k, v in values.items()}, on_step=False, on_epoch=True, batch_size=n_cells
        )

    def require_finite(self, loss: Tensor) -> Tensor:
        """Return the loss, or stop the stage before the optimiser takes it in."""
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"The loss became {loss.item()} in epoch {self.current_epoch + 1}.")
        return loss


class SharedPlan(StagePlan):
    """Stage 1: the encoders learn codes that find their partner.

    Logs ``train_loss`` and ``validation_loss``, of each term that has a weight ``validation_info_nce``,
    ``validation_correlation`` (mean squared canonical correlation) and ``validation_prediction`` (share of the variance of each
    modality that the other one's code predicts, their mean), and ``temperature``.

    Parameters
    ----------
    module
        The module.
    """

    def __init__(self, module: IndiSeekModule) -> None:
        super().__init__(module)
        self.trained: list[nn.Module | nn.Parameter] = [module.encoders, module.predictors, module.log_scale]
        set_trainable(module, self.trained)

    def training_step(self, batch: Mapping[Role, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch."""
        terms = self.module.shared_terms(batch)
        loss = self.require_finite(self.module.shared_objective(terms))
        self.record({"train_loss": loss}, len(batch["rna"]))
        return loss

    def validation_step(self, batch: Mapping[Role, Tensor], batch_idx: int) -> None:
        """Log the terms of held-out cells."""
        terms = self.module.shared_terms(batch)
        figures = {
            "validation_loss": self.module.shared_objective(terms),
            "temperature": (-self.module.log_scale).exp(),
        }
        if "info_nce" in terms:
            figures["validation_info_nce"] = terms["info_nce"]
        if "canonical" in terms:
            figures["validation_correlation"] = -terms["canonical"] / self.module.encoders["rna"].n_active
        if "prediction" in terms:
            figures["validation_prediction"] = 1 - terms["prediction"]
        self.record(figures, len(batch["rna"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the temperature does not decay."""
        s = self.module.settings
        networks = [p for part in (self.module.encoders, self.module.predictors) for p in part.parameters()]
        return torch.optim.AdamW(
            [
                {"params": networks, "weight_decay": s.weight_decay},
                {"params": [self.module.log_scale], "weight_decay": 0.0},
            ],
            lr=s.learning_rate,
        )


class RegressionPlan(StagePlan):
    """Trains one part for each modality by a plain loss, all at once: their parameters are disjoint.

    Logs ``<role>_train_loss`` and ``<role>_validation_loss``.

    Parameters
    ----------
    module
        The module.
    parts
        What is trained, by role.
    loss
        Loss of a role on a batch of its cells, scalar; the part's mode tells it whether it is in training.
    n_steps
        Steps in all, for the decay of the step size.
    learning_rate
        Step size at the start; by default ``regression_learning_rate`` of the settings.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        parts: Mapping[Role, nn.Module],
        loss: Callable[[Role, Mapping[str, Tensor]], Tensor],
        *,
        n_steps: int,
        learning_rate: float | None = None,
    ) -> None:
        super().__init__(module)
        self.learning_rate = module.settings.regression_learning_rate if learning_rate is None else learning_rate
        self.parts = NamedModules(parts)
        self.loss = loss
        self.n_steps = n_steps
        set_trainable(module, [self.parts])

    def train(self, mode: bool = True) -> RegressionPlan:
        """Switch the mode of what is trained; dropout in other parts would be noise in its targets."""
        super().train(False)
        self.training = mode
        self.parts.train(mode)
        return self

    def _losses(self, batch: Mapping[Role, Mapping[str, Tensor]], name: str) -> list[Tensor]:
        losses = {role: self.loss(role, batch[role]) for role in ROLES}
        self.record({f"{role}_{name}": loss for role, loss in losses.items()}, len(batch["rna"]["condition"]))
        return list(losses.values())

    def training_step(self, batch: Mapping[Role, Mapping[str, Tensor]], batch_idx: int) -> Tensor:
        """Return the sum over modalities."""
        return self.require_finite(torch.stack(self._losses(batch, "train_loss")).sum())

    def validation_step(self, batch: Mapping[Role, Mapping[str, Tensor]], batch_idx: int) -> None:
        """Log the losses of held-out cells."""
        self._losses(batch, "validation_loss")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with cosine decay, which gets further in as many steps than a constant pace."""
        s = self.module.settings
        adam = torch.optim.AdamW(self.parts.parameters(), lr=self.learning_rate, weight_decay=s.weight_decay)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.n_steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": decay, "interval": "step"}}
