"""What the methods of one data set and seed have in common, and is made once: the data, and trained stages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.callbacks import Callback

from indiseek_sc.baselines import make
from indiseek_sc.losses import CriticSum
from indiseek_sc.train import RegressionPlan, SharedPlan, SpecificPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer
    from mudata import MuData

    from indiseek_sc import IndiSeek
    from indiseek_sc.metrics import AuditReport, SpecificAuditor

LEADERS = {
    "factorized_cl": "clip",
    "intra_modal": "indiseek",
    "no_reconstruction": "indiseek",
    "no_critics": "indiseek",
    "no_independence": "indiseek",
}
"""Whose stage 1 a method has, with the same settings and seed, and the start of its specific representations where that is of the same make."""


class StageClock(Callback):
    """Notes how long a model has been trained when stage 1 is over, and when critics begin to judge."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.shared = self.before_critics = 0.0

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the end of stage 1."""
        if isinstance(pl_module, SharedPlan):
            self.shared = time.perf_counter() - self._start

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that all that comes before the critics is there."""
        is_of_critics = isinstance(pl_module, RegressionPlan) and any(
            isinstance(part, CriticSum) for part in pl_module.parts.values()
        )
        if not self.before_critics and (is_of_critics or isinstance(pl_module, SpecificPlan)):
            self.before_critics = time.perf_counter() - self._start


@dataclass
class Leader:
    """A model whose stages others take over, what those cost, and the auditor of its shared representations once there is one."""

    model: IndiSeek
    clock: StageClock
    auditor: SpecificAuditor | None = None

    def give_to(self, model: IndiSeek) -> float:
        """Hand over, and return the seconds that the model would have needed for what it got."""
        model.take_over(self.model)
        return self.clock.before_critics if "specific" in model.stages_ else self.clock.shared


@dataclass
class Case:
    """A data set and a seed.

    Parameters
    ----------
    mdata
        The data.
    train, test
        Rows to learn from, and rows held out.
    setup
        Arguments of ``setup_mudata``.
    seed
        Seed of the models.
    max_epochs
        Limit for every stage, for trials.
    """

    mdata: MuData
    train: np.ndarray
    test: np.ndarray
    setup: dict[str, Any]
    seed: int
    max_epochs: int | None = None
    leaders: dict[str, Leader] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    def make(self, method: str) -> IndiSeek:
        """Make a model that is not trained yet."""
        return make(method, self.mdata, seed=self.seed, setup=self.setup)

    def lead(self, method: str, model: IndiSeek, clock: StageClock) -> None:
        """Keep a trained model for those that follow, if any method does."""
        if method in LEADERS.values():
            self.leaders[method] = Leader(model, clock)

    def leader_of(self, method: str) -> Leader | None:
        """Return whom a method follows; a leader that was not run here is trained as far as others need it.

        To the bit, that is as far as its whole training would have got, so that no figure depends on what was run before.
        """
        name = LEADERS.get(method)
        if name is not None and name not in self.leaders:
            model, clock = self.make(name), StageClock()
            self.train_start(model, self.epochs_of(model), callbacks=[clock])
            self.lead(name, model, clock)
        return None if name is None else self.leaders[name]

    def train_start(self, model: IndiSeek, epochs: Mapping[str, int], **kwargs: Any) -> None:
        """Train all that comes before the critics."""
        model.train(
            {**epochs, "specific": 0, "decoder": 0},
            held_out=self.test,
            plan_kwargs={"n_critic_warmup_steps": 0},
            enable_progress_bar=False,
            **kwargs,
        )

    def epochs_of(self, model: IndiSeek, changes: Mapping[str, int] | None = None) -> dict[str, int]:
        """Numbers of epochs to train by, where they are not the model's own: ``changes``, and those above the limit."""
        if self.max_epochs is None:
            return dict(changes or {})
        prefix = "max_epochs_"
        settings = vars(model.settings.optimisation).items()
        own = {name.removeprefix(prefix): n for name, n in settings if name.startswith(prefix)}
        del own["prediction"]  # which is no stage of the training
        return {stage: min(n, self.max_epochs) for stage, n in (own | dict(changes or {})).items()}

    def audit(self, method: str, model: IndiSeek) -> AuditReport:
        """Audit a model; what depends on shared representations that others have too is probed once."""
        leader = self.leaders.get(LEADERS.get(method, method))
        if leader is None:
            return model.audit()
        leader.auditor = leader.auditor or model.make_auditor()
        return model.audit(auditor=leader.auditor)
