"""Linear and Fourier-feature maps with a closed-form fit, whose weights are buffers."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn._parts import iterate_parts, means, sum_parts

if TYPE_CHECKING:
    from collections.abc import Callable


class RidgeMap(nn.Module):
    """Affine map fitted by ridge regression, with weights in buffers.

    Parameters
    ----------
    n_input
        Number of input columns.
    n_output
        Number of output columns.

    Examples
    --------
    >>> from indiseek_sc.nn import RidgeMap
    >>> x = torch.arange(10.0)[:, None]
    >>> ridge = RidgeMap(n_input=1, n_output=1)
    >>> ridge.fit(x, 2 * x + 1, ridge=1e-6)
    >>> ridge.weight.round().item(), ridge.bias.round().item()
    (2.0, 1.0)
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_input: int, n_output: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_input, n_output))
        self.register_buffer("bias", torch.zeros(n_output))

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, *, ridge: float = 1.0, rows: Tensor | None = None) -> None:
        """Fit the regression of ``y`` on ``x``.

        Parameters
        ----------
        x
            Predictors, shape ``(n_cells, n_input)``.
        y
            Responses, shape ``(n_cells, n_output)``.
        ridge
            Penalty, in units of cells.
        rows
            Row numbers of the cells to fit on, shape ``(n_rows,)``; all if not given.
        """
        x_mean, y_mean = means(x, y, rows=rows)

        def products(x_part: Tensor, y_part: Tensor) -> tuple[Tensor, Tensor]:
            centered = x_part - x_mean
            return centered.T @ centered, centered.T @ (y_part - y_mean)

        gram, covariance = sum_parts(products, x, y, rows=rows)
        gram.diagonal().add_(ridge)
        weight = torch.linalg.solve(gram, covariance)
        self.weight.copy_(weight)
        self.bias.copy_(y_mean - x_mean @ weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction, shape ``(n_cells, n_output)``."""
        return x @ self.weight + self.bias


class PrincipalMap(nn.Module):
    """Projection on principal components, with loadings in buffers.

    Components without variance are columns of 0.

    Parameters
    ----------
    n_input
        Number of input columns.
    n_components
        Number of components, at most ``n_input``.

    Examples
    --------
    >>> from indiseek_sc.nn import PrincipalMap
    >>> x = torch.randn(20, 1) @ torch.tensor([[3.0, 4.0]])
    >>> principal = PrincipalMap(n_input=2, n_components=1)
    >>> principal.fit(x)
    >>> [round(x, 2) for x in principal.components.flatten().tolist()]
    [0.6, 0.8]
    """

    center: Tensor
    components: Tensor

    def __init__(self, n_input: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_input))
        self.register_buffer("components", torch.zeros(n_input, n_components))

    @torch.no_grad()
    def fit(
        self,
        *x: Tensor,
        columns: Callable[..., Tensor] = lambda x: x,
        n_largest: int | None = None,
        smallest_variance: float | Tensor = 0.0,
    ) -> None:
        """Fit the components, with fixed signs.

        Parameters
        ----------
        x
            Values, shape ``(n_cells, n_input)``, or the arguments of ``columns`` for the same
            cells.
        columns
            Function that computes the values from its arguments for a part of the cells, so that
            they are never held in memory for all cells at once.
        n_largest
            Largest number of components.
        smallest_variance
            Components whose variance does not exceed this value, in squared units of the values,
            are left out.
        """
        n_cells = len(x[0])
        center = reduce(torch.add, (part.double().sum(dim=0) for part in iterate_parts(columns, *x))) / n_cells
        centered = (part.double() - center for part in iterate_parts(columns, *x))
        values, vectors = torch.linalg.eigh(reduce(torch.add, (part.T @ part for part in centered)) / n_cells)
        values, vectors = values.flip(0), vectors.flip(1)
        # The sign of an eigenvector is arbitrary and may differ between platforms, so the largest
        # loading of each component is made positive.
        largest = vectors.abs().argmax(dim=0)
        vectors = vectors * vectors.gather(0, largest[None]).sign()
        n = self.components.shape[1]
        real = (values[:n] > 1e-8 * values[0].clamp(min=1e-300)) & (values[:n] > smallest_variance)
        if n_largest is not None:
            real[n_largest:] = False
        self.center.copy_(center)
        self.components.copy_(torch.where(real, vectors[:, :n], 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of values, shape ``(n_cells, n_components)``."""
        return (x - self.center) @ self.components

    def inverse(self, scores: Tensor) -> Tensor:
        """Return the values of scores, shape ``(n_cells, n_input)``."""
        return scores @ self.components.T + self.center


N_FOURIER_FEATURES = 512
"""Number of Fourier features of a regression."""

PENALTIES = tuple(10 ** (k / 2) for k in range(-6, 3))
"""Candidate ridge penalties, in units of the mean variance of a feature."""


class FourierFeatures(nn.Module):
    r"""Standardised columns and their random Fourier features, with parameters in buffers.

    Random Fourier features were proposed in [1]_.

    The columns are standardised to :math:`x \in R^d` and concatenated with
    :math:`\cos(w^\top x + b)`, where :math:`w \sim N(0, f^2 I / d)`. These features approximate a
    Gaussian kernel, whose width for :math:`f = 1` is the typical distance between two cells.

    Parameters
    ----------
    n_input
        Number of input columns; constant columns are ignored.
    n_fourier
        Number of Fourier features.
    frequency
        Frequency :math:`f`.
    seed
        Random seed of the features; regressions that are compared should have the same.
    n_linear
        Number of last columns, such as batch indicators, that are not included in the Fourier
        features. Many indicators would make all pairs of cells from different batches equally
        distant.

    References
    ----------
    .. [1] Rahimi and Recht. Random features for large-scale kernel machines. NIPS 20, 1177 (2007).
    """

    center: Tensor
    scale: Tensor
    frequencies: Tensor
    phases: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(
        self, n_input: int, n_fourier: int, *, frequency: float = 1.0, seed: int = 0, n_linear: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.n_output = n_input + n_fourier
        self.register_buffer("center", torch.zeros(n_input))
        self.register_buffer("scale", torch.zeros(n_input))
        frequencies = frequency * torch.randn(n_input, n_fourier, generator=generator)
        frequencies[n_input - n_linear :] = 0.0
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", 2 * torch.pi * torch.rand(n_fourier, generator=generator))
        self.register_buffer("mean", torch.zeros(self.n_output))
        self.register_buffer("factor", torch.zeros(self.n_output))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set means and standard deviations from cells, shape ``(n_cells, n_input)``."""
        std = x.std(dim=0, correction=0)
        self.center.copy_(x.mean(dim=0))
        self.scale.copy_(torch.where(std > 1e-6, 1 / std, 0.0))
        features = self._expand(x)
        spread = features.std(dim=0, correction=0)
        self.mean.copy_(features.mean(dim=0))
        self.factor.copy_(torch.where(spread > 1e-6, 1 / spread, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, shape ``(n_cells, n_input + n_fourier)``; 0 before the fit."""
        return (self._expand(x) - self.mean) * self.factor

    def _expand(self, x: Tensor) -> Tensor:
        """Return the standardised columns and their Fourier features before standardisation."""
        x = (x - self.center) * self.scale
        n_varying = ((self.scale > 0) & self.frequencies.ne(0).any(dim=1)).sum().clamp(min=1)
        return torch.cat([x, torch.cos(x @ self.frequencies / n_varying.to(x.dtype).sqrt() + self.phases)], dim=1)


class FourierRegression(nn.Module):
    """Ridge regression on columns and their random Fourier features, with weights in buffers.

    It predicts 0 before it is fitted.

    Parameters
    ----------
    n_input
        Number of input columns; constant columns are ignored.
    n_output
        Number of output columns.
    seed
        Random seed of the features; regressions that are compared should have the same.

    Examples
    --------
    >>> from indiseek_sc.nn import FourierRegression
    >>> x = torch.linspace(-3, 3, 400)[torch.randperm(400), None]
    >>> regression = FourierRegression(n_input=1, n_output=1)
    >>> regression.fit(x, x.sin(), n_fit=300)
    >>> bool((regression(x) - x.sin()).abs().max() < 0.1)
    True
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_input: int, n_output: int, *, seed: int = 0) -> None:
        super().__init__()
        self.features = FourierFeatures(n_input, N_FOURIER_FEATURES, seed=seed)
        self.register_buffer("weight", torch.zeros(self.features.n_output, n_output))
        self.register_buffer("bias", torch.zeros(n_output))

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, n_fit: int, *, each: bool = False) -> None:
        """Fit the regression on the first cells, and choose the penalty on the others.

        Parameters
        ----------
        x
            Predictors, shape ``(n_cells, n_input)``.
        y
            Responses, shape ``(n_cells, n_output)``. In the choice of a common penalty, columns are
            weighted by their variance.
        n_fit
            Number of first cells to fit on.
        each
            Whether to choose the penalty of each output column separately. Then the mean of a
            column is predicted unless the chosen penalty is better on the other cells by more than
            two standard errors, since the best of several candidates is slightly better by chance.
        """
        dtype = self.weight.dtype
        self.double()  # for the eigendecomposition
        x, y = x.double(), y.double()
        self.features.fit(x[:n_fit])
        features, mean = self.features(x), y[:n_fit].mean(dim=0)
        y = y - mean
        variances, directions = torch.linalg.eigh(features[:n_fit].T @ features[:n_fit] / n_fit)
        covariance = directions.T @ (features[:n_fit].T @ y[:n_fit] / n_fit)
        penalties = torch.tensor(PENALTIES, dtype=x.dtype, device=x.device)
        shrunk = covariance / (variances.clamp(min=0) + penalties[:, None])[:, :, None]
        errors = (y[n_fit:] - features[n_fit:] @ directions @ shrunk).square()
        totals = errors.sum(dim=1)
        best = totals.argmin(dim=0) if each else totals.sum(dim=1).argmin().expand(y.shape[1])
        columns = torch.arange(y.shape[1], device=x.device)
        weight = directions @ shrunk[best, :, columns].T
        if each:
            gain = y[n_fit:].square() - errors[best, :, columns].T
            weight = weight * (gain.mean(dim=0) > 2 * gain.std(dim=0) / len(gain) ** 0.5)
        self.weight.copy_(weight)
        self.bias.copy_(mean)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction, shape ``(n_cells, n_output)``."""
        return self.features(x) @ self.weight + self.bias
