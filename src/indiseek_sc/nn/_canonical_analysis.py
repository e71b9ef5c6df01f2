"""Canonical correlation analysis in closed form: where stage 1 starts from, and the axes that it ends in."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from indiseek_sc.nn._parts import double_parts, means, sum_parts

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates for the regularisation, as multiples of the mean variance of a feature."""


class LinearMap(NamedTuple):
    """The affine map ``(x - center) @ weight``."""

    center: Tensor
    weight: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Map rows of ``x``."""
        return (x - self.center) @ self.weight


def correlate(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of each column with its partner, shape ``(n_columns,)``; 0 where a column is constant."""
    first, second = first - first.mean(dim=0), second - second.mean(dim=0)
    norm = first.norm(dim=0) * second.norm(dim=0)
    return torch.where(norm > 0, (first * second).sum(dim=0) / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)


def _inverse_root(covariance: Tensor, ridge: float) -> Tensor:
    """Inverse square root, regularised; directions in which nothing varies are left out."""
    n = covariance.shape[0]
    eye = torch.eye(n, dtype=covariance.dtype, device=covariance.device)
    values, vectors = torch.linalg.eigh(covariance + ridge * covariance.trace() / n * eye)
    keep = values > 1e-10 * values.max()
    return vectors @ torch.diag(torch.where(keep, values.clamp(min=1e-300).rsqrt(), 0.0)) @ vectors.T


class _Moments(NamedTuple):
    """Means and covariances of two sets of columns over the same cells."""

    centers: tuple[Tensor, Tensor]
    within: tuple[Tensor, Tensor]
    between: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor, rows: Tensor) -> _Moments:
        centers = means(first, second, rows=rows)

        def products(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            a, b = a - centers[0], b - centers[1]
            return a.T @ a, b.T @ b, a.T @ b

        of_first, of_second, between = (x / len(rows) for x in sum_parts(products, first, second, rows=rows))
        return cls((centers[0], centers[1]), (of_first, of_second), between)

    def find_maps(self, roots: tuple[Tensor, Tensor], n_directions: int) -> tuple[LinearMap, LinearMap]:
        """Return the canonical directions, given the inverse roots of the regularised covariances."""
        left, _, right = torch.linalg.svd(roots[0] @ self.between @ roots[1], full_matrices=False)
        weights = roots[0] @ left[:, :n_directions], roots[1] @ right[:n_directions].T
        return LinearMap(self.centers[0], weights[0]), LinearMap(self.centers[1], weights[1])


def _standardized(linear: LinearMap, x: Tensor, rows: Tensor, scale: Tensor) -> LinearMap:
    """Give each output column the standard deviation ``scale`` over some cells; constant ones become 0."""
    std = torch.cat([linear(part) for (part,) in double_parts(x, rows=rows)]).std(dim=0, correction=0)
    factor = torch.where(std > 1e-9, scale / std.clamp(min=1e-9), 0.0)
    return LinearMap(linear.center, linear.weight * factor)


def chance_correlation(n_cells: int) -> float:
    """Correlation that independent values of ``n_cells`` exceed by chance once in twenty times, about."""
    return 2 / math.sqrt(n_cells)


def shared_strength(correlation: Tensor, n_cells: int) -> float:
    """Sum of squared correlations that were read on ``n_cells``, without those that chance could give.

    Those would otherwise decide on small validation sets.
    """
    return float(correlation.square().where(correlation > chance_correlation(n_cells), 0.0).sum())


def regularized_cca(
    first: Tensor,
    second: Tensor,
    train: Tensor,
    validation: Tensor,
    n_directions: int,
    ridges: tuple[float, ...] = RIDGES,
    *,
    refit: bool = False,
) -> tuple[LinearMap, LinearMap, Tensor]:
    r"""Ridge-regularised CCA (Vinod 1976), with the two ridges chosen on validation cells.

    Directions are the singular vectors of :math:`(\Sigma_{aa} + r_a I)^{-1/2} \Sigma_{ab} (\Sigma_{bb} + r_b I)^{-1/2}`; the pair
    of ridges with the largest sum of squared validation correlations, chance levels left out, wins. Each direction is scaled to a standard deviation
    equal to its validation correlation, so that directions which do not hold up count for little in a distance.

    Parameters
    ----------
    first
        Features of one modality, shape ``(n_cells, n_first)``.
    second
        Features of the same cells in the other, shape ``(n_cells, n_second)``.
    train
        Row numbers to fit on.
    validation
        Row numbers to choose on.
    n_directions
        Number of directions, at most ``min(n_first, n_second)``.
    ridges
        Candidates for each ridge, as multiples of the mean variance of a feature.
    refit
        Whether to fit the directions again on both sets of cells once the ridges are chosen, which helps small data.

    Returns
    -------
    Both maps, float64, and the validation correlations, shape ``(n_directions,)``, none below 0.
    """
    moments = _Moments.of(first, second, train)
    roots = [{ridge: _inverse_root(covariance, ridge) for ridge in ridges} for covariance in moments.within]
    seen = first[validation].double(), second[validation].double()
    best: tuple[float, tuple[float, float], Tensor] | None = None
    for pair in product(ridges, ridges):
        maps = moments.find_maps((roots[0][pair[0]], roots[1][pair[1]]), n_directions)
        correlation = correlate(maps[0](seen[0]), maps[1](seen[1])).clamp(min=0.0)
        score = shared_strength(correlation, validation.shape[0])
        if best is None or score > best[0]:
            best = score, pair, correlation
    assert best is not None  # there is at least one pair of ridges
    _, pair, correlation = best
    rows = torch.cat([train, validation]) if refit else train
    if refit:
        moments = _Moments.of(first, second, rows)
    chosen = _inverse_root(moments.within[0], pair[0]), _inverse_root(moments.within[1], pair[1])
    maps = moments.find_maps(chosen, n_directions)
    return (
        _standardized(maps[0], first, rows, correlation),
        _standardized(maps[1], second, rows, correlation),
        correlation,
    )


class CanonicalRotation(nn.Module):
    """Turns a raw shared representation into canonical directions, the most shared ones first, and drops those that are not shared.

    Dropped directions are columns of 0 at the end, so that the width of all networks behind is known before training.

    Parameters
    ----------
    n_shared
        Width of the raw representation.
    """

    center: Tensor
    weight: Tensor
    correlation: Tensor

    def __init__(self, n_shared: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_shared))
        self.register_buffer("weight", torch.eye(n_shared))
        self.register_buffer("correlation", torch.ones(n_shared))

    @property
    def n_kept(self) -> int:
        """Number of directions that were kept."""
        return int((self.correlation > 0).sum())

    def set(self, linear: LinearMap, correlation: Tensor) -> None:
        """Take over directions from :func:`regularized_cca`; a correlation of 0 drops one."""
        kept = (correlation > 0).to(linear.weight.dtype)
        self.center.copy_(linear.center)
        self.weight.copy_(linear.weight * kept)
        self.correlation.copy_(correlation)

    def forward(self, raw: Tensor) -> Tensor:
        """Rotate: shape ``(n_cells, n_shared)`` kept; each direction has its correlation for a standard deviation."""
        return (raw - self.center) @ self.weight

    def standardize(self, shared: Tensor) -> Tensor:
        """Scale the kept directions of a rotated representation to unit variance, as networks read it."""
        return torch.where(self.correlation > 0, shared / self.correlation.clamp(min=1e-6), 0.0)
