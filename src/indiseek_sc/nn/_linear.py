"""Linear maps with a closed-form fit, kept as buffers."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn._parts import iterate_parts, means, sum_parts

if TYPE_CHECKING:
    from collections.abc import Callable


class RidgeMap(nn.Module):
    """Affine map fitted by ridge regression, kept as buffers.

    Parameters
    ----------
    n_input
        Input columns.
    n_output
        Output columns.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_input: int, n_output: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_input, n_output))
        self.register_buffer("bias", torch.zeros(n_output))

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, *, ridge: float = 1.0, rows: Tensor | None = None) -> None:
        """Fit ``y`` of shape ``(n_cells, n_output)`` from ``x`` of shape ``(n_cells, n_input)``, by all cells or some rows.

        ``ridge`` is in units of cells: what that many cells without any signal would weigh.
        """
        x_mean, y_mean = means(x, y, rows=rows)

        def products(some: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
            centered = some - x_mean
            return centered.T @ centered, centered.T @ (wanted - y_mean)

        gram, covariance = sum_parts(products, x, y, rows=rows)
        gram.diagonal().add_(ridge)
        weight = torch.linalg.solve(gram, covariance)
        self.weight.copy_(weight)
        self.bias.copy_(y_mean - x_mean @ weight)

    def forward(self, x: Tensor) -> Tensor:
        """Predict, shape ``(n_cells, n_output)``."""
        return x @ self.weight + self.bias


class PrincipalMap(nn.Module):
    """Projection on principal components, kept as buffers; components that the data do not have are columns of 0.

    Parameters
    ----------
    n_input
        Input columns.
    n_components
        Number of components, at most ``n_input``.
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
        """Find the components, with fixed signs.

        Parameters
        ----------
        x
            One tensor of shape ``(n_cells, n_input)``, or what ``columns`` reads of the same cells.
        columns
            Makes the columns of some cells; they are never there for all cells at once.
        n_largest
            Largest number of components.
        smallest_variance
            Only components with more variance than this are found, in squared units of the columns.
        """
        n_cells = len(x[0])
        center = reduce(torch.add, (part.double().sum(dim=0) for part in iterate_parts(columns, *x))) / n_cells
        centered = (part.double() - center for part in iterate_parts(columns, *x))
        values, vectors = torch.linalg.eigh(reduce(torch.add, (part.T @ part for part in centered)) / n_cells)
        values, vectors = values.flip(0), vectors.flip(1)
        # The largest loading of each component is positive, so that fits on other machines point the same way.
        largest = vectors.abs().argmax(dim=0)
        vectors = vectors * vectors.gather(0, largest[None]).sign()
        n = self.components.shape[1]
        real = (values[:n] > 1e-8 * values[0].clamp(min=1e-300)) & (values[:n] > smallest_variance)
        if n_largest is not None:
            real[n_largest:] = False
        self.center.copy_(center)
        self.components.copy_(torch.where(real, vectors[:, :n], 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Project: ``(n_cells, n_input)`` to ``(n_cells, n_components)``."""
        return (x - self.center) @ self.components

    def inverse(self, scores: Tensor) -> Tensor:
        """Back-project: ``(n_cells, n_components)`` to ``(n_cells, n_input)``."""
        return scores @ self.components.T + self.center


N_FOURIER_FEATURES = 512

PENALTIES = tuple(10 ** (k / 2) for k in range(-6, 3))
"""To choose from, in units of the mean variance of a feature."""


class FourierFeatures(nn.Module):
    r"""Columns and random Fourier features of them, all standardised, kept as buffers.

    Columns are standardised to :math:`x \in R^d`, and beside them stand :math:`\cos(w^\top x + b)` with :math:`w \sim N(0, f^2 I / d)`: a Gaussian
    kernel, of :math:`f = 1` as wide as the typical distance between two cells is long (Rahimi and Recht 2007, NIPS 20, 1177).

    Parameters
    ----------
    n_input
        Input columns; constant ones tell nothing and do not count.
    n_fourier
        Number of Fourier features.
    frequency
        :math:`f`.
    seed
        Decides the features: the same for regressions that are compared.
    n_linear
        So many of the last columns, such as indicators of batches, stand beside the Fourier features and are no part of them: many of them
        would make all cells of other batches equally distant.
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
        """Return the features, shape ``(n_cells, n_input + n_fourier)``; before the fit all are 0."""
        return (self._expand(x) - self.mean) * self.factor

    def _expand(self, x: Tensor) -> Tensor:
        x = (x - self.center) * self.scale
        n_varying = ((self.scale > 0) & self.frequencies.ne(0).any(dim=1)).sum().clamp(min=1)
        return torch.cat([x, torch.cos(x @ self.frequencies / n_varying.to(x.dtype).sqrt() + self.phases)], dim=1)


class FourierRegression(nn.Module):
    """Ridge regression on columns and on random Fourier features of them, kept as buffers; before it is fitted it predicts 0.

    Parameters
    ----------
    n_input, seed
        As in :class:`FourierFeatures`.
    n_output
        Output columns.
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
        """Fit the first cells, and choose the penalty by the others.

        Parameters
        ----------
        x
            Shape ``(n_cells, n_input)``.
        y
            Shape ``(n_cells, n_output)``; columns weigh by their variance in the choice.
        n_fit
            The first so many cells are fitted on.
        each
            Choose for each output column by itself, and predict its mean where the chosen penalty does not do better than that by more than two
            standard errors: the best of several is a little better by chance.
        """
        dtype = self.weight.dtype
        self.double()  # for the solution
        x, y = x.double(), y.double()
        self.features.fit(x[:n_fit])
        features, mean = self.features(x), y[:n_fit].mean(dim=0)
        y = y - mean
        width, directions = torch.linalg.eigh(features[:n_fit].T @ features[:n_fit] / n_fit)
        covariance = directions.T @ (features[:n_fit].T @ y[:n_fit] / n_fit)
        penalties = torch.tensor(PENALTIES, dtype=x.dtype, device=x.device)
        shrunk = covariance / (width.clamp(min=0) + penalties[:, None])[:, :, None]
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
        """Predict, shape ``(n_cells, n_output)``."""
        return self.features(x) @ self.weight + self.bias
