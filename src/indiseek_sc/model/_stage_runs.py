"""How one stage is run: how long, on which batches, with which bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indiseek_sc._keys import REGRESSION_TITLES, ROLES
from indiseek_sc.train import KeepBest, RegressionPlan, StageData, StageProgress, StageRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import Settings
    from indiseek_sc.train import KeepAt, Split
    from indiseek_sc.train._plans import StagePlan

STEPS_PER_EPOCH = 100
"""An epoch of large data is a random part of it, so that progress and early stopping look often enough."""

FEWEST_STEPS_PER_EPOCH = 10
"""A regression takes smaller batches of small data, else its epochs would be over before anything is learned."""

PATIENT_STEPS = 400
"""A regression is given at least this many steps without a gain: what looks flat at large steps falls as these decay."""

SMALLEST_BATCH = 64


@dataclass(frozen=True)
class RunOptions:
    """What a call of ``train`` may change of how stages run; see there."""

    max_epochs: int | Mapping[str, int] | None
    batch_size: int | None
    early_stopping: bool
    runner: Mapping[str, Any]
    critic_settings: Settings | None = None
    keep_critics: bool = False
    keep_start: bool = False


class StageRuns:
    """Runs single stages of a model; in which order, :class:`~indiseek_sc.model._stages.Stages` knows.

    Parameters
    ----------
    model
        The model, whose module is trained and whose history grows.
    features
        Features of all cells by role, shape ``(n_cells, n_features)``.
    options
        How to run.
    split
        Rows of ``features`` to learn from and to choose by; the model's own split if not given.
    """

    def __init__(
        self, model: Any, features: Mapping[Role, Tensor], options: RunOptions, split: Split | None = None
    ) -> None:
        self.model = model
        self.module = model.module
        self.settings = model.settings
        self.split = model.split if split is None else split
        self.features = features
        self.options = options
        self.best_epochs: dict[str, int] = {}  # of the last stage, by the figure that judged

    def _run_regression(
        self,
        stage: str,
        parts: Mapping[Role, torch.nn.Module],
        loss: Callable[[Role, Mapping[str, Tensor]], Tensor],
        cells: Mapping[Role, dict[str, Tensor]],
        *,
        smallest_gain: float,
        learning_rate: float | None = None,
        keep_at: KeepAt | None = None,
    ) -> str | None:
        train = self.split.train
        batch_size = min(
            self._batch_size("specific_batch_size"), max(train.size // FEWEST_STEPS_PER_EPOCH, SMALLEST_BATCH)
        )
        data = StageData(cells, train, self.split.validation, batch_size=batch_size, seed=self.model.seed)
        judged = {f"{role}_validation_loss": parts[role] for role in ROLES}
        steps_per_epoch = self._steps_per_epoch(data)
        patience = self._patience() and max(self._patience(), -(-PATIENT_STEPS // steps_per_epoch))
        return self._run_stage(
            stage,
            RegressionPlan(
                self.module,
                parts,
                loss,
                n_steps=self._max_epochs(stage) * steps_per_epoch,
                learning_rate=learning_rate,
            ),
            data,
            REGRESSION_TITLES[stage],
            {f"{role}_validation_loss": self.model.modalities[role] for role in ROLES},
            KeepBest(judged, patience=patience, smallest_gain=smallest_gain) if keep_at is None else keep_at,
            max_epochs=None if keep_at is None else max(keep_at.epochs.values()),
        )

    def _run_stage(
        self,
        stage: str,
        plan: StagePlan,
        data: StageData,
        description: str,
        figures: Mapping[str, str],
        keep_best: KeepBest,
        max_epochs: int | None = None,
    ) -> str | None:
        runner = StageRunner(
            self.model,
            plan,
            data,
            stage=stage,
            keep_best=keep_best,
            progress=StageProgress(description, figures),
            max_epochs=self._max_epochs(stage) if max_epochs is None else max_epochs,
            limit_train_batches=self._steps_per_epoch(data),
            **self.options.runner,
        )
        reason = runner()
        self.best_epochs = keep_best.best_epochs
        return reason

    @staticmethod
    def _steps_per_epoch(data: StageData) -> int:
        return min(len(data.train_dataloader()), STEPS_PER_EPOCH)

    def _max_epochs(self, stage: str) -> int:
        for twin in ("_without", "_again"):  # it has as many, and the same decay
            stage = stage.removesuffix(twin)
        wanted = self.options.max_epochs
        if wanted is not None and not isinstance(wanted, int):
            wanted = wanted.get(stage)
        return getattr(self.settings, f"max_epochs_{stage}") if wanted is None else wanted

    def _batch_size(self, name: str) -> int:
        return self.options.batch_size or getattr(self.settings, name)

    def _patience(self) -> int:
        return self.settings.patience if self.options.early_stopping else 0
