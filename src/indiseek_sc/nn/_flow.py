"""Conditional autoregressive spline flow."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from indiseek_sc._settings import settings
from indiseek_sc.nn._networks import Dropout
from indiseek_sc.nn._parts import map_parts

SMALLEST = 1e-3
"""Smallest slope at a knot, and smallest width and height of a piece as a share of the whole."""

LOWEST_CUT = 0.025
"""Smallest distance between the cut of a piece and its ends, as a share of its width."""

SLOPE_ONE = math.log(math.expm1(1 - SMALLEST))
"""Unbounded parameter that corresponds to a slope of 1."""


def _at_once() -> int:
    """Return half the usual number of cells, since a spline needs about 30 numbers per value."""
    return max(1, settings.cells_at_once // 2)


class MonotoneSpline(NamedTuple):
    r"""Monotone rational-linear splines that are the identity outside a square.

    The splines were proposed in [1]_.

    Each piece is cut in two at the share :math:`\lambda` of its width, and each half, from
    :math:`(x_a, y_a)` to :math:`(x_b, y_b)`, is interpolated in homogeneous coordinates: with
    :math:`t = (x - x_a) / (x_b - x_a)`,

    .. math::

        y = \frac{w_a y_a (1 - t) + w_b y_b t}{w_a (1 - t) + w_b t}, \qquad
        \frac{dy}{dx} = \frac{w_a w_b (y_b - y_a)}{(w_a (1 - t) + w_b t)^2 (x_b - x_a)} .

    The weights and the value at the cut follow from the slopes at the ends of the piece. The
    implementation uses no boolean indexing, which would require synchronisation with a GPU.

    Parameters
    ----------
    x
        Knots, ascending from minus to plus the bound, shape ``(..., n_pieces + 1)``.
    y
        Values at the knots, ascending between the same bounds, same shape.
    slopes
        Slopes at the knots, positive, same shape; 1 at both ends, where the identity follows.
    cuts
        Shares of the pieces at which they are cut, between 0 and 1, shape ``(..., n_pieces)``.

    References
    ----------
    .. [1] Dolatabadi et al. Invertible generative modeling using linear rational splines.
       AISTATS, PMLR 108, 4236 (2020).
    """

    x: Tensor
    y: Tensor
    slopes: Tensor
    cuts: Tensor

    @classmethod
    def from_unbounded(
        cls, widths: Tensor, heights: Tensor, slopes: Tensor, cuts: Tensor, bound: float
    ) -> MonotoneSpline:
        """Build splines from unbounded parameters.

        Parameters
        ----------
        widths
            Parameters of the widths of the pieces, shape ``(..., n_pieces)``.
        heights
            Parameters of the heights of the pieces, same shape.
        slopes
            Parameters of the slopes at the inner knots, shape ``(..., n_pieces - 1)``.
        cuts
            Parameters of the cuts, shape ``(..., n_pieces)``.
        bound
            Half the side of the square.
        """
        inner = SMALLEST + F.softplus(slopes + SLOPE_ONE)
        return cls(
            _place_knots(widths, bound),
            _place_knots(heights, bound),
            F.pad(inner, (1, 1), value=1.0),
            LOWEST_CUT + (1 - 2 * LOWEST_CUT) * torch.sigmoid(cuts),
        )

    def _find_half(self, values: Tensor, *, inverse: bool) -> tuple[Tensor, ...]:
        """Return x_a, x_b, y_a, y_b, w_a and w_b of the half in which each value lies."""
        given = self.y if inverse else self.x
        piece = (values[..., None] >= given[..., 1:-1]).sum(dim=-1, keepdim=True)

        def take(numbers: Tensor) -> Tensor:
            return numbers.gather(-1, piece)[..., 0]

        x_a, x_b, y_a, y_b = take(self.x), take(self.x[..., 1:]), take(self.y), take(self.y[..., 1:])
        slope_a, slope_b, cut = take(self.slopes), take(self.slopes[..., 1:]), take(self.cuts)
        weight_b = (slope_a / slope_b).sqrt()  # relative to the weight at the left end
        weight_c = (cut * slope_a + (1 - cut) * weight_b * slope_b) * (x_b - x_a) / (y_b - y_a)
        x_c = x_a + cut * (x_b - x_a)
        y_c = ((1 - cut) * y_a + cut * weight_b * y_b) / (1 - cut + cut * weight_b)
        is_left = values < (y_c if inverse else x_c)
        halves = ((x_a, x_c), (x_c, x_b), (y_a, y_c), (y_c, y_b))
        ends = [torch.where(is_left, left, right) for left, right in halves]
        weights = torch.where(is_left, 1.0, weight_c), torch.where(is_left, weight_c, weight_b)
        return *ends, *weights

    def _bound(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values clamped to the square, and which of them lie within it."""
        low, high = self.x[..., 0], self.x[..., -1]
        return torch.minimum(torch.maximum(values, low), high), (values >= low) & (values <= high)

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return transformed values, shape ``(...)``, and the logarithm of the slope at each."""
        bounded, is_inside = self._bound(values)
        x_a, x_b, y_a, y_b, w_a, w_b = self._find_half(bounded, inverse=False)
        t = (bounded - x_a) / (x_b - x_a)
        left, right = w_a * (1 - t), w_b * t
        transformed = (left * y_a + right * y_b) / (left + right)
        log_slope = (w_a * w_b * (y_b - y_a) / (x_b - x_a)).log() - 2 * (left + right).log()
        return torch.where(is_inside, transformed, values), torch.where(is_inside, log_slope, 0.0)

    def inverse(self, transformed: Tensor) -> Tensor:
        """Return the values whose transform is given, shape ``(...)``."""
        bounded, is_inside = self._bound(transformed)
        x_a, x_b, y_a, y_b, w_a, w_b = self._find_half(bounded, inverse=True)
        left, right = w_a * (bounded - y_a), w_b * (y_b - bounded)
        t = left / (left + right)
        return torch.where(is_inside, x_a + t * (x_b - x_a), transformed)


def _place_knots(sizes: Tensor, bound: float) -> Tensor:
    """Return ``n_pieces + 1`` knots from minus to plus ``bound``, with pieces of a minimum size."""
    shares = SMALLEST + (1 - SMALLEST * sizes.shape[-1]) * F.softmax(sizes, dim=-1)
    inner = 2 * bound * shares[..., :-1].cumsum(dim=-1) - bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


class ConditionalSpline(nn.Module):
    r"""Conditional autoregressive spline flow to a standard normal distribution.

    .. math::

        u_k = h(w_k;\, w_{1..k-1}, c), \qquad u \mid c \sim N(0, I),

    where :math:`h` is monotone in :math:`w_k`. Conditional whitening, an affine map, equalises
    conditional means, variances and correlations. Its output still depends on the condition where,
    for instance, the skewness of the distribution or the presence of clusters does. The flow is
    invertible and removes such dependence. It starts as the identity. The splines are
    rational-linear (:class:`MonotoneSpline`); their parameters are computed by Pyro's masked
    networks [1]_ with a condition [2]_.

    Parameters
    ----------
    n_condition
        Dimensions of the condition.
    n_columns
        Dimensions of the vector :math:`w`.
    n_hidden
        Width of the two hidden layers, at least ``n_columns``.
    dropout
        Share of hidden units dropped in training.
    n_bins
        Number of pieces of a spline.
    bound
        Values beyond plus and minus this bound are not changed.

    References
    ----------
    .. [1] Germain et al. MADE: masked autoencoder for distribution estimation. ICML, PMLR 37, 881
       (2015).
    .. [2] Paige and Wood. Inference networks for sequential Monte Carlo in graphical models. ICML,
       PMLR 48, 3040 (2016).

    Examples
    --------
    >>> from indiseek_sc.nn import ConditionalSpline
    >>> flow = ConditionalSpline(n_condition=2, n_columns=3).eval()
    >>> values, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> torch.allclose(flow(values, condition), values, atol=1e-3)  # before training
    True
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
                permutation=torch.arange(n_columns),  # type: ignore[arg-type]  # annotated with a class that torch no longer has
                nonlinearity=nn.Sequential(nn.SiLU(), Dropout(dropout)),
            )
        output = self.network.layers[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        self.register_buffer("varies", torch.ones(n_columns))

    def _splines(self, values: Tensor, condition: Tensor, columns: slice = slice(None)) -> MonotoneSpline:
        """Return the splines of some columns of each cell."""
        widths, heights, slopes, cuts = (x[..., columns].mT for x in self.network(values, condition))
        return MonotoneSpline.from_unbounded(widths, heights, slopes, cuts, self.bound)

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        """Return transformed values, shape ``(n_cells, n_columns)``; constant columns are kept."""
        if not self.varies.any():
            return values
        transformed = map_parts(
            lambda part, given: self._splines(part, given)(part)[0], values, condition, at_once=_at_once()
        )
        return torch.where(self.varies > 0, transformed, values)

    def inverse(self, transformed: Tensor, condition: Tensor) -> Tensor:
        """Return the values whose transform is given, shape ``(n_cells, n_columns)``.

        Columns are inverted one after another, since each spline depends on the columns before it.
        """
        return map_parts(self._invert, transformed, condition, at_once=_at_once())

    def _invert(self, transformed: Tensor, condition: Tensor) -> Tensor:
        values = torch.zeros_like(transformed)
        for column in self.varies.nonzero()[:, 0].tolist():
            only = slice(column, column + 1)
            inverted = self._splines(values, condition, only).inverse(transformed[:, only])
            values = torch.cat([values[:, :column], inverted, values[:, column + 1 :]], dim=1)
        return torch.where(self.varies > 0, values, transformed)

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Return the mean negative log-likelihood, up to a constant, summed over columns."""
        return self.negative_log_likelihood(values, condition).mean()

    def negative_log_likelihood(self, values: Tensor, condition: Tensor) -> Tensor:
        """Return the negative log-likelihood of each cell, shape ``(n_cells,)``.

        A constant that does not depend on the flow is left out.
        """
        transformed, log_slope = self._splines(values, condition)(values)
        return ((0.5 * transformed.square() - log_slope) * self.varies).sum(dim=-1)

    def disable(self) -> None:
        """Replace the flow by the identity from now on."""
        self.varies.zero_()
