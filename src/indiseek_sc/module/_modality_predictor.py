"""Prediction of one modality from the other, in all units that it is asked for."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from indiseek_sc.nn import FeatureTransform, IntervalCalibration, NamedModules, PredictionHead

Units = Literal["features", "normalized"]
"""What predictions are in: the features that the model works on, or what the step within the cell makes of raw values."""


class ModalityPredictor(nn.Module):
    """Predicts features of a target modality from what the model knows of a cell by the other one.

    Where features are principal components, what they leave of each gene is added to the variances of genes, and these are
    calibrated for themselves.

    Parameters
    ----------
    n_input
        Columns that the prediction reads.
    target
        The feature transform of the modality that is predicted. It is not a part of this module.
    """

    left_variance: Tensor

    def __init__(self, n_input: int, target: FeatureTransform) -> None:
        super().__init__()
        self.head = PredictionHead(n_input, target.n_output)
        sizes: dict[Units, int] = {"features": target.n_output, "normalized": target.n_features}
        self.calibrations = NamedModules({units: IntervalCalibration(n) for units, n in sizes.items()})
        self.register_buffer("left_variance", torch.zeros(target.n_features))

    @torch.no_grad()
    def start_from(self, inputs: Tensor, features: Tensor, target: FeatureTransform, of_batch: Tensor) -> None:
        """Make the networks new, and set from training cells what has a closed form.

        Parameters
        ----------
        inputs
            What the prediction reads, shape ``(n_cells, n_input)``.
        features
            What it predicts, shape ``(n_cells, n_output)``.
        target
            The feature transform that made them.
        of_batch
            What the batch adds to them, shape ``(n_cells, n_output)``.
        """
        self.head.start_from(inputs, features)
        if target.components is not None:
            # Components are uncorrelated over these cells, and standardised genes have variance 1.
            told = (features + of_batch).var(dim=0) @ target.directions.square()
            self.left_variance.copy_((1 - told).clamp(min=0) * (target.scale > 0))

    @torch.no_grad()
    def calibrate(
        self, inputs: Tensor, measured: Tensor, units: Units, target: FeatureTransform, of_batch: Tensor
    ) -> None:
        """Set deviations and intervals by cells that the networks did not learn from.

        Parameters
        ----------
        inputs
            As in :meth:`start_from`.
        measured
            The truth in these units, shape ``(n_cells, n_columns)``.
        units
            Which calibration is set.
        target
            The feature transform of the modality that is predicted.
        of_batch
            What the batch adds to its features, shape ``(n_cells, n_output)``.
        """
        mean, deviation = self._predict(inputs, units, target, of_batch)
        self.calibrations[units].fit(measured - mean, deviation)

    def forward(
        self, inputs: Tensor, units: Units, target: FeatureTransform, of_batch: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and calibrated standard deviation, shape ``(n_cells, n_columns)`` both."""
        mean, deviation = self._predict(inputs, units, target, of_batch)
        return mean, self.calibrations[units](deviation)

    def _predict(
        self, inputs: Tensor, units: Units, target: FeatureTransform, of_batch: Tensor
    ) -> tuple[Tensor, Tensor]:
        mean, deviation = self.head(inputs)
        if units == "features":
            return mean, deviation
        if target.components is not None:
            # Errors of components are taken as uncorrelated; the calibration makes up for that on average over cells.
            deviation = (deviation.square() @ target.directions.square() + self.left_variance).sqrt()
        return target.unstandardize(target.unproject(mean + of_batch)), deviation * target.spread
