"""Building blocks of networks, and the networks of stage 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from indiseek_sc.nn._canonical_analysis import LinearMap

if TYPE_CHECKING:
    from collections.abc import ItemsView, Mapping, ValuesView


Name = TypeVar("Name", bound=str)
AnyModule = TypeVar("AnyModule", bound=nn.Module, covariant=True)


class NamedModules(nn.ModuleDict, Generic[Name, AnyModule]):
    """A :class:`torch.nn.ModuleDict` of which is known what its names and its modules are.

    Parameters
    ----------
    modules
        The modules, such as one for each role.
    """

    def __init__(self, modules: Mapping[Name, AnyModule]) -> None:
        super().__init__({str(name): module for name, module in modules.items()})

    if TYPE_CHECKING:

        def __getitem__(self, name: Name) -> AnyModule: ...  # type: ignore[override]

        def items(self) -> ItemsView[Name, AnyModule]: ...

        def values(self) -> ValuesView[AnyModule]: ...


def drop(values: Tensor, share: float, training: bool) -> Tensor:
    """Set a share of the values to zero in training, and scale the others up so that the expectation stays.

    ``torch``'s own dropout, but for how the mask is drawn on a processor: there one Bernoulli draw costs several uniform ones, and for networks
    as narrow as ours more than the matrix product before it.

    Parameters
    ----------
    values
        Any shape.
    share
        Share of the values that are dropped, at least 0 and below 1.
    training
        If False, values are returned as they are.
    """
    if not training or share == 0:
        return values
    kept = torch.rand(values.shape, dtype=values.dtype, device=values.device).ge_(share)
    return values * kept.mul_(1 / (1 - share))


class Dropout(nn.Module):
    """Module form of :func:`drop`.

    Parameters
    ----------
    share
        Share of the values that are dropped in training.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """Drop; shapes stay."""
        return drop(values, self.share, self.training)

    def extra_repr(self) -> str:
        """Say how much is dropped."""
        return f"share={self.share}"


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


class EnsembleLinear(nn.Module):
    """Linear layers of several networks in one batched product, which is several times faster than one after another.

    Parameters
    ----------
    n_members
        Number of networks.
    n_input
        Input columns.
    n_output
        Output columns.
    start_at_zero
        Start with weights and biases of 0.
    """

    def __init__(self, n_members: int, n_input: int, n_output: int, *, start_at_zero: bool = False) -> None:
        super().__init__()
        self.limit = 0.0 if start_at_zero else 1 / math.sqrt(n_input)  # as in torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(n_members, n_input, n_output))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_output))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Draw new weights, in place."""
        for parameter in (self.weight, self.bias):
            parameter.uniform_(-self.limit, self.limit)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n_members, n_cells, n_input)`` to ``(n_members, n_cells, n_output)``."""
        return torch.baddbmm(self.bias, x, self.weight)


class SharedEncoder(nn.Module):
    """Features to a raw shared representation: a linear map plus a network that corrects it.

    The linear map starts as regularised CCA and the network as zero, so training begins where the best linear method ends.
    Without a linear start the encoder is the network alone, as in the published recipe.

    Parameters
    ----------
    n_input
        Number of features.
    n_shared
        Width of the representation.
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
        Columns of the representation that are in use; the others are 0. All if not given.
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
        """Number of columns of the representation that are in use, the first ones."""
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


NOISE = 0.1
"""Standard deviation of the noise that a standardised representation is read through in training."""


class CrossPredictor(nn.Module):
    """Predicts the features of the other modality from a shared representation.

    The representation is standardised and read through noise, so that it cannot hide what it tells in directions of tiny scale.

    Parameters
    ----------
    n_shared
        Columns of the representation.
    n_features
        Features of the other modality.
    n_hidden
        Width of the hidden layers.
    """

    def __init__(self, n_shared: int, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.standardize = nn.BatchNorm1d(n_shared, affine=False)
        self.network = make_mlp(n_shared, n_features, n_hidden, n_layers=2, dropout=0.1)

    def forward(self, shared: Tensor) -> Tensor:
        """Predict: ``(n_cells, n_shared)`` to ``(n_cells, n_features)``."""
        latent = self.standardize(shared)
        return self.network(latent + NOISE * torch.randn_like(latent) if self.training else latent)
