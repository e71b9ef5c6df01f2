"""Data and trained stages that methods share for one data set and seed."""

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
"""The method whose stage 1 another one shares, with the same settings and seed.

The start of the specific representations is shared too where both have the same architecture.
"""


class StageClock(Callback):
    """Record the training time at the end of stage 1, and before the critics."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.shared = self.before_critics = 0.0

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of stage 1."""
        if isinstance(pl_module, SharedPlan):
            self.shared = time.perf_counter() - self._start

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the start of the critics."""
        is_of_critics = isinstance(pl_module, RegressionPlan) and any(
            isinstance(part, CriticSum) for part in pl_module.parts.values()
        )
        if not self.before_critics and (is_of_critics or isinstance(pl_module, SpecificPlan)):
            self.before_critics = time.perf_counter() - self._start


@dataclass
class Leader:
    """A model whose stages others take over, with its training times and its auditor."""

    model: IndiSeek
    clock: StageClock
    auditor: SpecificAuditor | None = None

    def give_to(self, model: IndiSeek) -> float:
        """Transfer trained stages to a model, and return the seconds that it saved."""
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
        Rows of training and held-out cells.
    setup
        Arguments of ``setup_mudata``.
    seed
        Seed of the models.
    max_epochs
        Limit of the epochs of every stage, for quick runs.
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
        """Return an untrained model."""
        return make(method, self.mdata, seed=self.seed, setup=self.setup)

    def lead(self, method: str, model: IndiSeek, clock: StageClock) -> None:
        """Keep a trained model if other methods share its stages."""
        if method in LEADERS.values():
            self.leaders[method] = Leader(model, clock)

    def leader_of(self, method: str) -> Leader | None:
        """Return the leader of a method, trained as far as needed if it was not run before.

        Its stages are identical to the bit to those of its full training, so no figure depends on
        earlier runs.
        """
        name = LEADERS.get(method)
        if name is not None and name not in self.leaders:
            model, clock = self.make(name), StageClock()
            self.train_start(model, self.epochs_of(model), callbacks=[clock])
            self.lead(name, model, clock)
        return None if name is None else self.leaders[name]

    def train_start(self, model: IndiSeek, epochs: Mapping[str, int], **kwargs: Any) -> None:
        """Train everything before the critics."""
        model.train(
            {**epochs, "specific": 0, "decoder": 0},
            held_out=self.test,
            plan_kwargs={"n_critic_warmup_steps": 0},
            enable_progress_bar=False,
            **kwargs,
        )

    def epochs_of(self, model: IndiSeek, changes: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return changed numbers of epochs: ``changes``, and those above the limit."""
        if self.max_epochs is None:
            return dict(changes or {})
        prefix = "max_epochs_"
        settings = vars(model.settings.optimisation).items()
        own = {name.removeprefix(prefix): n for name, n in settings if name.startswith(prefix)}
        del own["prediction"]  # not a stage of train()
        return {stage: min(n, self.max_epochs) for stage, n in (own | dict(changes or {})).items()}

    def audit(self, method: str, model: IndiSeek) -> AuditReport:
        """Audit a model, with one auditor for models with the same shared representations."""
        leader = self.leaders.get(LEADERS.get(method, method))
        if leader is None:
            return model.audit()
        leader.auditor = leader.auditor or model.make_auditor()
        return model.audit(auditor=leader.auditor)
