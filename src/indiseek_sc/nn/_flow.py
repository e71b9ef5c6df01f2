"""A conditional spline flow, which gives a vector the same shape whatever the condition."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from indiseek_sc.nn._networks import Dropout
from indiseek_sc.nn._parts import map_parts

SMALLEST = 1e-3
"""Smallest slope of a spline at a knot, and smallest share of its width and height that a piece has."""

LOWEST_CUT = 0.025
"""Pieces are cut at least this share of their width from their ends."""

SLOPE_ONE = math.log(math.expm1(1 - SMALLEST))
"""What becomes a slope of 1."""

CELLS_AT_ONCE = 8192
"""Each value takes about 30 numbers for its spline, and as many for each step of computing them."""


class MonotoneSpline(NamedTuple):
    r"""Monotone rational-linear splines, the identity outside a square (Dolatabadi et al. 2020, AISTATS 108, 4236).

    Each piece is cut in two at the share :math:`\lambda` of its width, and each half, from :math:`(x_a, y_a)` to :math:`(x_b, y_b)`,
    interpolates in homogeneous coordinates: with :math:`t = (x - x_a) / (x_b - x_a)`,

    .. math::

        y = \frac{w_a y_a (1 - t) + w_b y_b t}{w_a (1 - t) + w_b t}, \qquad
        \frac{dy}{dx} = \frac{w_a w_b (y_b - y_a)}{(w_a (1 - t) + w_b t)^2 (x_b - x_a)} .

    Weights and the value at the cut are those that give the piece the slopes :math:`d` at its ends. Nothing is indexed by a mask,
    so a GPU need not wait.

    Parameters
    ----------
    x, y
        Knots, ascending, shape ``(..., n_pieces + 1)``; both begin and end at plus and minus the same number.
    slopes
        Slopes at the knots, above 0, same shape; 1 at both ends, where the identity follows.
    cuts
        Shares of the pieces at which they are cut, between 0 and 1, shape ``(..., n_pieces)``.
    """

    x: Tensor
    y: Tensor
    slopes: Tensor
    cuts: Tensor

    @classmethod
    def from_unbounded(
        cls, widths: Tensor, heights: Tensor, slopes: Tensor, cuts: Tensor, bound: float
    ) -> MonotoneSpline:
        """Make splines of numbers without bounds: ``n_pieces`` each, but of slopes, which are those between two pieces, one less."""
        inner = SMALLEST + F.softplus(slopes + SLOPE_ONE)
        return cls(
            _place_knots(widths, bound),
            _place_knots(heights, bound),
            F.pad(inner, (1, 1), value=1.0),
            LOWEST_CUT + (1 - 2 * LOWEST_CUT) * torch.sigmoid(cuts),
        )

    def _find_half(self, values: Tensor, *, inverse: bool) -> tuple[Tensor, ...]:
        """Return ends and weights of the half that each value lies in: x_a, x_b, y_a, y_b, w_a, w_b, all of its shape."""
        given = self.y if inverse else self.x
        piece = (values[..., None] >= given[..., 1:-1]).sum(dim=-1, keepdim=True)

        def take(numbers: Tensor) -> Tensor:
            return numbers.gather(-1, piece)[..., 0]

        x_a, x_b, y_a, y_b = take(self.x), take(self.x[..., 1:]), take(self.y), take(self.y[..., 1:])
        slope_a, slope_b, cut = take(self.slopes), take(self.slopes[..., 1:]), take(self.cuts)
        weight_b = (slope_a / slope_b).sqrt()  # that at the left end is 1
        weight_c = (cut * slope_a + (1 - cut) * weight_b * slope_b) * (x_b - x_a) / (y_b - y_a)
        x_c = x_a + cut * (x_b - x_a)
        y_c = ((1 - cut) * y_a + cut * weight_b * y_b) / (1 - cut + cut * weight_b)
        is_left = values < (y_c if inverse else x_c)
        halves = ((x_a, x_c), (x_c, x_b), (y_a, y_c), (y_c, y_b))
        ends = [torch.where(is_left, left, right) for left, right in halves]
        weights = torch.where(is_left, 1.0, weight_c), torch.where(is_left, weight_c, weight_b)
        return *ends, *weights

    def _bound(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return values within the square, and which of them lie there."""
        low, high = self.x[..., 0], self.x[..., -1]
        return torch.minimum(torch.maximum(values, low), high), (values >= low) & (values <= high)

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Bend values, shape ``(...)``; return them and the logarithm of the slope at each."""
        bounded, is_inside = self._bound(values)
        x_a, x_b, y_a, y_b, w_a, w_b = self._find_half(bounded, inverse=False)
        t = (bounded - x_a) / (x_b - x_a)
        left, right = w_a * (1 - t), w_b * t
        bent = (left * y_a + right * y_b) / (left + right)
        log_slope = (w_a * w_b * (y_b - y_a) / (x_b - x_a)).log() - 2 * (left + right).log()
        return torch.where(is_inside, bent, values), torch.where(is_inside, log_slope, 0.0)

    def inverse(self, bent: Tensor) -> Tensor:
        """Return the values that were bent, shape ``(...)``."""
        bounded, is_inside = self._bound(bent)
        x_a, x_b, y_a, y_b, w_a, w_b = self._find_half(bounded, inverse=True)
        left, right = w_a * (bounded - y_a), w_b * (y_b - bounded)
        t = left / (left + right)
        return torch.where(is_inside, x_a + t * (x_b - x_a), bent)


def _place_knots(sizes: Tensor, bound: float) -> Tensor:
    """Return ``n_pieces + 1`` knots from minus to plus ``bound``, a piece apart that is at least a thousandth of the whole wide."""
    shares = SMALLEST + (1 - SMALLEST * sizes.shape[-1]) * F.softmax(sizes, dim=-1)
    inner = 2 * bound * shares[..., :-1].cumsum(dim=-1) - bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


class ConditionalSpline(nn.Module):
    r"""An autoregressive spline flow: :math:`u_k = h(w_k;\, w_{1..k-1}, c)`, monotone in :math:`w_k`, with :math:`u \mid c \sim N(0, I)`.

    An affine map equalises conditional means, variances and correlations; where the distribution is skewed to one side for
    some :math:`c` and to the other for others, or consists of clusters that come and go with :math:`c`, what is left still tells
    :math:`c`. This map takes such shapes out, and has an inverse. It starts as the identity. The splines are rational-linear (:class:`MonotoneSpline`), and the masked networks
    behind them are Pyro's (Germain et al. 2015, ICML 37, 881;
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

    def _splines(self, values: Tensor, condition: Tensor, columns: slice = slice(None)) -> MonotoneSpline:
        widths, heights, slopes, cuts = (x[..., columns].mT for x in self.network(values, condition))
        return MonotoneSpline.from_unbounded(widths, heights, slopes, cuts, self.bound)

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        """Bend values, shape ``(n_cells, n_columns)``; columns that do not vary stay as they are."""
        if not self.varies.any():
            return values
        bent = map_parts(
            lambda some, known: self._splines(some, known)(some)[0], values, condition, at_once=CELLS_AT_ONCE
        )
        return torch.where(self.varies > 0, bent, values)

    def inverse(self, bent: Tensor, condition: Tensor) -> Tensor:
        """Return the values that were bent, column by column, since each depends on those before it."""
        return map_parts(self._invert, bent, condition, at_once=CELLS_AT_ONCE)

    def _invert(self, bent: Tensor, condition: Tensor) -> Tensor:
        values = torch.zeros_like(bent)
        for column in self.varies.nonzero()[:, 0].tolist():
            only = slice(column, column + 1)
            unbent = self._splines(values, condition, only).inverse(bent[:, only])
            values = torch.cat([values[:, :column], unbent, values[:, column + 1 :]], dim=1)
        return torch.where(self.varies > 0, values, bent)

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood, up to a constant, summed over columns."""
        return self.negative_log_likelihood(values, condition).mean()

    def negative_log_likelihood(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood of each cell, up to a constant, shape ``(n_cells,)``."""
        bent, log_slope = self._splines(values, condition)(values)
        return ((0.5 * bent.square() - log_slope) * self.varies).sum(dim=-1)

    def give_up(self) -> None:
        """Leave all values as they are from now on."""
        self.varies.zero_()
