"""Stage 1, between its closed forms."""

from __future__ import annotations

import torch

from indiseek_sc.model._closed_forms import finish_shared, is_sufficient, start_shared
from indiseek_sc.model._stage_runs import StageRuns
from indiseek_sc.train import KeepBest, SharedPlan, StageData


class SharedStage(StageRuns):
    """Trains shared codes, as wide as they have to be."""

    def train_shared(self) -> str | None:
        """Stage 1, from its closed-form start to canonical directions; once more with wider codes where narrow ones are not sufficient."""
        module, settings = self.module, self.settings
        first = min(settings.n_shared_first, module.n_shared) if settings.linear_start else module.n_shared
        reason = self._train_shared_of(first)
        if first < module.n_shared and reason is None and not is_sufficient(module, self.features, self.split):
            reason = self._train_shared_of(module.n_shared)
        return reason

    def _train_shared_of(self, width: int) -> str | None:
        """Stage 1 with codes of one width, from new networks."""
        module, split, features = self.module, self.split, self.features
        module.reset_shared(width)
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
            f"Shared codes of {width}",
            {
                "validation_correlation": "correlation²",
                "validation_prediction": "predicted",
                "validation_info_nce": "InfoNCE",
            },
            KeepBest({"validation_loss": _SharedParts(module)}, patience=self._patience(), smallest_gain=1e-3),
        )
        if start is not None:
            finish_shared(module, features, split, start)
        return reason


class _SharedParts(torch.nn.Module):
    """What stage 1 trains, as one part."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.encoders = module.encoders
        self.predictors = module.predictors
        self.log_scale = module.log_scale
