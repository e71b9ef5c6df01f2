"""Prediction with uncertainty: ensembles of networks, and calibrated prediction intervals."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.nn._networks import EnsembleLinear, drop

LOG_SCALE_LIMIT = 4.0
"""Largest absolute logarithm of a standard deviation relative to the overall one."""

MIN_STD = 1e-6
"""Standard deviation below which a column is treated as constant."""

MAX_STANDARDIZED_INPUT = 10.0
"""Absolute value at which standardised inputs are clipped, to limit extrapolation."""


class PredictionHead(nn.Module):
    r"""Ensemble of networks for the mean and standard deviation of each column of y given x.

    Training starts from the overall mean and standard deviation. The mean is trained by least
    squares, in units of the overall standard deviations. The standard deviation is trained by the
    Gaussian likelihood of the residuals, from the hidden units of the mean, which receive no
    gradient from it: a joint likelihood would reduce the weight of the mean where it fits poorly
    [1]_. The moments of the ensemble are

    .. math::

        \mu = \frac1K \sum_k \mu_k, \qquad
        \sigma^2 = \frac1K \sum_k \sigma_k^2 + \frac1K \sum_k (\mu_k - \mu)^2,

    where the two terms of the variance are the predicted noise and the disagreement between members
    [2]_.

    Parameters
    ----------
    n_input
        Number of columns of :math:`x`.
    n_output
        Number of columns of :math:`y`.
    n_hidden
        Width of the two hidden layers.
    dropout
        Share of hidden units dropped in training.
    n_members
        Number of networks.

    References
    ----------
    .. [1] Seitzer et al. On the pitfalls of heteroscedastic uncertainty estimation with
       probabilistic neural networks. ICLR (2022). arXiv 2203.09168.
    .. [2] Lakshminarayanan et al. Simple and scalable predictive uncertainty estimation using deep
       ensembles. NIPS (2017). arXiv 1612.01474.

    Examples
    --------
    >>> from indiseek_sc.nn import PredictionHead
    >>> head = PredictionHead(n_input=3, n_output=2, n_hidden=8).eval()
    >>> mean, std = head(torch.randn(5, 3))
    >>> mean.shape, std.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    center: Tensor
    scale: Tensor
    overall_mean: Tensor
    overall_scale: Tensor

    def __init__(
        self, n_input: int, n_output: int, n_hidden: int = 256, *, dropout: float = 0.4, n_members: int = 3
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.dropout = dropout
        self.layers = nn.ModuleList(
            [EnsembleLinear(n_members, n_input, n_hidden), EnsembleLinear(n_members, n_hidden, n_hidden)]
        )
        self.mean = EnsembleLinear(n_members, n_hidden, n_output, start_at_zero=True)
        self.log_scale = EnsembleLinear(n_members, n_hidden, n_output, start_at_zero=True)
        self.register_buffer("center", torch.zeros(n_input))
        self.register_buffer("scale", torch.ones(n_input))
        self.register_buffer("overall_mean", torch.zeros(n_output))
        self.register_buffer("overall_scale", torch.ones(n_output))

    @torch.no_grad()
    def start_from(self, x: Tensor, y: Tensor) -> None:
        """Initialise the networks, and set the overall moments from training cells.

        Constant columns of ``x`` are ignored. Constant columns of ``y`` are predicted exactly,
        with a standard deviation of 0.

        Parameters
        ----------
        x
            Inputs, shape ``(n_cells, n_input)``.
        y
            Outputs, shape ``(n_cells, n_output)``.
        """
        for layer in (*self.layers, self.mean, self.log_scale):
            layer.reset()
        std = x.std(dim=0, correction=0)
        self.center.copy_(x.mean(dim=0))
        self.scale.copy_(torch.where(std > MIN_STD, 1 / std.clamp(min=MIN_STD), 0.0))
        spread = y.std(dim=0, correction=0)
        self.overall_mean.copy_(y.mean(dim=0))
        self.overall_scale.copy_(torch.where(spread > MIN_STD, spread, 0.0))

    def members(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predictions of each member, shape ``(n_members, n_cells, n_output)`` both.

        These are the mean, relative to the overall mean, and the logarithm of the standard
        deviation, both in units of the overall standard deviations.
        """
        standardized = ((x - self.center) * self.scale).clamp(-MAX_STANDARDIZED_INPUT, MAX_STANDARDIZED_INPUT)
        hidden = standardized.expand(self.n_members, *standardized.shape)
        for layer in self.layers:
            hidden = drop(F.silu(layer(hidden)), self.dropout, self.training)
        return self.mean(hidden), self.log_scale(hidden.detach()).clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation, shape ``(n_cells, n_output)`` both."""
        mean, log_scale = self.members(x)
        variance = (2 * log_scale).exp().mean(dim=0) + mean.var(dim=0, correction=0)
        return self.overall_mean + mean.mean(dim=0) * self.overall_scale, variance.sqrt() * self.overall_scale

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared error in units of the overall variances.

        In training it is the error of the members plus the negative log-likelihood that trains
        their standard deviations. In evaluation it is the error of the ensemble alone: weights are
        selected by the error, because the standard deviations are calibrated afterwards on other
        cells.
        """
        varies = self.overall_scale > 0
        target = torch.where(varies, (y - self.overall_mean) / self.overall_scale.clamp(min=MIN_STD), 0.0)
        mean, log_scale = self.members(x)
        if not self.training:
            return (target - mean.mean(dim=0)).square().mul(varies).mean()
        error = target - mean
        negative_log_likelihood = (error.detach() * (-log_scale).exp()).square() / 2 + log_scale
        return ((error.square() + negative_log_likelihood) * varies).mean()


POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidate exponents of the predicted standard deviations; 0 makes them equal for all cells."""

LEVELS = (*(step / 20 for step in range(1, 20)), 0.99)
"""Coverage levels for which interval widths are stored; widths are interpolated between them."""

TINY = 1e-12
"""Smallest positive standard deviation, to avoid divisions by 0."""


class IntervalCalibration(nn.Module):
    r"""Calibrate predicted standard deviations and intervals on cells not used in training.

    Predicted standard deviations may vary more among cells than errors do if the training data are
    small. A predicted standard deviation :math:`d`, with geometric mean :math:`\bar d` in its
    column, is therefore replaced by :math:`d' = \bar d\,(d / \bar d)^p`, where the exponent
    :math:`p`, common to all columns, maximises the likelihood of the errors; :math:`p = 0` gives
    the same value for all cells. The result is scaled by the root mean square of :math:`e / d'`
    over the errors :math:`e`.

    The half width of an interval with coverage :math:`a` is, in units of :math:`d'`, the
    :math:`\lceil (n + 1) a \rceil`-th smallest :math:`|e| / d'` of :math:`n` cells (split
    conformal prediction [1]_), without an assumption on the distribution of the errors. The
    coverage of new cells is about :math:`a` if they are exchangeable with the calibration cells;
    cells of a new donor or batch need not be.

    Parameters
    ----------
    n_columns
        Number of predicted columns.

    References
    ----------
    .. [1] Lei et al. Distribution-free predictive inference for regression. Journal of the American
       Statistical Association 113, 1094 (2018).

    Examples
    --------
    >>> from indiseek_sc.nn import IntervalCalibration
    >>> calibration = IntervalCalibration(n_columns=1)
    >>> calibration.fit(error=torch.tensor([[-2.0], [2.0]]), std=torch.ones(2, 1))
    >>> calibration(torch.ones(1, 1)).item()  # errors are twice as large as predicted
    2.0
    """

    typical: Tensor
    power: Tensor
    scale: Tensor
    half_widths: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("typical", torch.ones(n_columns))
        self.register_buffer("power", torch.ones(()))
        self.register_buffer("scale", torch.ones(n_columns))
        self.register_buffer("half_widths", torch.zeros(len(LEVELS), n_columns))

    @torch.no_grad()
    def fit(self, error: Tensor, std: Tensor) -> None:
        """Set the calibration from errors and predicted standard deviations.

        A column with a standard deviation of 0, which is constant, is not changed, and its
        intervals have a width of 0.

        Parameters
        ----------
        error
            Errors, shape ``(n_cells, n_columns)``.
        std
            Predicted standard deviations, same shape.
        """
        varies = (std > 0).all(dim=0)
        self.scale.fill_(1.0)
        self.typical.copy_(torch.where(varies, std.clamp(min=TINY).log().mean(dim=0).exp(), 1.0))
        negative_log_likelihoods = []
        for power in POWERS:
            self.power.fill_(power)
            # For every exponent, scaled squared errors have mean 1 and the geometric mean is the
            # same, so the likelihoods differ only by the scale.
            scale = self._find_scale(error, std)
            negative_log_likelihoods.append(float((scale.log() * varies).sum()))
        self.power.fill_(POWERS[min(range(len(POWERS)), key=negative_log_likelihoods.__getitem__)])
        self.scale.copy_(torch.where(varies, self._find_scale(error, std), 1.0))
        ordered = (error.abs() / self(std).clamp(min=TINY) * varies).sort(dim=0).values
        ranks = [min(math.ceil(round((len(error) + 1) * level, 6)), len(error)) for level in LEVELS]
        self.half_widths.copy_(ordered[torch.tensor(ranks, device=ordered.device) - 1])

    def _find_scale(self, error: Tensor, std: Tensor) -> Tensor:
        """Return the root mean square of the scaled errors of each column."""
        return (error / self._shrink(std).clamp(min=TINY)).square().mean(dim=0).sqrt().clamp(min=TINY)

    def _shrink(self, std: Tensor) -> Tensor:
        """Return the standard deviations raised to the chosen power around their geometric mean."""
        changed = self.typical * (std / self.typical).pow(self.power)
        return torch.where(std > 0, changed, 0.0)

    def forward(self, std: Tensor) -> Tensor:
        """Return calibrated standard deviations, shape ``(n_cells, n_columns)``.

        Parameters
        ----------
        std
            Predicted standard deviations, same shape.
        """
        return self._shrink(std) * self.scale
