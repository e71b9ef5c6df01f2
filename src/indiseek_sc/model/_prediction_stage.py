"""Training of the prediction of each modality from the other, and its calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.data import read_normalized
from indiseek_sc.data._fields import REGISTRY_KEY
from indiseek_sc.model._stage_runs import StageRuns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role

MOST_CELLS = 5_000
"""Calibration looks at every n-th validation cell of more than about this many: genes of many cells are large."""


class PredictionStage(StageRuns):
    """Learns both directions on training cells, stops by validation cells, and calibrates on these; codes stay as they are."""

    def train_prediction(self, batch: Tensor) -> str | None:
        """Train; ``batch`` has shape ``(n_cells,)``. Returns why it ended early, in words, or None."""
        module, train = self.module, self.split.train
        module.eval()
        with torch.no_grad():
            inputs = {role: module.prediction_input(role, self.features[role], batch) for role in ROLES}
        for role in ROLES:
            rows = inputs[role][train], self.features[other(role)][train]
            module.modality_predictors[role].start_from(*rows, module.transforms[other(role)])
        heads = {role: module.modality_predictors[role].head for role in ROLES}
        cells = {role: {"condition": inputs[role], "target": self.features[other(role)]} for role in ROLES}

        def loss(role: Role, batch: Mapping[str, Tensor]) -> Tensor:
            return heads[role].loss(batch["condition"], batch["target"])

        step = self.settings.prediction_learning_rate
        reason = self._run_regression("prediction", heads, loss, cells, smallest_gain=2e-4, learning_rate=step)
        for role in ROLES:
            self._calibrate(role, inputs[role])
        return reason

    def _calibrate(self, source: Role, inputs: Tensor) -> None:
        target = other(source)
        rows = self.split.validation[:: max(1, self.split.validation.size // MOST_CELLS)]
        transform, predictor = self.module.transforms[target], self.module.modality_predictors[source]
        matrix = self.model.adata_manager.get_from_registry(REGISTRY_KEY[target])
        # The stage may have moved the module to another device than that of the features.
        seen, features = (
            x[torch.from_numpy(rows).to(x.device)].to(self.module.device) for x in (inputs, self.features[target])
        )
        predictor.calibrate(seen, features, "features", transform)
        predictor.calibrate(seen, read_normalized(transform, matrix, rows), "normalized", transform)
