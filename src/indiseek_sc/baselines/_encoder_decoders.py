"""Encoder-decoders of methods that reconstruct nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn import RidgeMap, SpecificEncoderDecoder, make_mlp

if TYPE_CHECKING:
    from collections.abc import Mapping


class EmptyEncoderDecoder(SpecificEncoderDecoder):
    """No specific representation at all, and a decoder of the condition alone.

    A method without a decoder is given one after its training: a ridge regression and the refinement that
    :class:`~indiseek_sc.IndiSeek` has too, fitted to representations that no longer move. So the audit helps all methods alike.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Columns of the condition.
    n_specific
        Width of the representation.
    n_hidden
        Width of the hidden layers; the refinement has twice as many.
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
        """All columns."""
        return torch.arange(self.n_specific, device=self.error_scale.device)

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Measure mean and spread of the features."""
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
        """Return the features and what the decoder, if there is one yet, makes of the representations."""
        return prepared["features"], self.decode(specific, condition)

    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct by the regression alone."""
        return self.baseline(torch.cat([specific, condition], dim=1))


class TrainedEncoderDecoder(EmptyEncoderDecoder):
    """A network that encodes, and the decoder of :class:`EmptyEncoderDecoder`.

    Parameters
    ----------
    n_features, n_condition, n_specific, n_hidden
        As in :class:`EmptyEncoderDecoder`.
    n_layers
        Number of hidden layers of the encoder.
    reads_condition
        Whether the encoder reads the condition beside the features.
    standardize
        Standardise the representation.
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
        read = [prepared["features"], condition] if self.reads_condition else [prepared["features"]]
        return self.encoder(torch.cat(read, dim=1))
