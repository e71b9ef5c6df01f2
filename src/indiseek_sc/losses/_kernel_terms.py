"""Independence terms without parameters: HSIC, distance correlation, and orthogonality."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from indiseek_sc.losses._critics import IndependenceCritic

FEWEST_CELLS = 4
"""With fewer, centred matrices have no degrees of freedom left."""

NEGLIGIBLE_VARIANCE = 1e-8
"""Mean square of a centred matrix, with entries around 1, below which a variable is constant."""


def matrix_correlation(first: Tensor, second: Tensor) -> Tensor:
    r"""Correlation of two symmetric matrices over pairs of cells, without the bias of small samples.

    .. math::

        \frac{\langle \tilde A, \tilde B \rangle}{\sqrt{\langle \tilde A, \tilde A \rangle \langle \tilde B, \tilde B \rangle}},
        \qquad \tilde a_{ij} = a_{ij} - \frac{a_{i\cdot} + a_{\cdot j}}{n - 2} + \frac{a_{\cdot\cdot}}{(n - 1)(n - 2)} \quad (i \ne j),

    the U-centring of Szekely and Rizzo (2014, Ann. Statist. 42, 2382; arXiv 1310.2926). Diagonals are left out. The numerator has
    expectation 0 at independence, so the value may be slightly negative; centred by plain means it would be positive there, the
    more so the wider the representation and the smaller the batch, and the encoder would chase that.

    Parameters
    ----------
    first
        Distances or similarities, shape ``(n_cells, n_cells)``, of the order of 1.
    second
        The same of the other variable.

    Returns
    -------
    Scalar of at most 1; 0 where a variable is constant, or there are fewer than 4 cells.
    """
    if first.shape[0] < FEWEST_CELLS:
        return first.new_zeros(())
    first, second = _centre(first), _centre(second)
    scales = [matrix.square().mean().clamp(min=NEGLIGIBLE_VARIANCE) for matrix in (first, second)]
    return (first * second).mean() / (scales[0] * scales[1]).sqrt()


def pair_distances(values: Tensor) -> Tensor:
    """Euclidean distances of all pairs of cells, shape ``(n_cells, n_cells)``.

    Differences are taken first: by products, equal cells would lie a rounding error apart, with slopes of any size.
    """
    return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")


def _centre(matrix: Tensor) -> Tensor:
    n_cells = matrix.shape[0]
    itself = torch.eye(n_cells, dtype=torch.bool, device=matrix.device)
    matrix = matrix.masked_fill(itself, 0.0)
    sums = matrix.sum(dim=0)
    centred = matrix - (sums[:, None] + sums) / (n_cells - 2) + sums.sum() / ((n_cells - 1) * (n_cells - 2))
    return centred.masked_fill(itself, 0.0)


class HSICCritic(IndependenceCritic):
    r"""HSIC (Gretton et al. 2005) with Gaussian kernels, unbiased (Song et al. 2012, JMLR 13, 1393), as a correlation.

    .. math::

        \frac{\mathrm{HSIC}(Z, C)}{\sqrt{\mathrm{HSIC}(Z, Z)\, \mathrm{HSIC}(C, C)}},
        \qquad k(x, x') = e^{-\lVert x - x' \rVert^2 / 2 h^2}.

    It has no parameters, so it cannot lag. A value of 1 is full dependence and not a number of nats, so lambda means another
    thing than with critics. One batch costs the square of its cells.

    The kernels are characteristic, so with cells enough it sees any dependence; but what it sees at a width :math:`h` that suits
    all dimensions at once is mostly broad and of few dimensions. Dependence of shape or of correlations alone it reads as small
    values, and the less the wider the representation. With the median for a width it does not depend on the scales of representation and condition;
    with a fixed width it does.

    Parameters
    ----------
    n_specific
        Columns of the specific representation; not used, as the next.
    n_condition
        Columns of the condition.
    bandwidth
        Width :math:`h` for representation and condition; if not given, the median distance in the batch of each (the root
        mean square, if most are 0). No gradient goes through the median.
    """

    name = "hsic"

    def __init__(self, n_specific: int = 1, n_condition: int = 1, *, bandwidth: float | None = None) -> None:
        super().__init__()
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0, but is {bandwidth}.")
        self.bandwidth = bandwidth

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Normalised HSIC of the batch, at most 1."""
        return matrix_correlation(self._kernel(specific), self._kernel(condition))

    def _kernel(self, values: Tensor) -> Tensor:
        squares = pair_distances(values).square()
        if self.bandwidth is not None:
            return (-squares / (2 * self.bandwidth**2)).exp()
        with torch.no_grad():
            median, mean = squares.median(), squares.mean()
            # Conditions of few levels can have more than half of their distances at 0.
            width = torch.where(median > 0, median, mean).clamp(min=1e-12)
        return (-squares / (2 * width)).exp()


class DistanceCorrelationCritic(IndependenceCritic):
    r"""Squared distance correlation (Szekely, Rizzo and Bakirov 2007), bias-corrected (Szekely and Rizzo 2014, arXiv 1310.2926).

    .. math::

        \mathcal R^2 = \frac{\operatorname{dCov}^2(Z, C)}{\sqrt{\operatorname{dVar}^2(Z)\, \operatorname{dVar}^2(C)}}

    by Euclidean distances within the batch. Squared, since the root has an infinite slope at independence; corrected, since the plain
    estimate is well above 0 there. It has no parameters, so it cannot lag, and no bandwidth. Its unit is not the nat, so lambda
    means another thing than with critics. One batch costs the square of its cells.

    With cells enough it sees any dependence. It is HSIC with distances for a kernel (Sejdinovic et al. 2013, arXiv 1207.6076), which
    weigh far cells most: dependence of means it sees best, and of variances, correlations or shape it reads as small values.
    It does not depend on the common scale of the representation, nor of the condition, but on the scales of columns relative to each other.

    Parameters
    ----------
    n_specific
        Columns of the specific representation; not used, as the next.
    n_condition
        Columns of the condition.
    """

    name = "distance_correlation"

    def __init__(self, n_specific: int = 1, n_condition: int = 1) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Squared distance correlation of the batch, at most 1."""
        return matrix_correlation(_distances(specific), _distances(condition))


def _distances(values: Tensor) -> Tensor:
    """Distances in units of their mean."""
    distances = pair_distances(values)
    return distances / distances.detach().mean().clamp(min=1e-12)


class OrthogonalityCritic(IndependenceCritic):
    r"""Products of normalised representations, as in DisentangledSSL (Wang et al. 2024, arXiv 2410.23996).

    .. math::

        \Big\| \sum_n \frac{z_n}{\|z_n\|} \frac{c_n^\top}{\|c_n\|} \Big\|_F

    over the cells of a batch. Nothing is centred and nothing learns. It sees linear dependence alone, takes a mean that is
    not 0 for dependence, and grows with the batch: :math:`\sqrt n` where all is independent, :math:`n` at most.

    Parameters
    ----------
    n_specific
        Columns of the specific representation; not needed.
    n_condition
        Columns of the condition; not needed.
    """

    name = "orthogonality"

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Frobenius norm of the products, summed over the cells; not in nats."""
        # A matrix that is exactly 0, as that of constant representations, has a gradient of 0 only with a floor under the root.
        products = F.normalize(specific, dim=1).T @ F.normalize(condition, dim=1)
        return products.square().sum().clamp(min=1e-12).sqrt()
