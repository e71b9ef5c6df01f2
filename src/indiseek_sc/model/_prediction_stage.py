"""Training of the prediction of each modality from the other, and its calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.data import REGISTRY_KEY, read_normalized
from indiseek_sc.model._stage_runs import StageRuns
from indiseek_sc.train import KeepAt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role

MOST_CELLS = 5_000
"""Calibration looks at every n-th validation cell of more than about this many: genes of many cells are large."""


class PredictionStage(StageRuns):
    """Learns both directions; codes stay as they are.

    Networks learn from training cells, and validation cells stop them and calibrate what they say. Then new ones learn for as long from
    both: where cells are few, the validation cells are a quarter of all. Calibration stays that of the first ones, which fit worse if
    anything.
    """

    def train_prediction(self, batch: Tensor) -> str | None:
        """Train; ``batch`` has shape ``(n_cells,)``. Returns why it ended early, in words, or None."""
        self.module.eval()
        with torch.no_grad():
            inputs = {role: self.module.prediction_input(role, self.features[role], batch) for role in ROLES}
        reason = self._learn("prediction", inputs, batch)
        epochs = {role: max(1, self.best_epochs[f"{role}_validation_loss"]) for role in ROLES}
        for role in ROLES:
            self._calibrate(role, inputs[role], batch)
        if reason is None:
            seen = np.sort(np.concatenate([self.split.train, self.split.validation]))
            both = PredictionStage(self.model, self.features, self.options, replace(self.split, train=seen))
            reason = both._learn("prediction_again", inputs, batch, epochs)
        return reason

    def _learn(
        self,
        stage: str,
        inputs: Mapping[Role, Tensor],
        batch: Tensor,
        epochs: Mapping[Role, int] | None = None,
    ) -> str | None:
        module, train = self.module, self.split.train
        for role in ROLES:
            target = other(role)
            known, wanted, codes = (x[train].to(module.device) for x in (inputs[role], self.features[target], batch))
            of_batch = module.batch_offsets[target].of(codes)
            module.modality_predictors[role].start_from(known, wanted, module.transforms[target], of_batch)
        heads = {role: module.modality_predictors[role].head for role in ROLES}
        cells = {role: {"condition": inputs[role], "target": self.features[other(role)]} for role in ROLES}

        def loss(role: Role, batch: Mapping[str, Tensor]) -> Tensor:
            return heads[role].loss(batch["condition"], batch["target"])

        return self._run_regression(
            stage,
            heads,
            loss,
            cells,
            smallest_gain=2e-4,
            learning_rate=self.settings.prediction_learning_rate,
            keep_at=None if epochs is None else KeepAt(heads, epochs),
        )

    def _calibrate(self, source: Role, inputs: Tensor, batch: Tensor) -> None:
        target = other(source)
        rows = self.split.validation[:: max(1, self.split.validation.size // MOST_CELLS)]
        transform, predictor = self.module.transforms[target], self.module.modality_predictors[source]
        matrix = self.model.adata_manager.get_from_registry(REGISTRY_KEY[target])
        # The stage may have moved the module to another device than that of the features.
        seen, features, codes = (
            x[torch.from_numpy(rows).to(x.device)].to(self.module.device)
            for x in (inputs, self.features[target], batch)
        )
        of_batch = self.module.batch_offsets[target].of(codes)
        predictor.calibrate(seen, features, "features", transform, of_batch)
        predictor.calibrate(seen, read_normalized(transform, matrix, rows), "normalized", transform, of_batch)
