"""Regularised canonical correlation analysis, with which stage 1 starts and ends."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from indiseek_sc.nn._parts import double_parts, means, sum_parts

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidate ridge penalties, as multiples of the mean variance of the features."""


class LinearMap(NamedTuple):
    """Affine map ``(x - center) @ weight``.

    Parameters
    ----------
    center
        Subtracted from each row, shape ``(n_input,)``.
    weight
        Weights, shape ``(n_input, n_output)``.
    """

    center: Tensor
    weight: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Map the rows of ``x``."""
        return (x - self.center) @ self.weight


def correlate(first: Tensor, second: Tensor) -> Tensor:
    """Return the Pearson correlation of each column with its partner, shape ``(n_columns,)``.

    The correlation of a constant column is 0.
    """
    first, second = first - first.mean(dim=0), second - second.mean(dim=0)
    norm = first.norm(dim=0) * second.norm(dim=0)
    return torch.where(norm > 0, (first * second).sum(dim=0) / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)


def _inverse_root(covariance: Tensor, ridge: float) -> Tensor:
    """Return the inverse root of a regularised covariance; directions without variance become 0."""
    n = covariance.shape[0]
    eye = torch.eye(n, dtype=covariance.dtype, device=covariance.device)
    values, vectors = torch.linalg.eigh(covariance + ridge * covariance.trace() / n * eye)
    keep = values > 1e-10 * values.max()
    return vectors @ torch.diag(torch.where(keep, values.clamp(min=1e-300).rsqrt(), 0.0)) @ vectors.T


class _Moments(NamedTuple):
    """Means and covariances of two matrices over the same cells."""

    centers: tuple[Tensor, Tensor]
    within: tuple[Tensor, Tensor]
    between: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor, rows: Tensor) -> _Moments:
        """Compute the moments over the given rows."""
        centers = means(first, second, rows=rows)

        def products(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            a, b = a - centers[0], b - centers[1]
            return a.T @ a, b.T @ b, a.T @ b

        of_first, of_second, between = (x / len(rows) for x in sum_parts(products, first, second, rows=rows))
        return cls((centers[0], centers[1]), (of_first, of_second), between)

    def find_maps(self, roots: tuple[Tensor, Tensor], n_directions: int) -> tuple[LinearMap, LinearMap]:
        """Return the canonical directions, given the inverse roots of both covariances."""
        left, _, right = torch.linalg.svd(roots[0] @ self.between @ roots[1], full_matrices=False)
        weights = roots[0] @ left[:, :n_directions], roots[1] @ right[:n_directions].T
        return LinearMap(self.centers[0], weights[0]), LinearMap(self.centers[1], weights[1])


def _standardized(linear: LinearMap, x: Tensor, rows: Tensor, scale: Tensor) -> LinearMap:
    """Scale output columns to given standard deviations over the rows; constant ones to 0."""
    std = torch.cat([linear(part) for (part,) in double_parts(x, rows=rows)]).std(dim=0, correction=0)
    factor = torch.where(std > 1e-9, scale / std.clamp(min=1e-9), 0.0)
    return LinearMap(linear.center, linear.weight * factor)


def chance_correlation(n_cells: int) -> float:
    """Return the absolute correlation that independent variables exceed in about 5 % of cases.

    Parameters
    ----------
    n_cells
        Number of cells from which the correlation is estimated.

    Examples
    --------
    >>> from indiseek_sc.nn import chance_correlation
    >>> chance_correlation(100)
    0.2
    """
    return 2 / math.sqrt(n_cells)


def shared_strength(correlation: Tensor, n_cells: int) -> float:
    """Return the sum of the squared correlations that exceed :func:`chance_correlation`.

    Correlations at the level of chance are left out because, on small validation sets, their sum
    would otherwise dominate comparisons between models.

    Parameters
    ----------
    correlation
        Correlations, shape ``(n_directions,)``.
    n_cells
        Number of cells from which they are estimated.

    Examples
    --------
    >>> from indiseek_sc.nn import shared_strength
    >>> round(shared_strength(torch.tensor([0.9, 0.5, 0.1]), 100), 2)
    1.06
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
    r"""Fit canonical correlation analysis with ridge penalties chosen on validation cells.

    The method was proposed in [1]_.

    The directions are the singular vectors of
    :math:`(\Sigma_{aa} + r_a I)^{-1/2} \Sigma_{ab} (\Sigma_{bb} + r_b I)^{-1/2}`. The pair of
    penalties with the largest :func:`shared_strength` on the validation cells is chosen. Each
    direction is scaled to a standard deviation equal to its validation correlation, so that
    directions which do not generalise have little weight in distances between cells.

    Parameters
    ----------
    first
        Features of one modality, shape ``(n_cells, n_first)``.
    second
        Features of the same cells in the other modality, shape ``(n_cells, n_second)``.
    train
        Row numbers of the training cells, shape ``(n_train,)``.
    validation
        Row numbers of the validation cells, shape ``(n_validation,)``.
    n_directions
        Number of directions, at most ``min(n_first, n_second)``.
    ridges
        Candidates for each penalty, as multiples of the mean variance of the features.
    refit
        Whether to fit the directions again on training and validation cells with the chosen
        penalties, which improves the fit on small data.

    Returns
    -------
    The maps of both modalities, float64, and the validation correlations, shape
    ``(n_directions,)``; negative correlations are set to 0.

    References
    ----------
    .. [1] Vinod. Canonical ridge and econometrics of joint production. Journal of Econometrics 4,
       147 (1976).

    Examples
    --------
    >>> from indiseek_sc.nn import regularized_cca
    >>> common = torch.randn(300, 1)
    >>> first, second = common + 0.1 * torch.randn(300, 3), common + 0.1 * torch.randn(300, 2)
    >>> train, validation = torch.arange(200), torch.arange(200, 300)
    >>> *maps, correlation = regularized_cca(first, second, train, validation, 2)
    >>> bool(correlation[0] > 0.9)
    True
    """
    moments = _Moments.of(first, second, train)
    roots = [{ridge: _inverse_root(covariance, ridge) for ridge in ridges} for covariance in moments.within]
    held_out = first[validation].double(), second[validation].double()
    best: tuple[float, tuple[float, float], Tensor] | None = None
    for pair in product(ridges, ridges):
        maps = moments.find_maps((roots[0][pair[0]], roots[1][pair[1]]), n_directions)
        correlation = correlate(maps[0](held_out[0]), maps[1](held_out[1])).clamp(min=0.0)
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
    """Rotate a raw shared representation to canonical directions, sorted by their correlation.

    Directions that are not shared are dropped. Dropped directions become columns of 0 at the end,
    so that the widths of subsequent networks are known before training.

    Parameters
    ----------
    n_shared
        Number of dimensions of the raw representation.

    Examples
    --------
    >>> from indiseek_sc.nn import CanonicalRotation, LinearMap
    >>> rotation = CanonicalRotation(2)
    >>> rotation.set(LinearMap(torch.zeros(2), torch.eye(2)), torch.tensor([0.9, 0.0]))
    >>> rotation(torch.ones(1, 2)).tolist()
    [[1.0, 0.0]]
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
        """Number of directions that are kept."""
        return int((self.correlation > 0).sum())

    def set(self, linear: LinearMap, correlation: Tensor) -> None:
        """Set directions from :func:`regularized_cca`; those without correlation are dropped."""
        kept = (correlation > 0).to(linear.weight.dtype)
        self.center.copy_(linear.center)
        self.weight.copy_(linear.weight * kept)
        self.correlation.copy_(correlation)

    def forward(self, raw: Tensor) -> Tensor:
        """Return the rotated representation, shape ``(n_cells, n_shared)``.

        The standard deviation of each direction is its correlation.
        """
        return (raw - self.center) @ self.weight

    def standardize(self, shared: Tensor) -> Tensor:
        """Scale the kept directions of a rotated representation to unit variance."""
        return torch.where(self.correlation > 0, shared / self.correlation.clamp(min=1e-6), 0.0)
