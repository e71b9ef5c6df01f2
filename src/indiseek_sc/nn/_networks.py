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
    """A :class:`torch.nn.ModuleDict` with typed names and modules.

    Parameters
    ----------
    modules
        The modules by name.

    Examples
    --------
    >>> from indiseek_sc.nn import NamedModules
    >>> list(NamedModules({"rna": torch.nn.Identity(), "adt": torch.nn.Identity()}))
    ['rna', 'adt']
    """

    def __init__(self, modules: Mapping[Name, AnyModule]) -> None:
        super().__init__({str(name): module for name, module in modules.items()})

    if TYPE_CHECKING:

        def __getitem__(self, name: Name) -> AnyModule: ...  # type: ignore[override]

        def items(self) -> ItemsView[Name, AnyModule]: ...

        def values(self) -> ValuesView[AnyModule]: ...


def drop(values: Tensor, share: float, training: bool) -> Tensor:
    """Set a share of the values to zero in training, and rescale the others to compensate.

    On CPUs this is faster than dropout of PyTorch, because it draws uniform rather than Bernoulli
    variables. For networks as narrow as these, Bernoulli draws take longer than the preceding
    matrix product.

    Parameters
    ----------
    values
        Values of any shape.
    share
        Share of the values that are dropped, at least 0 and below 1.
    training
        If False, the values are returned unchanged.
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
        """Return the values after dropout, shape unchanged."""
        return drop(values, self.share, self.training)

    def extra_repr(self) -> str:
        """Return the share for the representation of the module as text."""
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
    """Build a multilayer perceptron with a linear output layer.

    Parameters
    ----------
    n_input
        Number of input columns.
    n_output
        Number of output columns.
    n_hidden
        Width of every hidden layer.
    n_layers
        Number of hidden layers.
    dropout
        Share of hidden units dropped in training.
    normalize
        Whether to apply layer normalisation before each activation. It has no running statistics,
        which could change while the network is frozen.
    activation
        Nonlinearity.
    start_at_zero
        Whether to initialise the network to the zero function, for corrections of a closed-form
        start.

    Examples
    --------
    >>> from indiseek_sc.nn import make_mlp
    >>> make_mlp(n_input=5, n_output=2, n_hidden=8, n_layers=1)(torch.ones(3, 5)).shape
    torch.Size([3, 2])
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
    """Return the output layer of a network built by :func:`make_mlp`.

    Parameters
    ----------
    network
        The network.

    Examples
    --------
    >>> from indiseek_sc.nn import last_layer, make_mlp
    >>> last_layer(make_mlp(n_input=5, n_output=2, n_hidden=8, n_layers=1)).out_features
    2
    """
    output = network[-1]
    assert isinstance(output, nn.Linear)
    return output


class EnsembleLinear(nn.Module):
    """Linear layers of several networks, evaluated in one batched product.

    Parameters
    ----------
    n_members
        Number of networks.
    n_input
        Number of input columns.
    n_output
        Number of output columns.
    start_at_zero
        Whether to initialise weights and biases to 0.
    """

    def __init__(self, n_members: int, n_input: int, n_output: int, *, start_at_zero: bool = False) -> None:
        super().__init__()
        self.limit = 0.0 if start_at_zero else 1 / math.sqrt(n_input)  # as in torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(n_members, n_input, n_output))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_output))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Draw new weights in place."""
        for parameter in (self.weight, self.bias):
            parameter.uniform_(-self.limit, self.limit)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n_members, n_cells, n_input)`` to ``(n_members, n_cells, n_output)``."""
        return torch.baddbmm(self.bias, x, self.weight)


class SharedEncoder(nn.Module):
    """Encode features to a raw shared representation by a linear map and a correction.

    The correction is a network. The linear map starts from regularised CCA and the network from
    zero, so training starts from the best linear solution. Without a linear start the encoder is
    the network alone, as in the published method.

    Parameters
    ----------
    n_input
        Number of features.
    n_shared
        Dimensions of the representation.
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
        Number of first dimensions in use; the others are 0. All if not given.

    Examples
    --------
    >>> from indiseek_sc.nn import SharedEncoder
    >>> encoder = SharedEncoder(n_input=6, n_shared=3, n_hidden=8, n_layers=2, dropout=0.0)
    >>> encoder(torch.randn(4, 6)).shape
    torch.Size([4, 3])
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
        """Number of dimensions in use, which come first."""
        return int(self.active.sum())

    @torch.no_grad()
    def start_from(self, linear: LinearMap) -> None:
        """Set the linear map, and the network to the zero function.

        Parameters
        ----------
        linear
            The linear map.

        Raises
        ------
        ValueError
            If the encoder has no linear part.
        """
        if self.linear is None:
            raise ValueError("This encoder was built without a linear part.")
        self.linear.weight.copy_(linear.weight.T)
        self.linear.bias.copy_(-linear.center @ linear.weight)
        output = last_layer(self.network)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the raw shared representation, shape ``(n_cells, n_shared)``."""
        raw = self.network(features)
        return self.active * (raw if self.linear is None else raw + self.linear(features))


NOISE = 0.1
"""Standard deviation of the noise added to standardised representations in training."""


class CrossPredictor(nn.Module):
    """Predict the features of the other modality from a shared representation.

    The representation is standardised and, in training, noise is added. Dimensions of very low
    variance therefore cannot carry the information that the prediction needs.

    Parameters
    ----------
    n_shared
        Dimensions of the representation.
    n_features
        Number of features of the other modality.
    n_hidden
        Width of the hidden layers.

    Examples
    --------
    >>> from indiseek_sc.nn import CrossPredictor
    >>> predictor = CrossPredictor(n_shared=3, n_features=5, n_hidden=8)
    >>> predictor(torch.randn(4, 3)).shape
    torch.Size([4, 5])
    """

    def __init__(self, n_shared: int, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.standardize = nn.BatchNorm1d(n_shared, affine=False)
        self.network = make_mlp(n_shared, n_features, n_hidden, n_layers=2, dropout=0.1)

    def forward(self, shared: Tensor) -> Tensor:
        """Return the predicted features, shape ``(n_cells, n_features)``."""
        latent = self.standardize(shared)
        return self.network(latent + NOISE * torch.randn_like(latent) if self.training else latent)
