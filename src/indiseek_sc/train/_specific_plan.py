"""Training plan of stage 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from indiseek_sc.module import set_trainable
from indiseek_sc.train._plans import StagePlan, count_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule, Optimisation
    from indiseek_sc.train._plans import Batch
    from indiseek_sc.train._stopping import LeakProbe

EPOCHS_BETWEEN_PROBES = 5
"""Number of epochs between fits of the probe, each of which takes about as long as an epoch."""


class SpecificPlan(StagePlan):
    r"""Stage 2: train the encoders of the specific representations and their critics.

    Minimises :math:`I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,\mathrm{error}_i` for all modalities
    at once.

    In each step, the critics are trained on several batches of detached representations, with their
    own optimiser; then the encoders take one step against the fixed critics. Critics are trained
    alone first, since a bound is meaningless while its critic is far from its optimum. With
    parameter-free terms only, such as HSIC, only the encoders are trained.

    Logs ``<modality>_error`` on validation cells (the reconstruction error as a fraction of the
    variance that Z can represent) for each modality, and for each critic, prefixed by
    ``<modality>_<critic>``,

    - ``_train_bound`` and ``_validation_bound``, in nats except for kernel terms;
    - ``_train_loss`` and ``_validation_loss``, the loss of the critic, if it has parameters;
    - ``_validation_accuracy``, how often it prefers the condition of the same cell to that of
      another one; 0.5 is chance;
    - ``_staleness``, the decrease of its validation loss over the critic steps of the first batch
      of an epoch, which follow an encoder step: near 0 if the critic is close to its optimum, and
      clearly above 0 if it needs more steps.

    With a probe, also logs ``<modality>_leak``, the fraction of variance of the other modality's
    shared representation that it explains: before the first epoch, after every fifth epoch once the
    encoders have been trained, and after the last epoch.

    A bound that stays negative on validation cells is invalid; see :func:`warn_of_negative_bounds`.

    Parameters
    ----------
    module
        The module.
    optimisation
        Learning rates and critic steps.
    lambda_
        Weight of the reconstruction error.
    n_steps
        Total number of encoder steps, for the decay of their learning rate.
    n_warmup_steps
        Number of critic steps before encoders are trained; by default as in ``optimisation``.
    probe
        Probe that evaluates the representations every few epochs.
    modalities
        Modalities whose encoders are trained; all by default.
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
        """Train the critics, then the encoders.

        If critics have parameters, ``batch`` consists of the batch of the encoders and a list of
        batches of the critics.
        """
        cells: Batch = batch
        optimizers: Any = self.optimizers()
        if self.module.critics_learn:
            cells, critic_batches = batch
            encoder_optimizer, critic_optimizer = optimizers
            held_out = self._held_out_latents() if batch_idx == 0 else {}
            before = self._losses_of_latents(held_out)
            self._train_critics(critic_batches, critic_optimizer)
            after = self._losses_of_latents(held_out)
            self.record({f"{name}_staleness": before[name] - after[name] for name in before}, 1)
        else:
            encoder_optimizer = optimizers

        terms = {name: self.module.specific_terms(name, cells[name]) for name in self.modalities}
        loss = torch.stack([self._objective(of_modality) for of_modality in terms.values()]).sum()
        has_warmed_up = not self.module.critics_learn or self.n_critic_updates > self.n_warmup_steps
        if self.n_steps > 0 and has_warmed_up:
            # Gradients of the critics from this pass are discarded by their next zero_grad.
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
        self.record(_insert_split_name(bounds, "train"), count_cells(cells))
        return loss.detach()

    def _train_critics(self, batches: list[Batch], optimizer: torch.optim.Optimizer) -> None:
        for cells in batches:
            losses = self._critic_losses(cells)
            self._step(optimizer, torch.stack(list(losses.values())).sum())
            self.n_critic_updates += 1
        self.record(_insert_split_name(losses, "train", "_loss"), count_cells(cells))

    def _critic_losses(self, cells: Batch) -> dict[str, Tensor]:
        """Return the loss of each critic with parameters, by ``<modality>_<critic>``."""
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
        self.eval()  # running statistics of the representation must not change
        latents = {
            name: (self.module.encode_prepared(name, cells[name]), cells[name]["against"]) for name in self.modalities
        }
        self.train()
        return latents

    @torch.no_grad()
    def _losses_of_latents(self, latents: Mapping[Role, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return losses of the critics on fixed representations, by ``<modality>_<critic>``."""
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
        """Log bounds, errors and performance of the critics on validation cells."""
        figures = _insert_split_name(self._critic_losses(batch), "validation", "_loss")
        for name in self.modalities:
            terms = self.module.specific_terms(name, batch[name])
            figures[f"{name}_error"] = terms.pop("error")
            terms |= self.module.critic_diagnostics(name, batch[name])
            figures |= _insert_split_name({f"{name}_{term}": value for term, value in terms.items()}, "validation")
        self.record(figures, count_cells(batch))

    def on_validation_epoch_end(self) -> None:
        """Fit the probe if it is due, and log validation metrics."""
        trainer: Any = self.trainer
        n_done = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        has_changed = self.n_encoder_steps > 0 or n_done == 0
        every = trainer.check_val_every_n_epoch
        is_fifth = n_done // EPOCHS_BETWEEN_PROBES > (n_done - every) // EPOCHS_BETWEEN_PROBES
        is_due = is_fifth or n_done + every > trainer.max_epochs  # the last validation
        if self.probe is not None and has_changed and is_due:
            self.record(self.probe(self.module), 1)
        super().on_validation_epoch_end()

    def release(self) -> None:
        """Release the probe, which contains data of cells."""
        self.probe = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam, with cosine decay for encoders and a constant learning rate for critics."""
        parameters = [p for part in self.trained for p in part.parameters()]
        optimizers = [torch.optim.Adam(parameters, lr=self.optimisation.specific_learning_rate, fused=True)]
        if self.module.critics_learn:
            critics = [p for name in self.modalities for p in self.module.critics[name].parameters()]
            optimizers.append(torch.optim.Adam(critics, lr=self.optimisation.critic_learning_rate, fused=True))
        return optimizers, [torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[0], max(1, self.n_steps))]


def _insert_split_name(figures: Mapping[str, Tensor], split: str, quantity: str = "") -> dict[str, Tensor]:
    """Insert the split before the last word of each name, as in ``rna_nce_validation_bound``."""
    named = {}
    for name, value in figures.items():
        subject, _, last = f"{name}{quantity}".rpartition("_")
        named[f"{subject}_{split}_{last}"] = value
    return named
