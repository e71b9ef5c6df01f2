"""The order of the stages, and what is computed between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.model._closed_forms import finish_shared, start_shared
from indiseek_sc.train import KeepBest, RegressionPlan, SharedPlan, SpecificPlan, StageData, StageProgress, StageRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.train._plans import StagePlan

STEPS_PER_EPOCH = 100
"""An epoch of large data is a random part of it, so that progress and early stopping look often enough."""


@dataclass(frozen=True)
class RunOptions:
    """What a call of ``train`` may change of how stages run; see there."""

    max_epochs: int | Mapping[str, int] | None
    batch_size: int | None
    early_stopping: bool
    runner: Mapping[str, Any]


class Stages:
    """Runs the stages on features that lie on the device.

    Each returns why it ended early, in words, or None.

    Parameters
    ----------
    model
        The model, whose module is trained and whose history grows.
    features
        Features of all cells by role, shape ``(n_cells, n_features)``.
    options
        How to run.
    """

    def __init__(self, model: Any, features: Mapping[Role, Tensor], options: RunOptions) -> None:
        self.model = model
        self.module = model.module
        self.settings = model.settings
        self.split = model.split
        self.features = features
        self.options = options

    def train_shared(self) -> str | None:
        """Stage 1, from its closed-form start to canonical directions."""
        module, split, features = self.module, self.split, self.features
        module.reset_shared()
        module.to(features["rna"].device)
        start = start_shared(module, features, split) if self.settings.linear_start else None
        data = StageData(
            dict(features),
            split.train,
            split.validation,
            batch_size=self._batch_size("batch_size"),
            seed=self.model.seed,
        )
        reason = self._run_stage(
            "shared",
            SharedPlan(module),
            data,
            "Shared codes",
            {"validation_info_nce": "InfoNCE", "validation_correlation": "correlation²"},
            KeepBest({"validation_info_nce": _SharedParts(module)}, patience=self._patience()),
        )
        if start is not None:
            finish_shared(module, features, split, start)
        return reason

    def train_specific(self, batch: Tensor, lambda_: float) -> str | None:
        """Stage 2: conditional whitening, critics, decoder, and the joint code; ``batch`` has shape ``(n_cells,)``."""
        module, train, features = self.module, self.split.train, self.features
        module.reset_specific()
        module.to(batch.device)
        module.frozen = module.frozen_in_specific
        conditions = self._conditions(batch)
        for role in ROLES:
            n_shared = module.rotations[role].n_kept
            module.codecs[role].fit(features[role][train], conditions[role][train], n_shared)

        reason = self._train_conditional(conditions) if module.codecs["rna"].is_conditional else None
        cells = self._prepare(conditions)
        self._freeze_statistics(cells)
        if reason is None and module.learners():
            reason = self._train_critics(cells, lambda_)
            if "encoders" not in module.frozen:
                conditions = self._conditions(batch)
                cells = self._prepare(conditions)
            self._freeze_statistics(cells)
        with torch.no_grad():
            specific = {role: module.encode_prepared(role, cells[role]) for role in ROLES}
        for role in ROLES:
            module.codecs[role].start_decoder(features[role][train], specific[role][train], conditions[role][train])
        if reason is None and module.codecs["rna"].is_refined:
            reason = self._train_decoder(conditions, specific)
        with torch.no_grad():
            decoded = [module.codecs[role].decode(specific[role], conditions[role])[train] for role in ROLES]
        module.joint.fit(*decoded)
        return reason

    @torch.no_grad()
    def _conditions(self, batch: Tensor) -> dict[Role, Tensor]:
        module, features = self.module, self.features
        return {role: module.condition(role, module.shared(role, features[role]), batch) for role in ROLES}

    @torch.no_grad()
    def _prepare(self, conditions: Mapping[Role, Tensor]) -> dict[Role, dict[str, Tensor]]:
        return {role: self.module.prepare_specific(role, self.features, conditions) for role in ROLES}

    def _train_conditional(self, conditions: Mapping[Role, Tensor]) -> str | None:
        codecs, train, features = self.module.codecs, self.split.train, self.features
        cells = {
            role: {"scores": codecs[role].scores(features[role], conditions[role]), "condition": conditions[role]}
            for role in ROLES
        }
        parts = {role: codecs[role].conditional for role in ROLES}
        reason = self._run_regression("conditional", parts, self.module.conditional_loss, cells, smallest_gain=3e-3)
        for role in ROLES:
            codecs[role].freeze_start(features[role][train], conditions[role][train])
        return reason

    def _train_decoder(self, conditions: Mapping[Role, Tensor], specific: Mapping[Role, Tensor]) -> str | None:
        with torch.no_grad():
            closed = {role: self.module.codecs[role].decode_closed(specific[role], conditions[role]) for role in ROLES}
        cells = {
            role: {
                "features": self.features[role],
                "condition": conditions[role],
                "specific": specific[role],
                "closed": closed[role],
            }
            for role in ROLES
        }
        parts = {role: self.module.codecs[role].refinement for role in ROLES}
        return self._run_regression("decoder", parts, self.module.decoding_error, cells, smallest_gain=1e-3)

    def _run_regression(
        self,
        stage: str,
        parts: Mapping[Role, torch.nn.Module],
        loss: Callable[[Role, Mapping[str, Tensor]], Tensor],
        cells: Mapping[Role, dict[str, Tensor]],
        *,
        smallest_gain: float,
    ) -> str | None:
        description = {"conditional": "Conditional whitening", "decoder": "Decoder"}[stage]
        batch_size = self._batch_size("specific_batch_size")
        data = StageData(cells, self.split.train, self.split.validation, batch_size=batch_size, seed=self.model.seed)
        judged = {f"{role}_validation_loss": parts[role] for role in ROLES}
        return self._run_stage(
            stage,
            RegressionPlan(self.module, parts, loss, n_steps=self._max_epochs(stage) * self._steps_per_epoch(data)),
            data,
            description,
            {f"{role}_validation_loss": self.model.modalities[role] for role in ROLES},
            KeepBest(judged, patience=self._patience(), smallest_gain=smallest_gain),
        )

    def _train_critics(self, cells: Mapping[Role, Mapping[str, Tensor]], lambda_: float) -> str | None:
        module, split, s = self.module, self.split, self.settings
        data = StageData(
            {role: dict(tensors) for role, tensors in cells.items()},
            split.train,
            split.validation,
            batch_size=self._batch_size("specific_batch_size"),
            n_extra=s.n_critic_steps if module.critics_learn else 0,
            seed=self.model.seed,
        )
        steps_per_epoch = self._steps_per_epoch(data)
        n_epochs = self._max_epochs("specific")
        n_alone = -(-s.n_critic_warmup_steps // (s.n_critic_steps * steps_per_epoch)) if module.critics_learn else 0
        return self._run_stage(
            "specific",
            SpecificPlan(module, lambda_=lambda_, n_steps=n_epochs * steps_per_epoch),
            data,
            "Specific codes",
            {f"{role}_error": f"{self.model.modalities[role]} error" for role in ROLES},
            KeepBest({"latest": torch.nn.ModuleList(module.learners())}, patience=0),
            max_epochs=n_epochs + n_alone,
        )

    def _freeze_statistics(self, cells: Mapping[Role, Mapping[str, Tensor]]) -> None:
        train = torch.from_numpy(self.split.train)
        for role in ROLES:
            rows = {name: x[train.to(x.device)] for name, x in cells[role].items()}
            self.module.codecs[role].freeze_statistics(rows, rows["condition"])

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
        return runner()

    @staticmethod
    def _steps_per_epoch(data: StageData) -> int:
        return min(len(data.train_dataloader()), STEPS_PER_EPOCH)

    def _max_epochs(self, stage: str) -> int:
        wanted = self.options.max_epochs
        if wanted is not None and not isinstance(wanted, int):
            wanted = wanted.get(stage)
        return getattr(self.settings, f"max_epochs_{stage}") if wanted is None else wanted

    def _batch_size(self, name: str) -> int:
        return self.options.batch_size or getattr(self.settings, name)

    def _patience(self) -> int:
        return self.settings.patience if self.options.early_stopping else 0


class _SharedParts(torch.nn.Module):
    """What stage 1 trains, as one part."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.encoders = module.encoders
        self.log_scale = module.log_scale
