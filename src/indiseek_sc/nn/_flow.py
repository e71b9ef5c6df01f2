"""Conditional densities that turn features into a vector which is standard normal whatever the condition."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
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
        bent = _in_parts(lambda some, known: self._splines(some, known)(some)[0], values, condition)
        return torch.where(self.varies > 0, bent, values)

    def inverse(self, bent: Tensor, condition: Tensor) -> Tensor:
        """Return the values that were bent, column by column, since each depends on those before it."""
        return _in_parts(self._invert, bent, condition)

    def _invert(self, bent: Tensor, condition: Tensor) -> Tensor:
        values = torch.zeros_like(bent)
        for column in self.varies.nonzero()[:, 0].tolist():
            only = slice(column, column + 1)
            unbent = self._splines(values, condition, only).inverse(bent[:, only])
            values = torch.cat([values[:, :column], unbent, values[:, column + 1 :]], dim=1)
        return torch.where(self.varies > 0, values, bent)

    def loss(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood, up to a constant, summed over columns."""
        return self.surprise(values, condition).mean()

    def surprise(self, values: Tensor, condition: Tensor) -> Tensor:
        """Negative log-likelihood of each cell, up to a constant, shape ``(n_cells,)``."""
        bent, log_slope = self._splines(values, condition)(values)
        return ((0.5 * bent.square() - log_slope) * self.varies).sum(dim=-1)

    def give_up(self) -> None:
        """Leave all values as they are from now on."""
        self.varies.zero_()


def _in_parts(function: Callable[[Tensor, Tensor], Tensor], values: Tensor, condition: Tensor) -> Tensor:
    """Apply a function to some cells at a time."""
    parts = zip(values.split(CELLS_AT_ONCE), condition.split(CELLS_AT_ONCE), strict=True)
    return torch.cat([function(*part) for part in parts])
