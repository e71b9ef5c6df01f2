"""Conditional whitening in closed form, with moments that depend on a condition."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from indiseek_sc.nn._linear import PENALTIES, FourierFeatures, RidgeMap


def below_diagonal(n_columns: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return row and column numbers of the entries below the diagonal, row by row."""
    rows, columns = torch.tril_indices(n_columns, n_columns, -1, device=device)
    return rows, columns


class Whitening(NamedTuple):
    r"""Affine map of each cell, :math:`z = L\,(y - \mu) / \sigma - m`.

    :math:`L` is lower triangular with a diagonal of 1. If :math:`y` is Gaussian with mean
    :math:`\mu` and precision :math:`D^{-1} L^\top L D^{-1}`, where
    :math:`D = \operatorname{diag}\sigma`, and :math:`m = 0`, then :math:`z` is standard normal.
    :math:`L` is thus a unit lower-triangular Cholesky factor of the precision of
    :math:`y / \sigma`. The first column of :math:`z` is the standardised first column of
    :math:`y`, and each further column is the residual of its column given the previous ones
    (modified Cholesky decomposition [1]_).

    Parameters
    ----------
    mean
        :math:`\mu`, shape ``(..., n_columns)``.
    log_scale
        :math:`\log\sigma`, shape ``(..., n_columns)``.
    cholesky
        Entries of :math:`L` below its diagonal, row by row, shape
        ``(..., n_columns * (n_columns - 1) / 2)``.
    shift
        :math:`m`, shape ``(..., n_columns)``, or a single number.

    References
    ----------
    .. [1] Pourahmadi. Joint mean-covariance models with applications to longitudinal data:
       unconstrained parameterisation. Biometrika 86, 677 (1999).

    Examples
    --------
    >>> from indiseek_sc.nn import Whitening
    >>> whitening = Whitening(torch.tensor([1.0, 1.0]), torch.zeros(2), torch.tensor([-0.5]))
    >>> whitening.whiten(torch.tensor([3.0, 3.0])).tolist()
    [2.0, 1.0]
    """

    mean: Tensor
    log_scale: Tensor
    cholesky: Tensor
    shift: Tensor | float = 0.0

    def _cholesky_factor(self) -> Tensor:
        """Return L without its diagonal, shape ``(..., n_columns, n_columns)``."""
        n = self.log_scale.shape[-1]
        matrix = self.cholesky.new_zeros(*self.cholesky.shape[:-1], n, n)
        rows, columns = below_diagonal(n, self.cholesky.device)
        matrix[..., rows, columns] = self.cholesky
        return matrix

    def matrix(self) -> Tensor:
        """Return the matrix of the map, :math:`L D^{-1}`, shape ``(..., n_columns, n_columns)``."""
        eye = torch.eye(self.log_scale.shape[-1], dtype=self.cholesky.dtype, device=self.cholesky.device)
        return (self._cholesky_factor() + eye) * (-self.log_scale).exp()[..., None, :]

    def whiten(self, values: Tensor) -> Tensor:
        """Return the whitened values z, shape ``(..., n_columns)``."""
        scaled = (values - self.mean) * (-self.log_scale).exp()
        return scaled + (self._cholesky_factor() @ scaled[..., None])[..., 0] - self.shift

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """Return the values whose whitening is given, shape ``(..., n_columns)``."""
        scaled = torch.linalg.solve_triangular(
            self._cholesky_factor(), (whitened + self.shift)[..., None], upper=False, unitriangular=True
        )
        return self.mean + self.log_scale.exp() * scaled[..., 0]

    def negative_log_likelihood(self, values: Tensor) -> Tensor:
        """Return the Gaussian negative log-likelihood of each row up to a constant, in nats."""
        return (self.whiten(values).square() / 2 + self.log_scale).sum(dim=-1)


LOG_SCALE_LIMIT = 4.0
"""Largest absolute logarithm of each of the two conditional scales."""

N_FOURIER = 256
"""Number of Fourier features for conditional means and scales."""

N_CHOLESKY = 32
"""Number of Fourier features for conditional correlations; few, since there are many pairs.

They are the first ones of the features for means and scales.
"""

FREQUENCY = 2.0
"""Frequency of the Fourier features.

A kernel half as wide as the typical distance between two cells leaves less dependence than one of
the full width.
"""

CHOLESKY_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1e9)
"""Candidate penalties of the condition-dependent part of the Cholesky factor.

They include strong ones, since estimates from few cells are mostly noise; the last one makes
the factor constant.
"""

CONSTANT_PENALTY = 0.003
"""Penalty of the constant part of the Cholesky factor."""

SCALE_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidate penalties of the conditional scales."""

N_SCORING_STEPS = 3
"""Number of Fisher scoring steps for scales; steps of the constant have half the length."""

LARGEST_SQUARE = 20.0
"""Upper limit of a standardised squared residual in Fisher scoring, to limit single cells."""


N_STANDARD_ERRORS = 1.0
"""Number of standard errors by which dependence on the condition must improve the fit.

The improvement is measured on validation cells. With two standard errors, more dependence remained
in data of a few hundred cells; without such a rule, nonlinear functions were fitted to data whose
true dependence was linear.
"""


class ConditionalWhitening(nn.Module):
    r"""Whitening that depends on a condition, fitted in closed form.

    .. math::

        z = L(c)\,(y - \mu(c)) / \sigma(c) - m(c),

    which is computed in steps from Fourier features :math:`\varphi(c)` of the condition:

    .. math::

        e = \frac{y - \mu(c)}{s(c)}, \qquad
        u_j = e_j - \sum_{k < j} a_{jk}(c)\, e_k, \qquad
        z = \frac{u}{t(c)} - m(c),

    so that :math:`\sigma = s t` and :math:`L_{jk} = -a_{jk} t_k / t_j`. The means :math:`\mu` and
    :math:`m` are ridge regressions of :math:`y` and of :math:`u / t` on :math:`\varphi`. The
    log-scales :math:`\log s` and :math:`\log t` are linear in :math:`\varphi` and maximise the
    penalised Gaussian likelihood of the residuals by Fisher scoring. The coefficients
    :math:`a_{jk}` are linear in the first columns of :math:`\varphi` and are fitted by a ridge
    regression of each column of :math:`e` on products of these with the previous columns of
    :math:`e`.

    Each penalty is chosen on validation cells for each column, since a column that is a function of
    the condition needs a smaller one than a column that is independent of it. If no penalty
    improves the validation loss of all columns together over constants by more than one standard
    error, constants are used for all columns. This method is not part of the published IndiSeek. On
    cells used neither for the fit nor for the choice of penalties, it left less dependence on the
    condition than an ensemble of networks for the same quantities for five of six inputs, at a
    lower likelihood for five of six, and took a ninth of the time (decision record 0025).

    Parameters
    ----------
    n_condition
        Dimensions of the condition.
    n_output
        Dimensions of the vector :math:`y`.
    n_linear
        Number of last columns of the condition that have only linear effects.

    Examples
    --------
    >>> from indiseek_sc.nn import ConditionalWhitening
    >>> condition = torch.randn(500, 1)
    >>> values = 3 * condition + torch.randn(500, 2)
    >>> whitening = ConditionalWhitening(n_condition=1, n_output=2)
    >>> whitening.fit(values, condition, n_fit=400)
    >>> whitened = whitening(condition).whiten(values)
    >>> bool(torch.corrcoef(torch.cat([whitened, condition], dim=1).T)[2, :2].abs().max() < 0.2)
    True
    """

    varies: Tensor
    size: Tensor

    def __init__(self, n_condition: int, n_output: int, *, n_linear: int = 0) -> None:
        super().__init__()
        self.features = FourierFeatures(n_condition, N_FOURIER, frequency=FREQUENCY, n_linear=n_linear)
        self.n_cholesky = n_condition + N_CHOLESKY
        self.register_buffer("varies", torch.zeros(n_output))
        self.register_buffer("size", torch.ones(n_output))
        self.mean, self.first, self.second, self.shift = (RidgeMap(self.features.n_output, n_output) for _ in range(4))
        self.cholesky = RidgeMap(self.n_cholesky, below_diagonal(n_output)[0].numel())

    def forward(self, condition: Tensor) -> Whitening:
        """Return the whitening given conditions of shape ``(n_cells, n_condition)``."""
        features = self.features(condition)
        first, second = _limit(self.first(features)), _limit(self.second(features))
        rows, columns = below_diagonal(len(self.varies), features.device)
        cholesky = self.cholesky(features[:, : self.n_cholesky]) * (second[:, columns] - second[:, rows]).exp()
        log_scale = self.size.log() + first + second
        return Whitening(self.mean(features) * self.size, log_scale, cholesky, self.shift(features))

    @torch.no_grad()
    def fit(self, values: Tensor, condition: Tensor, n_fit: int) -> None:
        """Fit the whitening on the first cells, and choose penalties on the others.

        Parameters
        ----------
        values
            Values, shape ``(n_cells, n_output)``; columns that are constant over the first cells
            are not changed.
        condition
            Condition, shape ``(n_cells, n_condition)``.
        n_fit
            Number of first cells to fit on.
        """
        for part in (self.mean, self.first, self.second, self.shift, self.cholesky):
            part.weight.zero_()
            part.bias.zero_()
        std = values[:n_fit].std(dim=0, correction=0)
        self.varies.copy_(std > 1e-6)
        self.size.copy_(torch.where(self.varies > 0, std, 1.0))
        on = self.varies.nonzero()[:, 0]
        if not len(on):
            return
        self.features.fit(condition[:n_fit])
        features = self.features(condition).double()
        basis = _Basis.of(features, n_fit)
        residuals = (values / self.size)[:, on].double()

        residuals = residuals - _set(self.mean, on, basis, *_regress(residuals, basis))
        residuals = residuals * (-_limit(_set(self.first, on, basis, *_fit_log_scale(residuals, basis)))).exp()
        residuals, cholesky = _regress_on_previous(residuals, features[:, : self.n_cholesky], n_fit)
        rows, columns = below_diagonal(len(self.varies), features.device)
        pairs = ((self.varies[rows] > 0) & (self.varies[columns] > 0)).nonzero()[:, 0]
        self.cholesky.weight[:, pairs] = -cholesky[1:].to(self.cholesky.weight)
        self.cholesky.bias[pairs] = -cholesky[0].to(self.cholesky.bias)
        residuals = residuals * (-_limit(_set(self.second, on, basis, *_fit_log_scale(residuals, basis)))).exp()
        _set(self.shift, on, basis, *_regress(residuals, basis))


def _limit(log_scale: Tensor) -> Tensor:
    """Clamp a log-scale to its limits."""
    return log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)


class _Basis(NamedTuple):
    """Features rotated to be uncorrelated over the cells of the fit, which come first."""

    rotated: Tensor  # (n_cells, n_features)
    variances: Tensor  # (n_features,)
    directions: Tensor  # (n_features, n_features)
    n_fit: int

    @classmethod
    def of(cls, features: Tensor, n_fit: int) -> _Basis:
        """Rotate the features of all cells to the principal axes of the first cells."""
        variances, directions = torch.linalg.eigh(features[:n_fit].T @ features[:n_fit] / n_fit)
        return cls(features @ directions, variances.clamp(min=0), directions, n_fit)

    def project(self, target: Tensor) -> Tensor:
        """Return the covariance of features and target, which has ``n_fit`` rows."""
        return self.rotated[: self.n_fit].T @ target / self.n_fit


def _set(part: RidgeMap, on: Tensor, basis: _Basis, weight: Tensor, bias: Tensor) -> Tensor:
    """Set a map of rotated features for the columns that vary, and return its prediction."""
    part.weight[:, on] = (basis.directions @ weight).to(part.weight)
    part.bias[on] = bias.to(part.bias)
    return basis.rotated @ weight + bias


def _choose(losses: Tensor) -> Tensor:
    """Return the candidate to use for each column, shape ``(n_columns,)``.

    ``losses`` has shape ``(n_candidates, n_cells, n_columns)``. The last candidate is the constant.
    It is used for all columns unless the candidate that is best for all columns together is better
    by more than one standard error, since the best of several is slightly better by chance, and
    fitting noise would introduce dependence on the condition. Otherwise the candidate of lowest
    mean loss is used for each column.
    """
    means = losses.mean(dim=1)
    gains = (losses[-1] - losses) / (means[-1] - means).abs().amax(dim=0).clamp(min=1e-12)
    together = gains.sum(dim=2)  # all columns have equal weight, however well they are predicted
    gain = together[together.mean(dim=1).argmax()]
    if gain.mean() > N_STANDARD_ERRORS * gain.std() / len(gain) ** 0.5:
        return means.argmin(dim=0)
    return torch.full_like(means[0], len(losses) - 1, dtype=torch.long)


def _take(candidates: Tensor, choice: Tensor) -> Tensor:
    """Return the chosen candidate of each column; candidates have shape ``(n, ..., n_columns)``."""
    return candidates.gather(0, choice.expand(1, *candidates.shape[1:]))[0]


def _regress(target: Tensor, basis: _Basis) -> tuple[Tensor, Tensor]:
    """Return weights and bias of a ridge regression of ``target`` on the rotated features."""
    n_fit, bias = basis.n_fit, target[: basis.n_fit].mean(dim=0)
    covariance = basis.project(target[:n_fit] - bias)
    penalties = torch.tensor((*PENALTIES, math.inf), dtype=covariance.dtype, device=covariance.device)
    weights = covariance / (basis.variances + penalties[:, None])[:, :, None]
    choice = _choose((target[n_fit:] - bias - basis.rotated[n_fit:] @ weights).square())
    return _take(weights, choice), bias


def _fit_log_scale(residuals: Tensor, basis: _Basis) -> tuple[Tensor, Tensor]:
    r"""Return weights and bias of the log standard deviation of each column of residuals.

    The Fisher information of :math:`\log s` in :math:`e \sim N(0, s^2)` is 2 for any :math:`s`, so
    that all scoring steps, columns and cells share one eigendecomposition.
    """
    n_fit, squares = basis.n_fit, residuals.square()
    overall = squares[:n_fit].mean(dim=0).clamp(min=1e-12).log() / 2
    weights, biases, losses = [], [], []
    for penalty in (*SCALE_PENALTIES, math.inf):
        weight, bias = torch.zeros(len(basis.variances), residuals.shape[1]).to(residuals), overall
        for _ in range(N_SCORING_STEPS if penalty < math.inf else 0):
            log_scale = _limit(bias + basis.rotated[:n_fit] @ weight)
            score = ((squares[:n_fit] * (-2 * log_scale).exp()).clamp(max=LARGEST_SQUARE) - 1) / 2
            bias = bias + score.mean(dim=0) / 2
            weight = weight + (basis.project(score) - penalty * weight) / (basis.variances[:, None] + penalty)
        log_scale = _limit(bias + basis.rotated[n_fit:] @ weight)
        weights.append(weight)
        biases.append(bias)
        losses.append(squares[n_fit:] * (-2 * log_scale).exp() / 2 + log_scale)
    choice = _choose(torch.stack(losses))
    return _take(torch.stack(weights), choice), _take(torch.stack(biases), choice)


def _regress_on_previous(values: Tensor, features: Tensor, n_fit: int) -> tuple[Tensor, Tensor]:
    """Regress each column on the previous ones, with coefficients that are linear in ``features``.

    Returns
    -------
    The residuals, same shape as ``values``, and the coefficients of all pairs of columns below the
    diagonal, row by row: first their constants, then those of each column of ``features``, shape
    ``(1 + n_features, n_pairs)``.
    """
    n_cells, n_columns = values.shape
    factors = torch.cat([torch.ones_like(features[:, :1]), features], dim=1)
    n = factors.shape[1]
    products = (values[:, :, None] * factors[:, None, :]).reshape(n_cells, n_columns * n)
    gram, covariance = products[:n_fit].T @ products[:n_fit] / n_fit, products[:n_fit].T @ values[:n_fit] / n_fit
    all_residuals, all_pairs, losses = [], [], []
    for penalty in CHOLESKY_PENALTIES:
        ridge = torch.full((n_columns, n), penalty, dtype=values.dtype, device=values.device)
        ridge[:, 0] = CONSTANT_PENALTY
        penalised = gram + ridge.reshape(-1).diag()
        coefficients = [
            torch.linalg.solve(penalised[: j * n, : j * n], covariance[: j * n, j]) for j in range(1, n_columns)
        ]
        explained = [products[:, : j * n] @ c for j, c in enumerate(coefficients, start=1)]
        residuals = torch.stack([values[:, 0], *(values[:, j] - x for j, x in enumerate(explained, start=1))], dim=1)
        pairs = torch.cat([c.reshape(-1, n) for c in coefficients]).T if coefficients else covariance.new_zeros(n, 0)
        all_residuals.append(residuals)
        all_pairs.append(pairs)
        losses.append(residuals[n_fit:].square())
    choice = _choose(torch.stack(losses))
    of_pairs = choice[below_diagonal(n_columns, values.device)[0]]
    return _take(torch.stack(all_residuals), choice), _take(torch.stack(all_pairs), of_pairs)
