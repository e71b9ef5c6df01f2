"""Conditional densities that turn features into a vector which is standard normal whatever the condition."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from pyro.distributions.transforms.spline import ConditionedSpline
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from indiseek_sc.nn._networks import Dropout, EnsembleLinear, drop

if TYPE_CHECKING:
    from collections.abc import Callable


def below_diagonal(n_columns: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return row and column numbers of the entries below the diagonal of a square matrix, row by row."""
    rows, columns = torch.tril_indices(n_columns, n_columns, -1, device=device)
    return rows, columns


class Whitening(NamedTuple):
    r"""An affine map for each cell, :math:`z = L\,(y - \mu) / \sigma`, with :math:`L` lower triangular and of unit diagonal.

    If :math:`y` is Gaussian with this mean and with precision :math:`D^{-1} L^\top L D^{-1}`, :math:`D = \operatorname{diag}\sigma`, then
    :math:`z` is standard normal. The first column of :math:`z` is the first of :math:`y`, standardised; each further column is what
    the columns before it leave of it (Pourahmadi 1999, Biometrika 86, 677: the modified Cholesky decomposition).

    Parameters
    ----------
    mean
        :math:`\mu`, shape ``(..., n_columns)``.
    log_scale
        :math:`\log\sigma`, shape ``(..., n_columns)``.
    mixing
        The entries of :math:`L` below its diagonal, row by row, shape ``(..., n_columns * (n_columns - 1) / 2)``.
    """

    mean: Tensor
    log_scale: Tensor
    mixing: Tensor

    def _mixing_matrix(self) -> Tensor:
        """Return L less its diagonal, shape ``(..., n_columns, n_columns)``."""
        n = self.log_scale.shape[-1]
        matrix = self.mixing.new_zeros(*self.mixing.shape[:-1], n, n)
        rows, columns = below_diagonal(n, self.mixing.device)
        matrix[..., rows, columns] = self.mixing
        return matrix

    def matrix(self) -> Tensor:
        """Return the matrix of the map, :math:`L D^{-1}`, shape ``(..., n_columns, n_columns)``."""
        eye = torch.eye(self.log_scale.shape[-1], dtype=self.mixing.dtype, device=self.mixing.device)
        return (self._mixing_matrix() + eye) * (-self.log_scale).exp()[..., None, :]

    def whiten(self, values: Tensor) -> Tensor:
        """Return z, shape ``(..., n_columns)``."""
        scaled = (values - self.mean) * (-self.log_scale).exp()
        return scaled + (self._mixing_matrix() @ scaled[..., None])[..., 0]

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """Return the values that :meth:`whiten` takes to ``whitened``, shape ``(..., n_columns)``."""
        scaled = torch.linalg.solve_triangular(
            self._mixing_matrix(), whitened[..., None], upper=False, unitriangular=True
        )
        return self.mean + self.log_scale.exp() * scaled[..., 0]

    def negative_log_likelihood(self, values: Tensor) -> Tensor:
        """Minus the Gaussian log-density of each row, up to a constant, in nats, shape ``(...,)``."""
        return (self.whiten(values).square() / 2 + self.log_scale).sum(dim=-1)


LOG_SCALE_LIMIT = 4.0
"""How far, in nats, a conditional scale may move from the overall one."""


class ConditionalGaussian(nn.Module):
    r"""An ensemble of networks for :math:`y \mid c \sim N(\mu(c), \Sigma(c))`, with a full covariance.

    It starts as the unconditional distribution of independent columns, mean 0 and the overall scale, and learns how means,
    scales and correlations depend on :math:`c`. What the members say is averaged, which evens out what each of them overfits.

    Parameters
    ----------
    n_condition
        Columns of the condition.
    n_output
        Columns of the vector.
    n_hidden
        Width of the two hidden layers.
    dropout
        Share of hidden units dropped in training.
    n_members
        Number of networks.
    """

    overall_log_scale: Tensor
    varies: Tensor

    def __init__(
        self, n_condition: int, n_output: int, n_hidden: int = 128, *, dropout: float = 0.2, n_members: int = 3
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.dropout = dropout
        self.sizes = [n_output, n_output, below_diagonal(n_output)[0].numel()]
        self.layers = nn.ModuleList(
            [EnsembleLinear(n_members, n_condition, n_hidden), EnsembleLinear(n_members, n_hidden, n_hidden)]
        )
        self.output = EnsembleLinear(n_members, n_hidden, sum(self.sizes), start_at_zero=True)
        self.register_buffer("overall_log_scale", torch.zeros(n_output))
        self.register_buffer("varies", torch.ones(n_output))

    @torch.no_grad()
    def start_from(self, values: Tensor) -> None:
        """Set the overall scale from training values, shape ``(n_cells, n_output)``; constant columns take no part."""
        deviation = values.std(dim=0, correction=0)
        self.varies.copy_(deviation > 1e-6)
        self.overall_log_scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0).log())

    def members(self, condition: Tensor) -> Whitening:
        """Return what each member says, in tensors with ``(n_members, n_cells)`` in front."""
        hidden = condition.expand(self.n_members, *condition.shape)
        for layer in self.layers:
            hidden = drop(F.silu(layer(hidden)), self.dropout, self.training)
        mean, change, mixing = self.output(hidden).split(self.sizes, dim=2)
        rows, columns = below_diagonal(mean.shape[-1], mixing.device)
        return Whitening(
            # Means are learned in units of the overall scale, so that one learning rate serves wide and narrow dimensions.
            mean * self.overall_log_scale.exp() * self.varies,
            self.overall_log_scale + change.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT) * self.varies,
            mixing * self.varies[rows] * self.varies[columns],
        )

    def forward(self, condition: Tensor) -> Whitening:
        """Return what the ensemble says of each cell."""
        return Whitening(*(values.mean(dim=0) for values in self.members(condition)))

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood, up to a constant, summed over dimensions: the members' mean in training, else the ensemble's."""
        whitening = self.members(condition) if self.training else self(condition)
        return whitening.negative_log_likelihood(values * self.varies).mean()


SLOPE_ONE = math.log(math.expm1(1 - 1e-3))
"""What becomes a slope of 1: Pyro adds 1e-3 to what softplus gives."""

CELLS_AT_ONCE = 8192
"""Each value takes about 30 numbers for its spline, and as many for each step of computing them."""


class ConditionalSpline(nn.Module):
    r"""An autoregressive spline flow: :math:`u_k = h(w_k;\, w_{1..k-1}, c)`, monotone in :math:`w_k`, with :math:`u \mid c \sim N(0, I)`.

    An affine map equalises conditional means, variances and correlations; where the distribution is skewed to one side for
    some :math:`c` and to the other for others, or consists of clusters that come and go with :math:`c`, what is left still tells
    :math:`c`. This map takes such shapes out, and has an inverse. It starts as the identity. The splines are Pyro's (rational
    linear: Dolatabadi et al. 2020, AISTATS 108, 4236), and so are the masked networks behind them (Germain et al. 2015, ICML 37, 881;
    with a condition: Paige and Wood 2016, ICML 48, 3040).

    Parameters
    ----------
    n_condition
        Columns of the condition.
    n_columns
        Columns of the vector.
    n_hidden
        Width of the two hidden layers, at least ``n_columns``.
    dropout
        Share of hidden units dropped in training.
    n_bins
        Pieces of a spline.
    bound
        Values beyond plus and minus this much stay as they are.
    """

    varies: Tensor

    def __init__(
        self,
        n_condition: int,
        n_columns: int,
        n_hidden: int = 64,
        *,
        dropout: float = 0.05,
        n_bins: int = 8,
        bound: float = 4.0,
    ) -> None:
        super().__init__()
        self.bound = bound
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="ConditionalAutoRegressiveNN input_dim = 1")
            self.network = ConditionalAutoRegressiveNN(
                n_columns,
                n_condition,
                [max(n_hidden, n_columns)] * 2,
                param_dims=[n_bins, n_bins, n_bins - 1, n_bins],
                permutation=torch.arange(n_columns),  # type: ignore[arg-type]  # it asks for a class that torch makes no more
                nonlinearity=nn.Sequential(nn.SiLU(), Dropout(dropout)),
            )
        output = self.network.layers[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        self.register_buffer("varies", torch.ones(n_columns))

    def _splines(self, values: Tensor, condition: Tensor, columns: slice = slice(None)) -> ConditionedSpline:
        widths, heights, slopes, shares = (x[..., columns].mT for x in self.network(values, condition))
        return ConditionedSpline(
            (
                F.softmax(widths, dim=-1),
                F.softmax(heights, dim=-1),
                F.softplus(slopes + SLOPE_ONE),
                torch.sigmoid(shares),
            ),
            bound=self.bound,
        )

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        """Bend values, shape ``(n_cells, n_columns)``; columns that do not vary stay as they are."""
        if not self.varies.any():
            return values
        bent = _in_parts(lambda some, known: self._splines(some, known)(some), values, condition)
        return torch.where(self.varies > 0, bent, values)

    def inverse(self, bent: Tensor, condition: Tensor) -> Tensor:
        """Return the values that were bent, column by column, since each depends on those before it."""
        return _in_parts(self._invert, bent, condition)

    def _invert(self, bent: Tensor, condition: Tensor) -> Tensor:
        values = torch.zeros_like(bent)
        for column in self.varies.nonzero()[:, 0].tolist():
            only = slice(column, column + 1)
            unbent = self._splines(values, condition, only).inv(bent[:, only])
            values = torch.cat([values[:, :column], unbent, values[:, column + 1 :]], dim=1)
        return torch.where(self.varies > 0, values, bent)

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood, up to a constant, summed over columns."""
        return self.surprise(values, condition).mean()

    def surprise(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood of each cell, up to a constant, shape ``(n_cells,)``."""
        splines = self._splines(values, condition)
        bent = splines(values)
        surprise = 0.5 * bent.square() - splines.log_abs_det_jacobian(values, bent)
        return (surprise * self.varies).sum(dim=-1)

    def give_up(self) -> None:
        """Leave all values as they are from now on."""
        self.varies.zero_()


def _in_parts(function: Callable[[Tensor, Tensor], Tensor], values: Tensor, condition: Tensor) -> Tensor:
    """Apply a function to some cells at a time."""
    parts = zip(values.split(CELLS_AT_ONCE), condition.split(CELLS_AT_ONCE), strict=True)
    return torch.cat([function(*part) for part in parts])
