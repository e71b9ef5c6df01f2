"""The normalised Hilbert-Schmidt independence criterion."""

from __future__ import annotations

import torch
from torch import Tensor

from indiseek_sc.losses._independence import IndependenceCritic
from indiseek_sc.losses._matrix_correlation import matrix_correlation, pair_distances


class HSICCritic(IndependenceCritic):
    r"""HSIC (Gretton et al. 2005) with Gaussian kernels, unbiased (Song et al. 2012, JMLR 13, 1393), as a correlation.

    .. math::

        \frac{\mathrm{HSIC}(Z, C)}{\sqrt{\mathrm{HSIC}(Z, Z)\, \mathrm{HSIC}(C, C)}},
        \qquad k(x, x') = e^{-\lVert x - x' \rVert^2 / 2 h^2}.

    It has no parameters, so it cannot lag. A value of 1 is full dependence and not a number of nats, so lambda means another
    thing than with critics. One batch costs the square of its cells.

    The kernels are characteristic, so with cells enough it sees any dependence; but what it sees at a width :math:`h` that suits
    all dimensions at once is mostly broad and of few dimensions. Dependence of shape or of correlations alone it reads as small
    values, and the less the wider the code. With the median for a width it does not depend on the scales of code and condition;
    with a fixed width it does.

    Parameters
    ----------
    n_specific
        Columns of the specific code; not used, as the next.
    n_condition
        Columns of the condition.
    bandwidth
        Width :math:`h` for code and condition; if not given, the median distance in the batch of each (the root
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
