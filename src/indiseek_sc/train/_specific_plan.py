"""How the specific encoders learn against their critics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from indiseek_sc._keys import ROLES
from indiseek_sc.module import set_trainable
from indiseek_sc.train._plans import StagePlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule, Settings
    from indiseek_sc.train._leak_probe import LeakProbe

    Batch = Mapping[Role, Mapping[str, Tensor]]


EPOCHS_BETWEEN_PROBES = 5
"""A probe costs about as much as an epoch of a few thousand cells."""


class SpecificPlan(StagePlan):
    r"""Stage 2: minimise :math:`I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,\mathrm{error}_i` for both modalities at once.

    Per step the critics learn from several batches of detached codes, each with its own optimiser, then the encoders take one
    step against the critics as they stand. Critics learn alone first, since a bound means nothing while its critic lags. Where
    there are only terms without parameters, such as HSIC, the encoders step alone.

    Logs for each role ``<role>_error`` on validation cells (share of what Z could hold), and for each critic, with
    ``<role>_<critic>`` in front,

    - ``_train_bound`` and ``_validation_bound``, in nats but for kernel terms;
    - ``_train_loss`` and ``_validation_loss``, what the critic minimises, where it learns;
    - ``_validation_accuracy``, how often it prefers a code's own condition to another cell's; 0.5 is chance;
    - ``_staleness``, by how much its loss on validation cells falls by the critic steps of the first batch of an epoch, all of
      which come after an encoder step: near 0 where it keeps up, and clearly above where more steps would teach it more.

    With a probe also ``<role>_leak``, the share of the other shared code's variance that it reads: before the first epoch, after every fifth in which
    the encoders have moved, and after the last.

    A bound that keeps negative on validation cells is none; see :func:`warn_of_negative_bounds`.

    Parameters
    ----------
    module
        The module.
    lambda_
        Weight of the error.
    n_steps
        Steps of the encoders in all, for the decay of their step size.
    settings
        How critics and encoders step, by default as the module's.
    probe
        Judges the codes from time to time.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        *,
        lambda_: float,
        n_steps: int,
        settings: Settings | None = None,
        probe: LeakProbe | None = None,
    ) -> None:
        super().__init__(module)
        self.automatic_optimization = False
        self.lambda_ = lambda_
        self.n_steps = n_steps
        self.settings = module.settings if settings is None else settings
        self.probe = probe
        self.n_critic_updates = 0
        self.n_encoder_steps = 0
        self.trained = module.learners()
        set_trainable(module, [*self.trained, module.critics])

    def on_train_epoch_start(self) -> None:
        """Start the critics anew where their time is over."""
        lifetime = self.settings.n_critic_refresh_epochs * self.trainer.num_training_batches
        if self.module.critics_learn and 0 < lifetime <= self.n_encoder_steps:
            self.module.refresh_critics()
            self.trainer.optimizers[1].state.clear()  # moments of weights that are gone
            self.n_critic_updates = self.n_encoder_steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Teach the critics, then move the encoders; ``batch`` has those of the critics beside that of the encoders, where critics learn."""
        cells: Batch = batch
        optimizers: Any = self.optimizers()
        if self.module.critics_learn:
            cells, critic_batches = batch
            encoder_optimizer, critic_optimizer = optimizers
            held_out = self._held_out_codes() if batch_idx == 0 else {}
            before = self._losses_of_codes(held_out)
            self._teach(critic_batches, critic_optimizer)
            after = self._losses_of_codes(held_out)
            self.record({f"{name}_staleness": before[name] - after[name] for name in before}, 1)
        else:
            encoder_optimizer = optimizers

        terms = {role: self.module.specific_terms(role, cells[role]) for role in ROLES}
        loss = torch.stack([self._objective(terms[role]) for role in ROLES]).sum()
        if self.n_steps > 0 and (
            not self.module.critics_learn or self.n_critic_updates > self.settings.n_critic_warmup_steps
        ):
            # The critics' gradients of this pass are dropped by their own next zero_grad.
            self._step(encoder_optimizer, loss)
            schedule: Any = self.lr_schedulers()
            schedule.step()
            self.n_encoder_steps += 1
        bounds = {f"{role}_{name}": x for role in ROLES for name, x in terms[role].items() if name != "error"}
        self.record(_name_split(bounds, "train"), _count(cells))
        return loss.detach()

    def _teach(self, batches: list[Batch], optimizer: torch.optim.Optimizer) -> None:
        for cells in batches:
            losses = self._critic_losses(cells)
            self._step(optimizer, torch.stack(list(losses.values())).sum())
            self.n_critic_updates += 1
        self.record(_name_split(losses, "train", "_loss"), _count(cells))

    def _critic_losses(self, cells: Batch) -> dict[str, Tensor]:
        """Return the loss of each critic that learns, by ``<role>_<critic>``."""
        return {
            f"{role}_{name}": loss
            for role in ROLES
            for name, loss in self.module.critic_losses(role, cells[role]).items()
        }

    @torch.no_grad()
    def _held_out_codes(self) -> dict[Role, tuple[Tensor, Tensor]]:
        """Return codes and conditions of the first batch of validation cells."""
        loader: Any = self.trainer.val_dataloaders
        cells = next(iter(loader))
        self.eval()  # statistics of the code must not move
        codes = {role: (self.module.encode_prepared(role, cells[role]), cells[role]["against"]) for role in ROLES}
        self.train()
        return codes

    @torch.no_grad()
    def _losses_of_codes(self, codes: Mapping[Role, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the critics' losses on codes that stay as they are, by ``<role>_<critic>``."""
        losses = {role: self.module.critics[role].losses(*pair) for role, pair in codes.items()}
        return {f"{role}_{name}": loss for role, of_role in losses.items() for name, loss in of_role.items()}

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(self.require_finite(loss))
        optimizer.step()

    def _objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        bounds = [value for name, value in terms.items() if name != "error"]
        return torch.stack(bounds).sum() + self.lambda_ / 2 * terms["error"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log bounds and error of held-out cells, and how good the critics are on them."""
        figures = _name_split(self._critic_losses(batch), "validation", "_loss")
        for role in ROLES:
            terms = self.module.specific_terms(role, batch[role])
            figures[f"{role}_error"] = terms.pop("error")
            terms |= self.module.critic_diagnostics(role, batch[role])
            figures |= _name_split({f"{role}_{name}": x for name, x in terms.items()}, "validation")
        self.record(figures, _count(batch))

    def on_validation_epoch_end(self) -> None:
        """Let the probe judge where it is its turn."""
        trainer = self.trainer
        n_done = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        has_moved = self.n_encoder_steps > 0 or n_done == 0  # there is nothing new while critics learn alone
        is_due = n_done % EPOCHS_BETWEEN_PROBES == 0 or n_done == trainer.max_epochs
        if self.probe is not None and has_moved and is_due:
            self.record(self.probe(self.module), 1)

    def count_epochs(self, n_epochs: int, steps_per_epoch: int) -> int:
        """Return the number of epochs in all, with those in which critics learn alone, for ``n_epochs`` of the encoders."""
        if not self.module.critics_learn:
            return n_epochs
        s = self.settings
        n_alone = -(-s.n_critic_warmup_steps // (s.n_critic_steps * steps_per_epoch))
        n_lives = -(-n_epochs // s.n_critic_refresh_epochs) if s.n_critic_refresh_epochs else 1
        return n_epochs + n_alone * max(1, n_lives)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam for the encoders with cosine decay, and for the critics at a constant pace, since they must keep up."""
        parameters = [p for part in self.trained for p in part.parameters()]
        optimizers = [torch.optim.Adam(parameters, lr=self.settings.specific_learning_rate)]
        if self.module.critics_learn:
            critics = torch.optim.Adam(self.module.critics.parameters(), lr=self.settings.critic_learning_rate)
            optimizers.append(critics)
        return optimizers, [torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[0], max(1, self.n_steps))]


def _count(cells: Batch) -> int:
    return len(cells["rna"]["condition"])


def _name_split(figures: Mapping[str, Tensor], split: str, quantity: str = "") -> dict[str, Tensor]:
    """Put the split before the last word of each name: ``rna_nce_bound`` of validation cells is ``rna_nce_validation_bound``."""
    named = {}
    for name, value in figures.items():
        subject, _, last = f"{name}{quantity}".rpartition("_")
        named[f"{subject}_{split}_{last}"] = value
    return named
