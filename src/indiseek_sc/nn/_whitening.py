"""Conditional whitening in closed form: means, variances and correlations of a vector that depend on a condition."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from indiseek_sc.nn._linear import PENALTIES, FourierFeatures, RidgeMap


def below_diagonal(n_columns: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return row and column numbers of the entries below the diagonal of a square matrix, row by row."""
    rows, columns = torch.tril_indices(n_columns, n_columns, -1, device=device)
    return rows, columns


class Whitening(NamedTuple):
    r"""An affine map for each cell, :math:`z = L\,(y - \mu) / \sigma - m`, with :math:`L` lower triangular and of unit diagonal.

    If :math:`y` is Gaussian with mean :math:`\mu` and with precision :math:`D^{-1} L^\top L D^{-1}`, :math:`D = \operatorname{diag}\sigma`, and
    :math:`m = 0`, then :math:`z` is standard normal. The first column of :math:`z` is the first of :math:`y`, standardised; each further
    column is what the columns before it leave of it (Pourahmadi 1999, Biometrika 86, 677: the modified Cholesky decomposition).

    Parameters
    ----------
    mean
        :math:`\mu`, shape ``(..., n_columns)``.
    log_scale
        :math:`\log\sigma`, shape ``(..., n_columns)``.
    mixing
        The entries of :math:`L` below its diagonal, row by row, shape ``(..., n_columns * (n_columns - 1) / 2)``.
    shift
        :math:`m`, shape ``(..., n_columns)`` or one number.
    """

    mean: Tensor
    log_scale: Tensor
    cholesky: Tensor
    shift: Tensor | float = 0.0

    def _cholesky_factor(self) -> Tensor:
        """Return L less its diagonal, shape ``(..., n_columns, n_columns)``."""
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
        """Return z, shape ``(..., n_columns)``."""
        scaled = (values - self.mean) * (-self.log_scale).exp()
        return scaled + (self._cholesky_factor() @ scaled[..., None])[..., 0] - self.shift

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """Return the values that :meth:`whiten` takes to ``whitened``, shape ``(..., n_columns)``."""
        scaled = torch.linalg.solve_triangular(
            self._cholesky_factor(), (whitened + self.shift)[..., None], upper=False, unitriangular=True
        )
        return self.mean + self.log_scale.exp() * scaled[..., 0]

    def negative_log_likelihood(self, values: Tensor) -> Tensor:
        """Minus the Gaussian log-density of each row, up to a constant, in nats, shape ``(...,)``."""
        return (self.whiten(values).square() / 2 + self.log_scale).sum(dim=-1)


LOG_SCALE_LIMIT = 4.0
"""How far, in nats, each of both conditional scales may move from 0."""

N_FOURIER = 256
"""Fourier features for conditional means and scales."""

N_CHOLESKY = 32
"""Fourier features for conditional correlations, of which there are many: the first so many of those above."""

FREQUENCY = 2.0
"""Of the Fourier features: a kernel half as wide as the typical distance between two cells leaves less dependence."""

MIXING_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1e9)
"""Strong ones too: on few cells correlations that depend on the condition are mostly noise. The last one lets them depend on nothing."""

MIXING_PENALTY = 0.003
"""Of the part of the correlations that does not depend on the condition."""

SCALE_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""As ``PENALTIES``."""

N_SCORING_STEPS = 3
"""Steps of Fisher scoring for scales, of half the length for the constant."""

LARGEST_SQUARE = 20.0
"""A single cell counts for no more than this in a conditional variance of 1."""


CERTAIN = 1.0
"""Standard errors by which a dependence on the condition must show on cells that were not fitted on. Two left more dependence on a few
hundred cells; none gave linear data curves that only chance had drawn."""


class ConditionalWhitening(nn.Module):
    r"""A whitening :math:`z = L(c)\,(y - \mu(c)) / \sigma(c) - m(c)` that depends on a condition, fitted in closed form.

    With Fourier features :math:`\varphi(c)` (:class:`~indiseek_sc.nn.FourierFeatures`), one after another,

    .. math::

        e = \frac{y - \mu(c)}{s(c)}, \qquad u_j = e_j - \sum_{k < j} a_{jk}(c)\, e_k, \qquad z = \frac{u}{t(c)} - m(c),

    so that :math:`\sigma = s t` and :math:`L_{jk} = -a_{jk} t_k / t_j`. :math:`\mu` and :math:`m` are ridge regressions of :math:`y` and of
    :math:`u / t` on :math:`\varphi`; :math:`\log s` and :math:`\log t` are linear in :math:`\varphi` and maximise the penalised
    Gaussian likelihood of what is left, by Fisher scoring; and :math:`a_{jk}` are linear in the first columns of :math:`\varphi`, by a ridge
    regression of each column on the products of those before it with these. Each penalty is chosen for all columns together, on cells
    that were not fitted on; where none does better there than a constant, by a standard error, there is a constant. This is ours, not the paper's: on further cells an ensemble of networks for the same quantities had neither
    a higher likelihood nor less dependence, took ten times as long, and gained nothing where it started from here.

    Parameters
    ----------
    n_condition
        Columns of the condition.
    n_output
        Columns of the vector.
    n_linear
        So many of the last columns of the condition have linear effects alone.
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
        """Return the whitening of each cell."""
        known = self.features(condition)
        first, second = _limit(self.first(known)), _limit(self.second(known))
        rows, columns = below_diagonal(len(self.varies), known.device)
        cholesky = self.cholesky(known[:, : self.n_cholesky]) * (second[:, columns] - second[:, rows]).exp()
        return Whitening(self.mean(known) * self.size, self.size.log() + first + second, cholesky, self.shift(known))

    @torch.no_grad()
    def fit(self, values: Tensor, condition: Tensor, n_fit: int) -> None:
        """Fit the first cells, and choose penalties by the others.

        Parameters
        ----------
        values
            Shape ``(n_cells, n_output)``; columns that are constant over the first cells stay as they are.
        condition
            Shape ``(n_cells, n_condition)``.
        n_fit
            The first so many cells are fitted on.
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
        known = self.features(condition).double()
        basis = _Basis.of(known, n_fit)
        left = (values / self.size)[:, on].double()

        left = left - _set(self.mean, on, basis, *_regress(left, basis))
        left = left * (-_limit(_set(self.first, on, basis, *_fit_log_scale(left, basis)))).exp()
        left, cholesky = _unmix(left, known[:, : self.n_cholesky], n_fit)
        rows, columns = below_diagonal(len(self.varies), known.device)
        pairs = ((self.varies[rows] > 0) & (self.varies[columns] > 0)).nonzero()[:, 0]
        self.cholesky.weight[:, pairs] = -cholesky[1:].to(self.cholesky.weight)
        self.cholesky.bias[pairs] = -cholesky[0].to(self.cholesky.bias)
        left = left * (-_limit(_set(self.second, on, basis, *_fit_log_scale(left, basis)))).exp()
        _set(self.shift, on, basis, *_regress(left, basis))


def _limit(log_scale: Tensor) -> Tensor:
    return log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)


class _Basis(NamedTuple):
    """Features turned so that they are uncorrelated over the cells of the fit, which come first."""

    turned: Tensor  # (n_cells, n_features)
    variances: Tensor  # (n_features,)
    directions: Tensor  # (n_features, n_features)
    n_fit: int

    @classmethod
    def of(cls, known: Tensor, n_fit: int) -> _Basis:
        variances, directions = torch.linalg.eigh(known[:n_fit].T @ known[:n_fit] / n_fit)
        return cls(known @ directions, variances.clamp(min=0), directions, n_fit)

    def project(self, target: Tensor) -> Tensor:
        """Return the covariance of each feature with ``target``, shape ``(n_fit, n_columns)``."""
        return self.turned[: self.n_fit].T @ target / self.n_fit


def _set(part: RidgeMap, on: Tensor, basis: _Basis, weight: Tensor, bias: Tensor) -> Tensor:
    """Write a map of turned features for the columns that vary, and return what it predicts for all cells."""
    part.weight[:, on] = (basis.directions @ weight).to(part.weight)
    part.bias[on] = bias.to(part.bias)
    return basis.turned @ weight + bias


def _choose(losses: Tensor) -> int:
    """Return which candidate has the lowest mean loss on cells, shape ``(n_candidates, n_cells)``.

    The last one depends on nothing, and is chosen unless the best one does better by more than a standard error: the best of several is a
    little better by chance, and what is fitted to chance brings dependence in.
    """
    best = int(losses.mean(dim=1).argmin())
    gain = losses[-1] - losses[best]
    return best if gain.mean() > CERTAIN * gain.std() / len(gain) ** 0.5 else len(losses) - 1


def _regress(target: Tensor, basis: _Basis) -> tuple[Tensor, Tensor]:
    """Return weights and bias of a ridge regression on turned features, for each column of ``target``."""
    n_fit, bias = basis.n_fit, target[: basis.n_fit].mean(dim=0)
    covariance = basis.project(target[:n_fit] - bias)
    penalties = torch.tensor((*PENALTIES, math.inf), dtype=covariance.dtype, device=covariance.device)
    weights = covariance / (basis.variances + penalties[:, None])[:, :, None]
    errors = (target[n_fit:] - bias - basis.turned[n_fit:] @ weights).square()
    # Columns count alike, whatever share of them can be predicted.
    return weights[_choose((errors / errors.mean(dim=1).amin(dim=0).clamp(min=1e-12)).sum(dim=2))], bias


def _fit_log_scale(left: Tensor, basis: _Basis) -> tuple[Tensor, Tensor]:
    r"""Return weights and bias of the logarithm of the standard deviation, for each column of ``left``, whose mean is 0.

    By Fisher scoring: the information of :math:`\log s` in :math:`e \sim N(0, s^2)` is 2 for any :math:`s`, so that all steps, columns and cells
    share one decomposition.
    """
    n_fit, squares = basis.n_fit, left.square()
    overall = squares[:n_fit].mean(dim=0).clamp(min=1e-12).log() / 2
    found, losses = [], []
    for penalty in (*SCALE_PENALTIES, math.inf):
        weight, bias = torch.zeros(len(basis.variances), left.shape[1]).to(left), overall
        for _ in range(N_SCORING_STEPS if penalty < math.inf else 0):
            log_scale = _limit(bias + basis.turned[:n_fit] @ weight)
            score = ((squares[:n_fit] * (-2 * log_scale).exp()).clamp(max=LARGEST_SQUARE) - 1) / 2
            bias = bias + score.mean(dim=0) / 2
            weight = weight + (basis.project(score) - penalty * weight) / (basis.variances[:, None] + penalty)
        log_scale = _limit(bias + basis.turned[n_fit:] @ weight)
        found.append((weight, bias))
        losses.append((squares[n_fit:] * (-2 * log_scale).exp() / 2 + log_scale).sum(dim=1))
    return found[_choose(torch.stack(losses))]


def _unmix(values: Tensor, known: Tensor, n_fit: int) -> tuple[Tensor, Tensor]:
    """Regress each column on those before it, with coefficients that are linear in ``known``.

    Returns
    -------
    What is left of ``values``, shape kept, and the coefficients of the pairs of columns below the diagonal, row by row: their constants
    first, then those of each column of ``known``, shape ``(1 + n_known, n_pairs)``.
    """
    n_cells, n_columns = values.shape
    factors = torch.cat([torch.ones_like(known[:, :1]), known], dim=1)
    n = factors.shape[1]
    products = (values[:, :, None] * factors[:, None, :]).reshape(n_cells, n_columns * n)
    gram, covariance = products[:n_fit].T @ products[:n_fit] / n_fit, products[:n_fit].T @ values[:n_fit] / n_fit
    found, losses = [], []
    for penalty in MIXING_PENALTIES:
        ridge = torch.full((n_columns, n), penalty, dtype=values.dtype, device=values.device)
        ridge[:, 0] = MIXING_PENALTY
        penalised = gram + ridge.reshape(-1).diag()
        coefficients = [
            torch.linalg.solve(penalised[: j * n, : j * n], covariance[: j * n, j]) for j in range(1, n_columns)
        ]
        explained = [products[:, : j * n] @ c for j, c in enumerate(coefficients, start=1)]
        left = torch.stack([values[:, 0], *(values[:, j] - x for j, x in enumerate(explained, start=1))], dim=1)
        found.append(
            (
                left,
                torch.cat([c.reshape(-1, n) for c in coefficients]).T if coefficients else covariance.new_zeros(n, 0),
            )
        )
        losses.append(left[n_fit:].square().sum(dim=1))
    return found[_choose(torch.stack(losses))]
