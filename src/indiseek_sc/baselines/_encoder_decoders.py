"""Encoder-decoders of methods without a reconstruction loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn import RidgeMap, SpecificEncoderDecoder, make_mlp

if TYPE_CHECKING:
    from collections.abc import Mapping


class EmptyEncoderDecoder(SpecificEncoderDecoder):
    """Encoder-decoder without a specific representation, which decodes the condition alone.

    Methods without a decoder receive one after training: a ridge regression and the same refinement
    as in :class:`~indiseek_sc.IndiSeek`, fitted to the fixed representations. The audit therefore
    treats all methods alike.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Number of columns of the condition.
    n_specific
        Number of dimensions of the specific representation.
    n_hidden
        Width of the hidden layers; twice as wide in the refinement.
    """

    is_refined = True

    center: Tensor
    spread: Tensor

    def __init__(self, n_features: int, n_condition: int, n_specific: int = 0, n_hidden: int = 256) -> None:
        super().__init__()
        self.n_specific = n_specific
        self.standardize: nn.Module = nn.Identity()
        self.baseline = RidgeMap(n_specific + n_condition, n_features)
        self.refinement = make_mlp(
            n_specific + n_condition, n_features, 2 * n_hidden, n_layers=2, dropout=0.1, start_at_zero=True
        )
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    @property
    def used(self) -> Tensor:
        """Indices of all dimensions."""
        return torch.arange(self.n_specific, device=self.error_scale.device)

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Compute mean and standard deviation of the features."""
        self.center.copy_(features.mean(dim=0))
        self.spread.copy_(features.std(dim=0, correction=0))
        self.error_scale.copy_(self.spread.square().sum().clamp(min=1e-12))

    def start_decoder(self, features: Tensor, specific: Tensor, condition: Tensor) -> None:
        """Fit the regression of the features on both representations."""
        self.baseline.fit(torch.cat([specific, condition], dim=1), features)

    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the features."""
        return {"features": features}

    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        return prepared["features"][:, :0]

    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and their reconstruction by the current decoder."""
        return prepared["features"], self.decode(specific, condition)

    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct the features by the regression alone."""
        return self.baseline(torch.cat([specific, condition], dim=1))


class TrainedEncoderDecoder(EmptyEncoderDecoder):
    """Encoder-decoder with a trained encoder and the decoder of :class:`EmptyEncoderDecoder`.

    Parameters
    ----------
    n_features, n_condition, n_specific, n_hidden
        As in :class:`EmptyEncoderDecoder`.
    n_layers
        Number of hidden layers of the encoder.
    reads_condition
        Whether the condition is an input of the encoder beside the features.
    standardize
        Whether to standardise the representation.
    """

    def __init__(
        self,
        n_features: int,
        n_condition: int,
        n_specific: int,
        n_hidden: int,
        *,
        n_layers: int,
        reads_condition: bool,
        standardize: bool,
    ) -> None:
        super().__init__(n_features, n_condition, n_specific, n_hidden)
        self.reads_condition = reads_condition
        n_input = n_features + n_condition * reads_condition
        self.encoder = make_mlp(n_input, n_specific, n_hidden, n_layers=n_layers, activation="relu")
        if standardize:
            self.standardize = nn.BatchNorm1d(n_specific, affine=False)

    @property
    def learner(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        inputs = [prepared["features"], condition] if self.reads_condition else [prepared["features"]]
        return self.encoder(torch.cat(inputs, dim=1))
