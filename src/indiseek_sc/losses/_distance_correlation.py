"""Distance correlation."""

from __future__ import annotations

from torch import Tensor

from indiseek_sc.losses._independence import IndependenceCritic
from indiseek_sc.losses._matrix_correlation import matrix_correlation, pair_distances


class DistanceCorrelationCritic(IndependenceCritic):
    r"""Squared distance correlation (Szekely, Rizzo and Bakirov 2007), bias-corrected (Szekely and Rizzo 2014, arXiv 1310.2926).

    .. math::

        \mathcal R^2 = \frac{\operatorname{dCov}^2(Z, C)}{\sqrt{\operatorname{dVar}^2(Z)\, \operatorname{dVar}^2(C)}}

    by Euclidean distances within the batch. Squared, since the root has an infinite slope at independence; corrected, since the plain
    estimate is well above 0 there. It has no parameters, so it cannot lag, and no bandwidth. Its unit is not the nat, so lambda
    means another thing than with critics. One batch costs the square of its cells.

    With cells enough it sees any dependence. It is HSIC with distances for a kernel (Sejdinovic et al. 2013, arXiv 1207.6076), which
    weigh far cells most: dependence of means it sees best, and of variances, correlations or shape it reads as small values.
    It does not depend on the common scale of the code, nor of the condition, but on the scales of columns relative to each other.

    Parameters
    ----------
    n_specific
        Columns of the specific code; not used, as the next.
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
