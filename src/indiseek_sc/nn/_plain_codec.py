"""The codec of stage 2 as published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn._mlp import Activation, last_layer, make_mlp
from indiseek_sc.nn._specific_codec import SpecificCodec

if TYPE_CHECKING:
    from collections.abc import Mapping


class PlainCodec(SpecificCodec):
    """An encoder and a decoder that start at random, as published.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Columns of the condition.
    n_specific
        Width of the code.
    n_hidden
        Width of the hidden layers.
    n_layers
        Number of hidden layers.
    activation
        Nonlinearity.
    standardize
        Standardise the code. The published recipe does not, which lets it shrink or grow to please a critic.
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
        # Deep ReLU networks start near a width of 1e-3: added to such a variance, the usual 1e-5 lets the code shrink again.
        self.standardize = nn.BatchNorm1d(n_specific, eps=1e-12, affine=False) if standardize else nn.Identity()

    @property
    def used(self) -> Tensor:
        """All columns."""
        return torch.arange(last_layer(self.encoder).out_features, device=self.error_scale.device)

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Measure the total variance of the features."""
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
        """Reconstruct; there is no refinement."""
        return self.decoder(torch.cat([specific, condition], dim=1))
