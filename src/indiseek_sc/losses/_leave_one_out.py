"""The leave-one-out upper bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from indiseek_sc.losses._gaussian_club import GaussianCritic


class LeaveOneOutCritic(GaussianCritic):
    r"""L1Out (Poole et al. 2019, arXiv 1905.06922, eq. 13) with the Gaussian :math:`q` of :class:`GaussianCritic`.

    .. math::

        I_{\mathrm{L1Out}} = \frac1n \sum_i \Big[ \log q(z_i|c_i) - \log \frac{1}{n-1} \sum_{j \ne i} q(z_i|c_j) \Big].

    The other cells' conditions make up the marginal density of a code. For the true :math:`q` it is an upper bound of the
    mutual information, tighter than CLUB where dependence is strong; it falls towards the information as batches grow.

    It sees dependence of mean and variance of each dimension, and is blind to that of correlations and of shape. With many
    informative dimensions the few densities of a batch miss a code altogether, and the bound is far too high.

    Parameters
    ----------
    n_specific
        Columns of the specific code.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the critic's two hidden layers.
    """

    name = "leave_one_out"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__(n_specific, n_condition, n_hidden)

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """L1Out over the batch; 0 for a single cell, which leaves no other."""
        n_cells = specific.shape[0]
        if n_cells == 1:
            return specific.new_zeros(())
        scores = self.scores(specific, condition)
        itself = torch.eye(n_cells, dtype=torch.bool, device=scores.device)
        others = scores.masked_fill(itself, -torch.inf).logsumexp(dim=1) - math.log(n_cells - 1)
        return (scores.diagonal() - others).mean()
