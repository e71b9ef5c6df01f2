"""Critics that score pairs with a network: NCE-CLUB, separable or concatenated, and adversarial regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from indiseek_sc.losses._critics import PairCritic, contrastive_loss
from indiseek_sc.nn import make_mlp


class NCECritic(PairCritic):
    r"""NCE-CLUB (Liang et al. 2023, FactorCL, arXiv 2306.05268) with a separable critic :math:`f(z,c) = u(z)^\top v(c)`.

    The critic learns by symmetric InfoNCE; its bound is

    .. math::

        I_{\mathrm{NCE\text{-}CLUB}} = E_{p(z,c)} f(z,c) - E_{p(z)p(c)} f(z,c),

    which for the best :math:`f` is the Jeffreys divergence between :math:`p(z,c)` and :math:`p(z)p(c)`. All pairs of the batch
    come from one matrix product. It sees any dependence that :math:`f` can represent, shape and correlation included; very strong
    dependence it understates, as InfoNCE cannot tell more than :math:`\log n` nats from :math:`n` cells.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the two hidden layers of :math:`u` and of :math:`v`.
    n_embedding
        Columns of :math:`u` and :math:`v`.
    """

    name = "nce"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128, n_embedding: int = 32) -> None:
        super().__init__()
        self.embed_specific = make_mlp(n_specific, n_embedding, n_hidden, n_layers=2)
        self.embed_condition = make_mlp(n_condition, n_embedding, n_hidden, n_layers=2)
        self.scale = 1 / math.sqrt(n_embedding)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return f of all pairs, shape ``(n_cells, n_cells)``."""
        return self.scale * self.embed_specific(specific) @ self.embed_condition(condition).T

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Symmetric InfoNCE of the scores."""
        return contrastive_loss(self.scores(specific, condition))


LARGEST_BLOCK = 2**18
"""Pairs in one pass of the network: all of a batch of 512."""


class ConcatenatedNCECritic(PairCritic):
    r"""NCE-CLUB as :class:`NCECritic`, with a network :math:`f(z,c)` on the concatenated pair, as in FactorCL (arXiv 2306.05268).

    Such an :math:`f` need not be a product of embeddings, so it can be sharper with fewer units, but it costs a pass through the
    network for every pair of the batch: hundreds of times the separable critic's work. It sees any dependence that :math:`f`
    can represent, shape and correlation included.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the two hidden layers.
    """

    name = "nce_concatenated"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 64) -> None:
        super().__init__()
        # The first layer of a concatenated pair is the sum of a layer of each, taken once a cell instead of once a pair.
        self.read_specific = nn.Linear(n_specific, n_hidden)
        self.read_condition = nn.Linear(n_condition, n_hidden, bias=False)
        self.hidden = nn.Linear(n_hidden, n_hidden)
        self.output = nn.Linear(n_hidden, 1)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return f of all pairs, shape ``(n_cells, n_cells)``."""
        rows, columns = self.read_specific(specific), self.read_condition(condition)
        blocks = rows.split(max(1, LARGEST_BLOCK // len(columns)))
        return torch.cat([self._score(block[:, None] + columns) for block in blocks])

    def _score(self, first_layer: Tensor) -> Tensor:
        return self.output(self.hidden(first_layer.relu()).relu())[..., 0]

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Symmetric InfoNCE of the scores."""
        return contrastive_loss(self.scores(specific, condition))


SMALLEST_VARIANCE = 1e-12
"""Columns of the condition with less are constant, and take no part."""

SMALLEST_SHARE = 1e-6
"""Share of a column's variance that counts as an exact prediction, so that the bound stays finite."""


class AdversarialCritic(PairCritic):
    r"""A network predicts the condition from the representation, and the encoder makes its error large.

    With :math:`R^2_k = 1 - E (c_k - \hat c_k(z))^2 / \operatorname{var} c_k` over the batch,

    .. math::

        I_{\mathrm{adv}} = -\frac12 \sum_k \log (1 - R^2_k),

    which for correlated Gaussians and the best network is the mutual information of :math:`Z` and each column of :math:`C`,
    summed. It is Barber and Agakov's bound (2003) with a Gaussian for each column; adversarial regression is from Edwards and
    Storkey (arXiv 1511.05897) and Xie et al. (arXiv 1705.11122), the form above is ours. It is 0 where nothing is predicted and
    does not depend on the scale of the condition.

    It sees whatever moves the mean of the condition given the representation, and is blind to a representation that tells only its variance,
    correlations or shape. It approaches the information from below: a network that is too small, or lags, flatters the representation,
    and an encoder can earn a negative bound by misleading it.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
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
