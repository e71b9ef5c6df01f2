"""The encoder of stage 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from indiseek_sc.nn._canonical_analysis import LinearMap
from indiseek_sc.nn._mlp import Activation, last_layer, make_mlp


class SharedEncoder(nn.Module):
    """Features to a raw shared code: a linear map plus a network that corrects it.

    The linear map starts as regularised CCA and the network as zero, so training begins where the best linear method ends.
    Without a linear start the encoder is the network alone, as in the published recipe.

    Parameters
    ----------
    n_input
        Number of features.
    n_shared
        Width of the code.
    n_hidden
        Width of the hidden layers.
    n_layers
        Number of hidden layers.
    dropout
        Share of hidden units dropped in training.
    linear_start
        Whether there is a linear map.
    activation
        Nonlinearity of the network.
    n_active
        Columns of the code that are in use; the others are 0. All if not given.
    """

    active: Tensor

    def __init__(
        self,
        n_input: int,
        n_shared: int,
        n_hidden: int,
        n_layers: int,
        *,
        dropout: float,
        linear_start: bool = True,
        activation: Activation = "gelu",
        n_active: int | None = None,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(n_input, n_shared) if linear_start else None
        self.network = make_mlp(
            n_input,
            n_shared,
            n_hidden,
            n_layers=n_layers,
            dropout=dropout,
            normalize=linear_start,
            activation=activation,
            start_at_zero=linear_start,
        )
        self.register_buffer("active", (torch.arange(n_shared) < (n_active or n_shared)).float())

    @property
    def n_active(self) -> int:
        """Number of columns of the code that are in use, the first ones."""
        return int(self.active.sum())

    @torch.no_grad()
    def start_from(self, linear: LinearMap) -> None:
        """Become this linear map, which the network corrects by nothing as yet."""
        if self.linear is None:
            raise ValueError("This encoder was built without a linear part.")
        self.linear.weight.copy_(linear.weight.T)
        self.linear.bias.copy_(-linear.center @ linear.weight)
        output = last_layer(self.network)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Encode: ``(n_cells, n_input)`` to ``(n_cells, n_shared)``."""
        raw = self.network(features)
        return self.active * (raw if self.linear is None else raw + self.linear(features))
