"""How the parts of a module learn: the losses of batches, the optimisers, and the figures of validation cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from indiseek_sc.module import set_trainable
from indiseek_sc.nn import NamedModules
from indiseek_sc.train._stopping import NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule, Optimisation
    from indiseek_sc.train._stopping import LeakProbe

    Batch = Mapping[Role, Mapping[str, Tensor]]

RISING = 0.25
"""Share of a cycle in which the learning rate rises."""

FEWEST_OF_CYCLE = 8
"""Fewer steps make no cycle: the learning rate is constant."""

EPOCHS_BETWEEN_PROBES = 5
"""A probe costs about as much as an epoch of a few thousand cells."""


class Means:
    """Means of figures over the cells of an epoch; the sums lie on the device, so that no step waits for them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.n_cells: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor], n_cells: int) -> None:
        """Add what a batch of so many cells shows."""
        for name, value in values.items():
            self.sums[name] = value.detach() * n_cells + self.sums.get(name, 0.0)
            self.n_cells[name] = self.n_cells.get(name, 0) + n_cells

    def pop(self) -> dict[str, Tensor]:
        """Return the means, and begin anew."""
        means = {name: total / self.n_cells[name] for name, total in self.sums.items()}
        self.sums, self.n_cells = {}, {}
        return means


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
        self._watched: Tensor | None = None
        self._means: dict[str, Means] = {"train": Means(), "validation": Means()}

    def train(self, mode: bool = True) -> StagePlan:
        """Switch mode, through the module's own idea of what is frozen."""
        self.training = mode
        self.module.train(mode)
        return self

    def cpu(self) -> StagePlan:
        """Stay on the device: Lightning would move the plan to the CPU when a stage ends, and the next stage back."""
        return self

    def record(self, values: Mapping[str, Tensor], n_cells: int) -> None:
        """Note figures of a batch; their means over the cells of an epoch are logged at its end.

        Lightning's own sums would do the same, for more than the arithmetic of a small network costs.
        """
        self._means["train" if self.training else "validation"].add(values, n_cells)

    def _log_means(self, split: str) -> None:
        self.log_dict(self._means[split].pop(), on_step=False, on_epoch=True, batch_size=1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the figures of training cells with the last batch, so that all callbacks read them when the epoch ends."""
        if self.trainer.is_last_batch:
            self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the figures of validation cells."""
        self._log_means("validation")

    def release(self) -> None:
        """Let go of cells that the plan holds: Lightning's trainer, which a model keeps, keeps the plan."""

    def watch(self, loss: Tensor) -> Tensor:
        """Return the loss, and remember the first one that is not finite: the host asks once an epoch, not at each step."""
        latest, first = loss.detach(), self._watched
        self._watched = latest if first is None else torch.where(torch.isfinite(first), latest, first)
        return loss

    def _require_finite(self) -> None:
        if self._watched is not None and not torch.isfinite(self._watched):
            raise NonFiniteLossError(f"The loss became {self._watched.item()} in epoch {self.current_epoch + 1}.")

    def on_validation_epoch_start(self) -> None:
        """Stop the stage before weights are kept that a loss which is not finite has spoilt."""
        self._require_finite()

    def on_train_epoch_end(self) -> None:
        """Stop the stage in an epoch without validation too."""
        self._require_finite()


class SharedPlan(StagePlan):
    """Stage 1: the encoders learn representations that find their partner.

    Logs ``train_loss`` and ``validation_loss``, of each term that has a weight ``validation_info_nce``,
    ``validation_correlation`` (mean squared canonical correlation) and ``validation_prediction`` (share of the variance of each
    modality that the other one's representation predicts, their mean), and ``temperature``.

    Parameters
    ----------
    module
        The module.
    optimisation
        Learning rate and weight decay.
    n_steps
        Steps in all, for the cycle of the learning rate; a constant one needs none.
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
        self.record({"train_loss": loss}, _count(batch))
        return loss

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Log the terms of validation cells."""
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
        self.record(figures, _count(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with one cycle of the learning rate if there is to be one; the temperature does not decay."""
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
        if not self.optimisation.one_cycle or self.n_steps < FEWEST_OF_CYCLE:
            return adam
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=self.n_steps + 1, pct_start=RISING)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class RegressionPlan(StagePlan):
    """Trains one part for each modality by a plain loss, all at once: their parameters are disjoint.

    Logs ``<modality>_train_loss`` and ``<modality>_validation_loss``.

    Parameters
    ----------
    module
        The module.
    parts
        What is trained, by modality.
    loss
        Loss of a modality on a batch of its cells, scalar; the part's mode says whether it is in training.
    n_steps
        Steps in all, for the decay of the learning rate.
    learning_rate
        Learning rate at the start.
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
        """Switch the mode of what is trained; dropout in other parts would be noise in its targets."""
        super().train(False)
        self.training = mode
        self.parts.train(mode)
        return self

    def _losses(self, batch: Batch, figure: str) -> list[Tensor]:
        losses = {name: self.loss(name, batch[name]) for name, _ in self.parts.items()}
        self.record({f"{name}_{figure}": loss for name, loss in losses.items()}, _count(batch))
        return list(losses.values())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum over modalities."""
        return self.watch(torch.stack(self._losses(batch, "train_loss")).sum())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses of validation cells."""
        self._losses(batch, "validation_loss")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with cosine decay, which gets further in as many steps than a constant learning rate."""
        adam = torch.optim.AdamW(
            self.parts.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.n_steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


class SpecificPlan(StagePlan):
    r"""Stage 2: minimise :math:`I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,\mathrm{error}_i` for all modalities at once.

    Per step the critics learn from several batches of detached representations, each with its own optimiser, then the encoders take one
    step against the critics as they stand. Critics learn alone first, since a bound means nothing while its critic lags. Where
    there are only terms without parameters, such as HSIC, the encoders step alone.

    Logs for each modality ``<modality>_error`` on validation cells (share of what Z could hold), and for each critic, with
    ``<modality>_<critic>`` in front,

    - ``_train_bound`` and ``_validation_bound``, in nats but for kernel terms;
    - ``_train_loss`` and ``_validation_loss``, what the critic minimises, where it learns;
    - ``_validation_accuracy``, how often it prefers a representation's own condition to another cell's; 0.5 is chance;
    - ``_staleness``, by how much its loss on validation cells falls by the critic steps of the first batch of an epoch, all of
      which come after an encoder step: near 0 where it keeps up, and clearly above where more steps would teach it more.

    With a probe also ``<modality>_leak``, the share of the other shared representation's variance that it explains: before the first epoch, after
    every fifth in which the encoders have moved, and after the last.

    A bound that keeps negative on validation cells is none; see :func:`warn_of_negative_bounds`.

    Parameters
    ----------
    module
        The module.
    optimisation
        Learning rates and critic steps.
    lambda_
        Weight of the error.
    n_steps
        Steps of the encoders in all, for the decay of their learning rate.
    n_warmup_steps
        Critic steps before the encoders move; by default as in ``optimisation``.
    probe
        Evaluates the representations from time to time.
    modalities
        Those whose encoders learn; all if not given.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        optimisation: Optimisation,
        *,
        lambda_: float,
        n_steps: int,
        n_warmup_steps: int | None = None,
        probe: LeakProbe | None = None,
        modalities: Sequence[Role] | None = None,
    ) -> None:
        super().__init__(module)
        self.automatic_optimization = False
        self.modalities = module.modalities if modalities is None else tuple(modalities)
        self.optimisation = optimisation
        self.lambda_ = lambda_
        self.n_steps = n_steps
        self.n_warmup_steps = optimisation.n_critic_warmup_steps if n_warmup_steps is None else n_warmup_steps
        self.probe = probe
        self.n_critic_updates = 0
        self.n_encoder_steps = 0
        is_partial = len(self.modalities) < len(module.modalities)
        self.trained = (
            [module.encoder_decoders[name].learner for name in self.modalities] if is_partial else module.learners()
        )
        set_trainable(module, [*self.trained, *(module.critics[name] for name in self.modalities)])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Teach the critics, then move the encoders; ``batch`` has those of the critics beside that of the encoders, where critics learn."""
        cells: Batch = batch
        optimizers: Any = self.optimizers()
        if self.module.critics_learn:
            cells, critic_batches = batch
            encoder_optimizer, critic_optimizer = optimizers
            held_out = self._held_out_latents() if batch_idx == 0 else {}
            before = self._losses_of_latents(held_out)
            self._teach(critic_batches, critic_optimizer)
            after = self._losses_of_latents(held_out)
            self.record({f"{name}_staleness": before[name] - after[name] for name in before}, 1)
        else:
            encoder_optimizer = optimizers

        terms = {name: self.module.specific_terms(name, cells[name]) for name in self.modalities}
        loss = torch.stack([self._objective(of_modality) for of_modality in terms.values()]).sum()
        has_warmed_up = not self.module.critics_learn or self.n_critic_updates > self.n_warmup_steps
        if self.n_steps > 0 and has_warmed_up:
            # The critics' gradients of this pass are dropped by their own next zero_grad.
            self._step(encoder_optimizer, loss)
            schedule: Any = self.lr_schedulers()
            schedule.step()
            self.n_encoder_steps += 1
        bounds = {
            f"{name}_{term}": value
            for name, of_modality in terms.items()
            for term, value in of_modality.items()
            if term != "error"
        }
        self.record(_name_split(bounds, "train"), _count(cells))
        return loss.detach()

    def _teach(self, batches: list[Batch], optimizer: torch.optim.Optimizer) -> None:
        for cells in batches:
            losses = self._critic_losses(cells)
            self._step(optimizer, torch.stack(list(losses.values())).sum())
            self.n_critic_updates += 1
        self.record(_name_split(losses, "train", "_loss"), _count(cells))

    def _critic_losses(self, cells: Batch) -> dict[str, Tensor]:
        """Return the loss of each critic that learns, by ``<modality>_<critic>``."""
        return {
            f"{name}_{critic}": loss
            for name in self.modalities
            for critic, loss in self.module.critic_losses(name, cells[name]).items()
        }

    @torch.no_grad()
    def _held_out_latents(self) -> dict[Role, tuple[Tensor, Tensor]]:
        """Return representations and conditions of the first batch of validation cells."""
        loader: Any = self.trainer.val_dataloaders
        cells = next(iter(loader))
        self.eval()  # statistics of the representation must not move
        latents = {
            name: (self.module.encode_prepared(name, cells[name]), cells[name]["against"]) for name in self.modalities
        }
        self.train()
        return latents

    @torch.no_grad()
    def _losses_of_latents(self, latents: Mapping[Role, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the critics' losses on representations that stay as they are, by ``<modality>_<critic>``."""
        losses = {name: self.module.critics[name].losses(*pair) for name, pair in latents.items()}
        return {f"{name}_{critic}": loss for name, found in losses.items() for critic, loss in found.items()}

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(self.watch(loss))
        optimizer.step()

    def _objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        bounds = [value for term, value in terms.items() if term != "error"]
        return torch.stack(bounds).sum() + self.lambda_ / 2 * terms["error"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log bounds and error of validation cells, and how good the critics are on them."""
        figures = _name_split(self._critic_losses(batch), "validation", "_loss")
        for name in self.modalities:
            terms = self.module.specific_terms(name, batch[name])
            figures[f"{name}_error"] = terms.pop("error")
            terms |= self.module.critic_diagnostics(name, batch[name])
            figures |= _name_split({f"{name}_{term}": value for term, value in terms.items()}, "validation")
        self.record(figures, _count(batch))

    def on_validation_epoch_end(self) -> None:
        """Ask the probe where it is its turn."""
        trainer: Any = self.trainer
        n_done = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        has_moved = self.n_encoder_steps > 0 or n_done == 0  # there is nothing new while critics learn alone
        every = trainer.check_val_every_n_epoch
        is_fifth = n_done // EPOCHS_BETWEEN_PROBES > (n_done - every) // EPOCHS_BETWEEN_PROBES
        is_due = is_fifth or n_done + every > trainer.max_epochs  # the last time that validation cells are asked
        if self.probe is not None and has_moved and is_due:
            self.record(self.probe(self.module), 1)
        super().on_validation_epoch_end()

    def release(self) -> None:
        """Let go of the probe, which holds cells."""
        self.probe = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam for the encoders with cosine decay, and for the critics at a constant learning rate, since they must keep up."""
        parameters = [p for part in self.trained for p in part.parameters()]
        optimizers = [torch.optim.Adam(parameters, lr=self.optimisation.specific_learning_rate, fused=True)]
        if self.module.critics_learn:
            critics = [p for name in self.modalities for p in self.module.critics[name].parameters()]
            optimizers.append(torch.optim.Adam(critics, lr=self.optimisation.critic_learning_rate, fused=True))
        return optimizers, [torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[0], max(1, self.n_steps))]


def _count(cells: Any) -> int:
    """Return the number of cells of a batch: the length of its first tensor."""
    while not isinstance(cells, Tensor):
        cells = next(iter(cells.values()))
    return len(cells)


def _name_split(figures: Mapping[str, Tensor], split: str, quantity: str = "") -> dict[str, Tensor]:
    """Put the split before the last word of each name: ``rna_nce_bound`` of validation cells is ``rna_nce_validation_bound``."""
    named = {}
    for name, value in figures.items():
        subject, _, last = f"{name}{quantity}".rpartition("_")
        named[f"{subject}_{split}_{last}"] = value
    return named
