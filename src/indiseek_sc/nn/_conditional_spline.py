"""Bends the shape of one vector's distribution in the light of another."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pyro.distributions.transforms.spline import ConditionedSpline
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from indiseek_sc.nn._dropout import Dropout

if TYPE_CHECKING:
    from collections.abc import Callable

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
