"""The independence term of DisentangledSSL."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from indiseek_sc.losses._independence import IndependenceCritic


class OrthogonalityCritic(IndependenceCritic):
    r"""Products of normalised codes, as in DisentangledSSL (Wang et al. 2024, arXiv 2410.23996).

    .. math::

        \Big\| \sum_n \frac{z_n}{\|z_n\|} \frac{c_n^\top}{\|c_n\|} \Big\|_F

    over the cells of a batch. Nothing is centred and nothing learns. It sees linear dependence alone, takes a mean that is
    not 0 for dependence, and grows with the batch: :math:`\sqrt n` where all is independent, :math:`n` at most.

    Parameters
    ----------
    n_specific
        Columns of the specific code; not needed.
    n_condition
        Columns of the condition; not needed.
    """

    name = "orthogonality"

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Frobenius norm of the products, summed over the cells; not in nats."""
        # A matrix that is exactly 0, as that of constant codes, has a gradient of 0 only with a floor under the root.
        products = F.normalize(specific, dim=1).T @ F.normalize(condition, dim=1)
        return products.square().sum().clamp(min=1e-12).sqrt()
