"""How the specific encoders learn against their critics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from indiseek_sc._keys import ROLES
from indiseek_sc.module import set_trainable
from indiseek_sc.train._plans import StagePlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

    Batch = Mapping[Role, Mapping[str, Tensor]]


class SpecificPlan(StagePlan):
    r"""Stage 2: minimise :math:`I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,\mathrm{error}_i` for both modalities at once.

    Per step the critics learn from several batches of detached codes, each with its own optimiser, then the encoders take one
    step against the critics as they stand. Critics learn alone first, since a bound means nothing while its critic lags. Where
    there are only terms without parameters, the encoders step alone.

    Logs for each role ``<role>_<critic>_bound`` on validation cells (nats), ``<role>_error`` on validation cells (share of what
    Z could hold), and ``<role>_critic_loss`` on training cells.

    Parameters
    ----------
    module
        The module.
    lambda_
        Weight of the error.
    n_steps
        Steps of the encoders in all, for the decay of their step size.
    """

    def __init__(self, module: IndiSeekModule, *, lambda_: float, n_steps: int) -> None:
        super().__init__(module)
        self.automatic_optimization = False
        self.lambda_ = lambda_
        self.n_steps = n_steps
        self.n_critic_updates = 0
        self.trained = module.learners()
        set_trainable(module, [*self.trained, module.critics])

    def training_step(self, batch: tuple[Batch, list[Batch]] | Batch, batch_idx: int) -> Tensor:
        """Teach the critics, then move the encoders."""
        cells = batch
        if self.module.critics_learn:
            cells, critic_batches = batch
            encoder_optimizer, critic_optimizer = self.optimizers()
            self._teach(critic_batches, critic_optimizer)
        else:
            encoder_optimizer = self.optimizers()

        loss = torch.stack([self._objective(self.module.specific_terms(role, cells[role])) for role in ROLES]).sum()
        if not self.module.critics_learn or self.n_critic_updates > self.module.settings.n_critic_warmup_steps:
            # The critics' gradients of this pass are dropped by their own next zero_grad.
            self._step(encoder_optimizer, loss)
            self.lr_schedulers().step()
        return loss.detach()

    def _teach(self, critic_batches: list[Batch], critic_optimizer: torch.optim.Optimizer) -> None:
        for extra in critic_batches:
            losses = {role: self.module.critic_loss(role, extra[role]) for role in ROLES}
            self._step(critic_optimizer, torch.stack(list(losses.values())).sum())
            self.n_critic_updates += 1
        self.record({f"{role}_critic_loss": loss for role, loss in losses.items()}, len(extra["rna"]["condition"]))

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(self.require_finite(loss))
        optimizer.step()

    def _objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        bounds = [value for name, value in terms.items() if name != "error"]
        return torch.stack(bounds).sum() + self.lambda_ / 2 * terms["error"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log bounds and error of held-out cells."""
        for role in ROLES:
            self.record(self.module.specific_terms(role, batch[role]), len(batch[role]["condition"]), f"{role}_")

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        """Adam for the encoders with cosine decay, and for the critics at a constant pace, since they must keep up."""
        s = self.module.settings
        parameters = [p for part in self.trained for p in part.parameters()]
        optimizers = [torch.optim.Adam(parameters, lr=s.learning_rate)]
        if self.module.critics_learn:
            optimizers.append(torch.optim.Adam(self.module.critics.parameters(), lr=s.critic_learning_rate))
        return optimizers, [torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[0], self.n_steps)]
