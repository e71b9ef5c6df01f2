"""Base class of the encoder-decoders of stage 2, and the plain one as in the published method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from indiseek_sc.nn._networks import Activation, last_layer, make_mlp
from indiseek_sc.nn._parts import map_parts

if TYPE_CHECKING:
    from collections.abc import Mapping


class SpecificEncoderDecoder(nn.Module, ABC):
    """Encode features to a specific representation, and decode it together with a condition.

    The condition consists of the shared representation of the same modality and the columns of the
    covariates, if there are any. The reconstruction error is divided by ``error_scale``, in squared
    units of the features.
    """

    error_scale: Tensor
    standardize: nn.Module
    refinement: nn.Module
    START: ClassVar[tuple[str, ...]] = ("error_scale",)
    """Parts that are fitted before adversarial training; see :meth:`start_state`."""

    is_refined = False
    """Whether the decoder has a part ``refinement`` that is trained after adversarial training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("error_scale", torch.ones(()))

    @property
    @abstractmethod
    def used(self) -> Tensor:
        """Indices of the dimensions in use, shape ``(n_used,)``; all other dimensions are 0."""

    @property
    def n_used(self) -> int:
        """Number of dimensions in use."""
        return len(self.used)

    @property
    def learner(self) -> nn.Module:
        """Part that is trained against the critics."""
        return self

    @abstractmethod
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Fit all parts that have a closed-form solution on training cells.

        Parameters
        ----------
        features
            Features, shape ``(n_cells, n_features)``.
        condition
            Condition of the same cells, shape ``(n_cells, n_condition)``.
        n_shared
            Number of dimensions of the shared representation in use.
        """

    @abstractmethod
    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Compute the values that are fixed during adversarial training, one row for each cell."""

    def encode(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        """Return the specific representation of prepared cells, shape ``(n_cells, n_specific)``.

        In training mode it is standardised with the statistics of the batch.
        """
        return self.standardize(self._raw(prepared, condition))

    @abstractmethod
    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the target of reconstruction and its estimate, both ``(n_cells, n_columns)``."""

    def start_state(self) -> dict[str, Tensor]:
        """Return a copy of the state before adversarial training.

        Loading it into a new encoder-decoder reproduces the same start.
        """
        state = self.state_dict()
        return {name: x.clone() for name, x in state.items() if name.partition(".")[0] in self.START}

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return the specific representation of features, shape ``(n_cells, n_specific)``."""
        return self.encode(self.prepare(features, condition), condition)

    def decode(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct features from a specific representation and the condition.

        Parameters
        ----------
        specific
            Specific representation, shape ``(n_cells, n_specific)``.
        condition
            Condition of the same cells, shape ``(n_cells, n_condition)``.

        Returns
        -------
        Features, shape ``(n_cells, n_features)``.
        """
        return map_parts(
            lambda latent, given: self.refine(self.decode_closed(latent, given), latent, given), specific, condition
        )

    @abstractmethod
    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct features as :meth:`decode` does, without the refinement."""

    def refine(self, closed: Tensor, specific: Tensor, condition: Tensor) -> Tensor:
        """Add the refinement, if there is one, to the result of :meth:`decode_closed`."""
        return closed + self.refinement(torch.cat([specific, condition], dim=1)) if self.is_refined else closed

    def start_decoder(self, features: Tensor, specific: Tensor, condition: Tensor) -> None:
        """Fit the closed-form parts of the decoder on training cells and their representations."""

    @torch.no_grad()
    def freeze_statistics(self, prepared: Mapping[str, Tensor], condition: Tensor) -> None:
        """Set the statistics that standardise the representation to those of the training cells."""
        if isinstance(self.standardize, nn.BatchNorm1d):
            values = self._raw(prepared, condition)
            statistics = {"running_mean": values.mean(dim=0), "running_var": values.var(dim=0, correction=0)}
            self.standardize.load_state_dict(statistics, strict=False)

    @abstractmethod
    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        """Return the representation before it is standardised."""


class PlainEncoderDecoder(SpecificEncoderDecoder):
    """Encoder and decoder networks with random initial weights, as in the published method.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Dimensions of the condition.
    n_specific
        Dimensions of the specific representation.
    n_hidden
        Width of the hidden layers.
    n_layers
        Number of hidden layers.
    activation
        Nonlinearity.
    standardize
        Whether to standardise the representation. The published method does not, so that the
        encoder can reduce the bound of a critic by changing the scale of the representation.

    Examples
    --------
    >>> from indiseek_sc.nn import PlainEncoderDecoder
    >>> encoder_decoder = PlainEncoderDecoder(n_features=6, n_condition=2, n_specific=3)
    >>> encoder_decoder(torch.randn(8, 6), torch.randn(8, 2)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_condition: int,
        n_specific: int,
        n_hidden: int = 50,
        *,
        n_layers: int = 5,
        activation: Activation = "relu",
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = make_mlp(n_features, n_specific, n_hidden, n_layers=n_layers, activation=activation)
        self.decoder = make_mlp(
            n_specific + n_condition, n_features, n_hidden, n_layers=n_layers, activation=activation
        )
        # Outputs of deep ReLU networks start with standard deviations near 1e-3. The default eps of
        # 1e-5 would exceed their variance, and the representation could again shrink.
        self.standardize = nn.BatchNorm1d(n_specific, eps=1e-12, affine=False) if standardize else nn.Identity()

    @property
    def used(self) -> Tensor:
        """Indices of all dimensions."""
        return torch.arange(last_layer(self.encoder).out_features, device=self.error_scale.device)

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Set the scale of the error to the total variance of the features."""
        self.error_scale.copy_(features.var(dim=0, correction=0).sum().clamp(min=1e-12))

    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the features."""
        return {"features": features}

    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        return self.encoder(prepared["features"])

    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and their reconstruction."""
        return prepared["features"], self.decode(specific, condition)

    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct features; there is no refinement."""
        return self.decoder(torch.cat([specific, condition], dim=1))
