"""Joint representation of all modalities, and prediction of one modality from the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from indiseek_sc.nn import IntervalCalibration, NamedModules, PredictionHead, PrincipalMap

if TYPE_CHECKING:
    from indiseek_sc.nn import FeatureTransform

Units = Literal["features", "normalized"]
"""Units of predictions: features of the model, or normalised values of the genes or proteins."""


class JointLatent(nn.Module):
    """Principal components of the decoded representations of all modalities.

    The features decoded from the representations are scaled to the same total variance in each
    modality. Concatenating the representations instead would overweight the specific ones, which
    have unit variance in every dimension, however little of the variation of cells they describe.
    In the space of decoded features each dimension has the weight of the variance that it
    explains. This representation is not part of the published IndiSeek.

    Parameters
    ----------
    n_features
        Number of features of each modality.
    n_components
        Dimensions of the joint representation, bounded by the number of features.

    Examples
    --------
    >>> from indiseek_sc.module import JointLatent
    >>> decoded = [torch.randn(50, 3), torch.randn(50, 2)]
    >>> joint = JointLatent([3, 2], n_components=4)
    >>> joint.fit(decoded)
    >>> joint(decoded).shape
    torch.Size([50, 4])
    """

    scales: Tensor

    def __init__(self, n_features: Sequence[int], n_components: int = 30) -> None:
        super().__init__()
        self.register_buffer("scales", torch.ones(len(n_features)))
        self.principal = PrincipalMap(sum(n_features), min(n_components, sum(n_features)))

    @property
    def used(self) -> Tensor:
        """Indices of components with variance in the training cells, shape ``(n_used,)``."""
        return (self.principal.components != 0).any(dim=0).nonzero()[:, 0]

    def _stack(self, decoded: Sequence[Tensor]) -> Tensor:
        """Concatenate the scaled features of all modalities."""
        return torch.cat([values * scale for values, scale in zip(decoded, self.scales, strict=True)], dim=1)

    @torch.no_grad()
    def fit(self, decoded: Sequence[Tensor]) -> None:
        """Fit scales and components on training cells.

        Parameters
        ----------
        decoded
            Decoded features of each modality, shape ``(n_cells, n_features)`` each.
        """
        for i, values in enumerate(decoded):
            self.scales[i] = values.var(dim=0, correction=0).sum().clamp(min=1e-12).rsqrt()
        self.principal.fit(*decoded, columns=lambda *some: self._stack(some))

    def forward(self, decoded: Sequence[Tensor]) -> Tensor:
        """Return the joint representation, shape ``(n_cells, n_used)``."""
        return self.principal(self._stack(decoded))[:, self.used]


class ModalityPredictor(nn.Module):
    """Predict the features of a target modality from the other modality.

    If features are principal components, the variance of each gene that they do not explain is
    added to the predicted variance of the gene. The variances of genes have their own calibration.

    Parameters
    ----------
    n_input
        Number of columns from which the features are predicted.
    target
        Feature transform of the target modality. It is not a submodule.

    Examples
    --------
    >>> from indiseek_sc.module import ModalityPredictor
    >>> from indiseek_sc.nn import build_transform
    >>> target = build_transform("adt", "counts", 5, n_cells=100)
    >>> ModalityPredictor(n_input=3, target=target).head(torch.randn(4, 3))[0].shape
    torch.Size([4, 5])
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
        """Initialise the networks, and fit the closed-form parts on training cells.

        Parameters
        ----------
        inputs
            Inputs of the prediction, shape ``(n_cells, n_input)``.
        features
            Features of the target modality, shape ``(n_cells, n_output)``.
        target
            Feature transform of the target modality.
        add_offsets
            Function that adds covariate effects to features of these cells.
        """
        self.head.start_from(inputs, features)
        if target.components is not None:
            # Components are uncorrelated over the training cells, and standardised genes have
            # variance 1.
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
        """Calibrate standard deviations and intervals on cells that were not used for training.

        Parameters
        ----------
        inputs
            Inputs of the prediction, shape ``(n_cells, n_input)``.
        measured
            Measured values in the given units, shape ``(n_cells, n_columns)``.
        units
            Units whose calibration is set.
        target
            Feature transform of the target modality.
        add_offsets
            Function that adds covariate effects to features of these cells.
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
        """Return the mean and the standard deviation before calibration."""
        mean, std = self.head(inputs)
        if units == "features":
            return mean, std
        if target.components is not None:
            # Errors of components are treated as uncorrelated; calibration corrects the resulting
            # error of the standard deviations on average over cells.
            std = (std.square() @ target.directions.square() + self.left_variance).sqrt()
        return target.unstandardize(target.unproject(add_offsets(mean))), std * target.spread
