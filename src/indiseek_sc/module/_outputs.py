"""What is computed from the representations: the joint representation, and the prediction of one modality from the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from indiseek_sc.nn import IntervalCalibration, NamedModules, PredictionHead, PrincipalMap

if TYPE_CHECKING:
    from indiseek_sc.nn import FeatureTransform

Units = Literal["features", "normalized"]
"""What predictions are in: the features that the model works on, or what the step within the cell makes of raw values."""


class JointLatent(nn.Module):
    """Principal components of what the representations of all modalities decode to, each modality scaled to the same total variance.

    The representations side by side would be a poor space: a specific representation is a residual of unit variance in every dimension, however
    little of the cell it describes. Decoded, each dimension weighs what it explains. This is ours, not the paper's.

    Parameters
    ----------
    n_features
        Number of features of each modality.
    n_components
        Width of the joint representation; bounded by the features.
    """

    scales: Tensor

    def __init__(self, n_features: Sequence[int], n_components: int = 30) -> None:
        super().__init__()
        self.register_buffer("scales", torch.ones(len(n_features)))
        self.principal = PrincipalMap(sum(n_features), min(n_components, sum(n_features)))

    @property
    def used(self) -> Tensor:
        """Numbers of the components that the training cells have, shape ``(n_used,)``."""
        return (self.principal.components != 0).any(dim=0).nonzero()[:, 0]

    def _stack(self, decoded: Sequence[Tensor]) -> Tensor:
        return torch.cat([values * scale for values, scale in zip(decoded, self.scales, strict=True)], dim=1)

    @torch.no_grad()
    def fit(self, decoded: Sequence[Tensor]) -> None:
        """Fit on decoded training cells, shape ``(n_cells, n_features)`` for each modality."""
        for i, values in enumerate(decoded):
            self.scales[i] = values.var(dim=0, correction=0).sum().clamp(min=1e-12).rsqrt()
        self.principal.fit(*decoded, columns=lambda *some: self._stack(some))

    def forward(self, decoded: Sequence[Tensor]) -> Tensor:
        """Return the joint representation, shape ``(n_cells, n_used)``."""
        return self.principal(self._stack(decoded))[:, self.used]


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
    def start_from(
        self, inputs: Tensor, features: Tensor, target: FeatureTransform, add_offsets: Callable[[Tensor], Tensor]
    ) -> None:
        """Make the networks new, and set from training cells what has a closed form.

        Parameters
        ----------
        inputs
            What the prediction reads, shape ``(n_cells, n_input)``.
        features
            What it predicts, shape ``(n_cells, n_output)``.
        target
            The feature transform that made them.
        add_offsets
            Adds to features of these cells what their covariates add.
        """
        self.head.start_from(inputs, features)
        if target.components is not None:
            # Components are uncorrelated over these cells, and standardised genes have variance 1.
            explained = add_offsets(features).var(dim=0) @ target.directions.square()
            self.left_variance.copy_((1 - explained).clamp(min=0) * (target.scale > 0))

    @torch.no_grad()
    def calibrate(
        self,
        inputs: Tensor,
        measured: Tensor,
        units: Units,
        target: FeatureTransform,
        add_offsets: Callable[[Tensor], Tensor],
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
        add_offsets
            As in :meth:`start_from`.
        """
        mean, std = self._predict(inputs, units, target, add_offsets)
        self.calibrations[units].fit(measured - mean, std)

    def forward(
        self, inputs: Tensor, units: Units, target: FeatureTransform, add_offsets: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return mean and calibrated standard deviation, shape ``(n_cells, n_columns)`` both."""
        mean, std = self._predict(inputs, units, target, add_offsets)
        return mean, self.calibrations[units](std)

    def _predict(
        self, inputs: Tensor, units: Units, target: FeatureTransform, add_offsets: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        mean, std = self.head(inputs)
        if units == "features":
            return mean, std
        if target.components is not None:
            # Errors of components are taken as uncorrelated; the calibration makes up for that on average over cells.
            std = (std.square() @ target.directions.square() + self.left_variance).sqrt()
        return target.unstandardize(target.unproject(add_offsets(mean))), std * target.spread
