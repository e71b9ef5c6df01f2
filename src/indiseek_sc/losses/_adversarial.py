"""Adversarial regression of the condition."""

from __future__ import annotations

import torch
from torch import Tensor

from indiseek_sc.losses._pair_critic import PairCritic
from indiseek_sc.nn import make_mlp

SMALLEST_VARIANCE = 1e-12
"""Columns of the condition with less are constant, and take no part."""

SMALLEST_SHARE = 1e-6
"""Share of a column's variance that counts as an exact prediction, so that the bound stays finite."""


class AdversarialCritic(PairCritic):
    r"""A network predicts the condition from the code, and the encoder makes its error large.

    With :math:`R^2_k = 1 - E (c_k - \hat c_k(z))^2 / \operatorname{var} c_k` over the batch,

    .. math::

        I_{\mathrm{adv}} = -\frac12 \sum_k \log (1 - R^2_k),

    which for correlated Gaussians and the best network is the mutual information of :math:`Z` and each column of :math:`C`,
    summed. It is Barber and Agakov's bound (2003) with a Gaussian for each column; adversarial regression is from Edwards and
    Storkey (arXiv 1511.05897) and Xie et al. (arXiv 1705.11122), the form above is ours. It is 0 where nothing is predicted and
    does not depend on the scale of the condition.

    It sees whatever moves the mean of the condition given the code, and is blind to a code that tells only its variance,
    correlations or shape. It approaches the information from below: a network that is too small, or lags, flatters the code,
    and an encoder can earn a negative bound by misleading it.

    Parameters
    ----------
    n_specific
        Columns of the specific code.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the network's two hidden layers.
    """

    name = "adversarial"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__()
        self.network = make_mlp(n_specific, n_condition, n_hidden, n_layers=2)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return minus half the squared errors in units of variance, shape ``(n_cells, n_cells)``."""
        weight = _inverse_variance(condition).sqrt()
        return -torch.cdist(self.network(specific) * weight, condition * weight).square() / 2

    def _unexplained(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return 1 - R2 of each column of the condition; 0 where it is constant."""
        return (condition - self.network(specific)).square().mean(dim=0) * _inverse_variance(condition)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Half the sum over columns of the errors, in units of variance."""
        return self._unexplained(specific, condition).sum() / 2

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Information by the errors of the batch, summed over columns that vary."""
        unexplained = self._unexplained(specific, condition)
        information = -((unexplained + SMALLEST_SHARE) / (1 + SMALLEST_SHARE)).log() / 2
        return (information * (_inverse_variance(condition) > 0)).sum()


def _inverse_variance(condition: Tensor) -> Tensor:
    variance = condition.var(dim=0, correction=0)
    return torch.where(variance > SMALLEST_VARIANCE, 1 / variance.clamp(min=SMALLEST_VARIANCE), 0.0)
