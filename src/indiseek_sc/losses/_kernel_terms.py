"""Independence terms without parameters: HSIC, distance correlation and orthogonality."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from indiseek_sc.losses._critics import IndependenceCritic

FEWEST_CELLS = 4
"""Smallest number of cells for which U-centred matrices have degrees of freedom left."""

NEGLIGIBLE_VARIANCE = 1e-8
"""Mean square of a U-centred matrix, with entries around 1, below which a variable is constant."""


def matrix_correlation(first: Tensor, second: Tensor) -> Tensor:
    r"""Return the bias-corrected correlation of two symmetric matrices over pairs of cells.

    .. math::

        \frac{\langle \tilde A, \tilde B \rangle}
             {\sqrt{\langle \tilde A, \tilde A \rangle \langle \tilde B, \tilde B \rangle}}, \qquad
        \tilde a_{ij} = a_{ij} - \frac{a_{i\cdot} + a_{\cdot j}}{n - 2}
                        + \frac{a_{\cdot\cdot}}{(n - 1)(n - 2)} \quad (i \ne j),

    with the U-centring of [1]_, which leaves out the diagonals. The numerator has expectation 0 at
    independence, so the value may be slightly negative. With ordinary centring it would be positive
    at independence, increasingly so for more dimensions and smaller batches, and the encoder would
    be trained to reduce this bias.

    Parameters
    ----------
    first
        Distances or similarities of one variable, shape ``(n_cells, n_cells)``, of the order of 1.
    second
        Distances or similarities of the other variable, same shape.

    Returns
    -------
    Scalar of at most 1; 0 if a variable is constant or there are fewer than 4 cells.

    References
    ----------
    .. [1] Szekely and Rizzo. Partial distance correlation with methods for dissimilarities.
       Annals of Statistics 42, 2382 (2014). arXiv 1310.2926.
    """
    if first.shape[0] < FEWEST_CELLS:
        return first.new_zeros(())
    first, second = _centre(first), _centre(second)
    scales = [matrix.square().mean().clamp(min=NEGLIGIBLE_VARIANCE) for matrix in (first, second)]
    return (first * second).mean() / (scales[0] * scales[1]).sqrt()


def pair_distances(values: Tensor) -> Tensor:
    """Return the Euclidean distances of all pairs of cells, shape ``(n_cells, n_cells)``.

    Distances are computed from differences rather than from matrix products: rounding errors of the
    latter give equal cells a small nonzero distance, and its gradient can be arbitrarily large.
    """
    return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")


def _centre(matrix: Tensor) -> Tensor:
    """Return the U-centred matrix with a diagonal of 0."""
    n_cells = matrix.shape[0]
    is_diagonal = torch.eye(n_cells, dtype=torch.bool, device=matrix.device)
    matrix = matrix.masked_fill(is_diagonal, 0.0)
    sums = matrix.sum(dim=0)
    centred = matrix - (sums[:, None] + sums) / (n_cells - 2) + sums.sum() / ((n_cells - 1) * (n_cells - 2))
    return centred.masked_fill(is_diagonal, 0.0)


class HSICCritic(IndependenceCritic):
    r"""Measure the dependence by the normalised Hilbert-Schmidt independence criterion (HSIC).

    .. math::

        \frac{\mathrm{HSIC}(Z, C)}{\sqrt{\mathrm{HSIC}(Z, Z)\, \mathrm{HSIC}(C, C)}},
        \qquad k(x, x') = e^{-\lVert x - x' \rVert^2 / 2 h^2},

    with Gaussian kernels [1]_ and the unbiased estimator of [2]_. The term has no parameters, so it
    needs no training. A value of 1 is complete dependence; the value is not in nats, so lambda has
    another scale than with critics in nats. The cost of a batch grows with the square of the number
    of its cells.

    Gaussian kernels are characteristic, so any dependence is detected with enough cells. With one
    bandwidth :math:`h` for all dimensions, however, the value mainly reflects broad dependence of
    few dimensions; dependence of correlations or other properties of the distribution gives small
    values, especially in many dimensions. With the median bandwidth the value does not depend on
    the scales of representation and condition; with a fixed bandwidth it does.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation; ignored.
    n_condition
        Dimensions of the condition; ignored.
    bandwidth
        Bandwidth :math:`h` for both representation and condition. If not given, the median
        distance of each in the batch (or the root mean square distance, if the median is 0),
        through which no gradient is propagated.

    Raises
    ------
    ValueError
        If ``bandwidth`` is not above 0.

    References
    ----------
    .. [1] Gretton et al. Measuring statistical dependence with Hilbert-Schmidt norms. ALT (2005).
    .. [2] Song et al. Feature selection via dependence maximization. JMLR 13, 1393 (2012).

    Examples
    --------
    >>> cells = torch.arange(20.0)[:, None]
    >>> round(isk.losses.HSICCritic().bound(cells, -cells).item(), 3)
    1.0
    """

    name = "hsic"

    def __init__(self, n_specific: int = 1, n_condition: int = 1, *, bandwidth: float | None = None) -> None:
        super().__init__()
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0, but is {bandwidth}.")
        self.bandwidth = bandwidth

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the normalised HSIC of the batch, a scalar of at most 1.

        Examples
        --------
        >>> cells = torch.arange(20.0)[:, None]
        >>> isk.losses.HSICCritic().bound(cells, torch.ones(20, 1)).item()  # a constant condition
        0.0
        """
        return matrix_correlation(self._kernel(specific), self._kernel(condition))

    def _kernel(self, values: Tensor) -> Tensor:
        """Return the kernel values of all pairs of cells, shape ``(n_cells, n_cells)``."""
        squares = pair_distances(values).square()
        if self.bandwidth is not None:
            return (-squares / (2 * self.bandwidth**2)).exp()
        with torch.no_grad():
            median, mean = squares.median(), squares.mean()
            # If a condition has few levels, more than half of its distances can be 0.
            width = torch.where(median > 0, median, mean).clamp(min=1e-12)
        return (-squares / (2 * width)).exp()


class DistanceCorrelationCritic(IndependenceCritic):
    r"""Measure the dependence by the squared distance correlation with bias correction.

    Distance correlation was proposed in [1]_, and its bias correction in [2]_.

    .. math::

        \mathcal R^2 = \frac{\operatorname{dCov}^2(Z, C)}
                            {\sqrt{\operatorname{dVar}^2(Z)\, \operatorname{dVar}^2(C)}}

    with Euclidean distances within the batch. The square is used because the gradient of the root
    is infinite at independence, and the correction because the plain estimate is well above 0
    there. The term has neither parameters nor a bandwidth. The value is not in nats, so lambda has
    another scale than with critics in nats. The cost of a batch grows with the square of the number
    of its cells.

    With enough cells any dependence is detected. Distance correlation is HSIC with a
    distance-induced kernel [3]_, in which distant cells have the largest weight: it is most
    sensitive to dependence of means, and dependence of variances, correlations or other properties
    of the distribution gives small values. The value does not depend on a common scale of all
    dimensions of the representation or of the condition, but does depend on the relative scales of
    the dimensions.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation; ignored.
    n_condition
        Dimensions of the condition; ignored.

    References
    ----------
    .. [1] Szekely, Rizzo and Bakirov. Measuring and testing dependence by correlation of distances.
       Annals of Statistics 35, 2769 (2007).
    .. [2] Szekely and Rizzo. Partial distance correlation with methods for dissimilarities.
       Annals of Statistics 42, 2382 (2014). arXiv 1310.2926.
    .. [3] Sejdinovic et al. Equivalence of distance-based and RKHS-based statistics in hypothesis
       testing. Annals of Statistics 41, 2263 (2013). arXiv 1207.6076.

    Examples
    --------
    >>> cells = torch.arange(20.0)[:, None]
    >>> round(isk.losses.DistanceCorrelationCritic().bound(cells, 2 * cells).item(), 3)
    1.0
    """

    name = "distance_correlation"

    def __init__(self, n_specific: int = 1, n_condition: int = 1) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the squared distance correlation of the batch, a scalar of at most 1.

        Examples
        --------
        >>> cells = torch.arange(20.0)[:, None]
        >>> isk.losses.DistanceCorrelationCritic().bound(cells, torch.ones(20, 1)).item()
        0.0
        """
        return matrix_correlation(_distances(specific), _distances(condition))


def _distances(values: Tensor) -> Tensor:
    """Return the distances of all pairs of cells, divided by their mean."""
    distances = pair_distances(values)
    return distances / distances.detach().mean().clamp(min=1e-12)


class OrthogonalityCritic(IndependenceCritic):
    r"""Measure linear dependence by the orthogonality term of DisentangledSSL.

    The term was proposed in [1]_.

    .. math::

        \Big\| \sum_n \frac{z_n}{\|z_n\|} \frac{c_n^\top}{\|c_n\|} \Big\|_F ,

    summed over the cells :math:`n` of a batch. Representations are not centred, and there are no
    parameters. The term detects linear dependence only, is above 0 if both means differ from 0, and
    grows with the number of cells :math:`N`: its value is of the order of :math:`\sqrt N` at
    independence, and at most :math:`N`.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation; ignored.
    n_condition
        Dimensions of the condition; ignored.

    References
    ----------
    .. [1] Wang et al. An information criterion for controlled disentanglement of multimodal data
       (2024). arXiv 2410.23996.

    Examples
    --------
    >>> critic = isk.losses.OrthogonalityCritic(n_specific=2, n_condition=2)
    >>> cells = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> critic.bound(cells, cells).item()
    2.0
    """

    name = "orthogonality"

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the Frobenius norm of the summed products, a scalar that is not in nats.

        Examples
        --------
        >>> critic = isk.losses.OrthogonalityCritic(n_specific=1, n_condition=1)
        >>> cells = torch.tensor([[1.0], [1.0]])
        >>> round(critic.bound(cells, torch.tensor([[1.0], [-1.0]])).item(), 3)
        0.0
        """
        # The clamp keeps the gradient of the root finite where all products are exactly 0.
        products = F.normalize(specific, dim=1).T @ F.normalize(condition, dim=1)
        return products.square().sum().clamp(min=1e-12).sqrt()
