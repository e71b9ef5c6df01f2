"""Multi-layer perceptrons."""

from __future__ import annotations

from typing import Literal

from torch import nn

from indiseek_sc.nn._dropout import Dropout

Activation = Literal["gelu", "relu"]


def make_mlp(
    n_input: int,
    n_output: int,
    n_hidden: int,
    *,
    n_layers: int,
    dropout: float = 0.0,
    normalize: bool = False,
    activation: Activation = "gelu",
    start_at_zero: bool = False,
) -> nn.Sequential:
    """Build hidden layers and a linear output.

    Parameters
    ----------
    n_input
        Input columns.
    n_output
        Output columns.
    n_hidden
        Width of every hidden layer.
    n_layers
        Number of hidden layers.
    dropout
        Share of hidden units dropped in training.
    normalize
        Layer normalisation before each activation. It has no statistics that could move while a network is frozen.
    activation
        Nonlinearity.
    start_at_zero
        Make the network the zero function at first, for corrections to a closed-form start.
    """
    layers: list[nn.Module] = []
    width = n_input
    for _ in range(n_layers):
        layers += [
            nn.Linear(width, n_hidden),
            *([nn.LayerNorm(n_hidden)] if normalize else []),
            nn.GELU() if activation == "gelu" else nn.ReLU(),
            *([Dropout(dropout)] if dropout > 0 else []),
        ]
        width = n_hidden
    output = nn.Linear(width, n_output)
    if start_at_zero:
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
    return nn.Sequential(*layers, output)


def last_layer(network: nn.Sequential) -> nn.Linear:
    """Return the linear output of what :func:`make_mlp` built."""
    output = network[-1]
    assert isinstance(output, nn.Linear)
    return output
