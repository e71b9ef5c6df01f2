"""Regression on random Fourier features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_FOURIER_FEATURES = 512

PENALTIES = tuple(10 ** (k / 2) for k in range(-6, 3))
"""To choose from, in units of the mean variance of a feature."""


class FourierRegression(nn.Module):
    r"""Ridge regression on columns and on random Fourier features of them, kept as buffers.

    Columns are standardised to :math:`x \in R^d`, and beside them stand :math:`\cos(w^\top x + b)` with :math:`w \sim N(0, I / d)`, for a Gaussian
    kernel as wide as the typical distance between two cells is long (Rahimi and Recht 2007, NIPS 20, 1177). Before it is fitted it predicts 0.

    Parameters
    ----------
    n_input
        Input columns; constant ones tell nothing and do not count.
    n_output
        Output columns.
    seed
        Decides the features: the same for regressions that are compared.
    """

    center: Tensor
    scale: Tensor
    frequencies: Tensor
    phases: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, n_input: int, n_output: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        n_features = n_input + N_FOURIER_FEATURES
        self.register_buffer("center", torch.zeros(n_input))
        self.register_buffer("scale", torch.zeros(n_input))
        self.register_buffer("frequencies", torch.randn(n_input, N_FOURIER_FEATURES, generator=generator))
        self.register_buffer("phases", 2 * torch.pi * torch.rand(N_FOURIER_FEATURES, generator=generator))
        self.register_buffer("weight", torch.zeros(n_features, n_output))
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
        deviation = x[:n_fit].std(dim=0, correction=0)
        self.center.copy_(x[:n_fit].mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation, 0.0))
        features = self._features(x)
        means = features[:n_fit].mean(dim=0), y[:n_fit].mean(dim=0)
        spread = features[:n_fit].std(dim=0, correction=0)
        factor = torch.where(spread > 1e-6, 1 / spread, 0.0)
        features, y = (features - means[0]) * factor, y - means[1]
        width, directions = torch.linalg.eigh(features[:n_fit].T @ features[:n_fit] / n_fit)
        told = directions.T @ (features[:n_fit].T @ y[:n_fit] / n_fit)
        penalties = torch.tensor(PENALTIES, dtype=x.dtype, device=x.device)
        shrunk = told / (width.clamp(min=0) + penalties[:, None])[:, :, None]
        errors = (y[n_fit:] - features[n_fit:] @ directions @ shrunk).square()
        totals = errors.sum(dim=1)
        best = totals.argmin(dim=0) if each else totals.sum(dim=1).argmin().expand(y.shape[1])
        columns = torch.arange(y.shape[1], device=x.device)
        weight = directions @ shrunk[best, :, columns].T
        if each:
            gain = y[n_fit:].square() - errors[best, :, columns].T
            weight = weight * (gain.mean(dim=0) > 2 * gain.std(dim=0) / len(gain) ** 0.5)
        self.weight.copy_(factor[:, None] * weight)
        self.bias.copy_(means[1] - means[0] @ self.weight)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Predict, shape ``(n_cells, n_output)``."""
        return self._features(x) @ self.weight + self.bias

    def _features(self, x: Tensor) -> Tensor:
        x = (x - self.center) * self.scale
        n_varying = (self.scale > 0).sum().clamp(min=1)
        return torch.cat([x, torch.cos(x @ self.frequencies / n_varying.to(x.dtype).sqrt() + self.phases)], dim=1)
