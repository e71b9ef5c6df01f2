"""Critics that score pairs with a network: NCE-CLUB and adversarial regression."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from indiseek_sc.losses._critics import PairCritic, contrastive_loss
from indiseek_sc.nn import make_mlp


class NCECritic(PairCritic):
    r"""Estimate the dependence by NCE-CLUB with a separable score :math:`u(z)^\top v(c)`.

    NCE-CLUB was proposed in [1]_.

    The networks :math:`u` and :math:`v` are trained by symmetric InfoNCE. The bound is

    .. math::

        I_{\mathrm{NCE\text{-}CLUB}} = E_{p(z,c)} f(z,c) - E_{p(z)p(c)} f(z,c), \qquad
        f(z,c) = u(z)^\top v(c),

    which for the optimal :math:`f` is the Jeffreys divergence between :math:`p(z,c)` and
    :math:`p(z)p(c)`. One matrix product gives the scores of all pairs of the batch. The critic
    detects any dependence that :math:`f` can represent, including that of correlations and of the
    shape of distributions. It underestimates very strong dependence, since InfoNCE with :math:`n`
    cells measures at most :math:`\log n` nats.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation.
    n_condition
        Dimensions of the condition.
    n_hidden
        Width of the two hidden layers of :math:`u` and of :math:`v`.
    n_embedding
        Dimensions of the embeddings :math:`u(z)` and :math:`v(c)`.

    References
    ----------
    .. [1] Liang et al. Factorized contrastive learning: going beyond multi-view redundancy.
       NeurIPS (2023). arXiv 2306.05268.

    Examples
    --------
    >>> critic = isk.losses.NCECritic(n_specific=3, n_condition=2)
    >>> specific, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> critic.critic_loss(specific, condition).backward()  # train the critic
    >>> critic.bound(specific, condition).shape  # train the encoder
    torch.Size([])
    """

    name = "nce"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128, n_embedding: int = 32) -> None:
        super().__init__()
        self.embed_specific = make_mlp(n_specific, n_embedding, n_hidden, n_layers=2)
        self.embed_condition = make_mlp(n_condition, n_embedding, n_hidden, n_layers=2)
        self.scale = 1 / math.sqrt(n_embedding)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the scores of all pairs, shape ``(n_cells, n_cells)``.

        Examples
        --------
        >>> critic = isk.losses.NCECritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """
        return self.scale * self.embed_specific(specific) @ self.embed_condition(condition).T

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the symmetric InfoNCE loss of the scores, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.NCECritic(n_specific=3, n_condition=2)
        >>> loss = critic.critic_loss(torch.ones(8, 3), torch.ones(8, 2))  # log(8), chance
        >>> round(loss.item(), 3)
        2.079
        """
        return contrastive_loss(self.scores(specific, condition))


LARGEST_BLOCK = 2**18
"""Largest number of pairs in one pass through the network: all pairs of a batch of 512 cells."""


class ConcatenatedNCECritic(PairCritic):
    """Estimate the dependence by NCE-CLUB with a network :math:`f(z,c)` on concatenated pairs.

    NCE-CLUB was proposed in [1]_.

    The loss and the bound are those of :class:`NCECritic`. Since :math:`f` need not be a product
    of embeddings, it can represent sharper dependence with fewer units, but each pair of the batch
    needs a pass through the network, which costs hundreds of times as much as the separable score.
    The critic detects any dependence that :math:`f` can represent, including that of correlations
    and of the shape of distributions.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation.
    n_condition
        Dimensions of the condition.
    n_hidden
        Width of the two hidden layers.

    References
    ----------
    .. [1] Liang et al. Factorized contrastive learning: going beyond multi-view redundancy.
       NeurIPS (2023). arXiv 2306.05268.

    Examples
    --------
    >>> critic = isk.losses.ConcatenatedNCECritic(n_specific=3, n_condition=2)
    >>> specific, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> critic.critic_loss(specific, condition).backward()  # train the critic
    >>> critic.bound(specific, condition).shape  # train the encoder
    torch.Size([])
    """

    name = "nce_concatenated"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 64) -> None:
        super().__init__()
        # The first layer of a concatenated pair is a sum of linear layers of its two parts, which
        # are evaluated once for each cell rather than once for each pair.
        self.read_specific = nn.Linear(n_specific, n_hidden)
        self.read_condition = nn.Linear(n_condition, n_hidden, bias=False)
        self.hidden = nn.Linear(n_hidden, n_hidden)
        self.output = nn.Linear(n_hidden, 1)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the scores of all pairs, shape ``(n_cells, n_cells)``.

        Examples
        --------
        >>> critic = isk.losses.ConcatenatedNCECritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """
        rows, columns = self.read_specific(specific), self.read_condition(condition)
        blocks = rows.split(max(1, LARGEST_BLOCK // len(columns)))
        return torch.cat([self._score(block[:, None] + columns) for block in blocks])

    def _score(self, first_layer: Tensor) -> Tensor:
        """Return the score of each pair from its first layer before the activation."""
        return self.output(self.hidden(first_layer.relu()).relu())[..., 0]

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the symmetric InfoNCE loss of the scores, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.ConcatenatedNCECritic(n_specific=3, n_condition=2)
        >>> loss = critic.critic_loss(torch.ones(8, 3), torch.ones(8, 2))  # log(8), chance
        >>> round(loss.item(), 3)
        2.079
        """
        return contrastive_loss(self.scores(specific, condition))


SMALLEST_VARIANCE = 1e-12
"""Variance below which a column of the condition is treated as constant and ignored."""

SMALLEST_SHARE = 1e-6
"""Share added to the unexplained variance, which keeps the bound of an exact prediction finite."""


class AdversarialCritic(PairCritic):
    r"""Predict the condition from the representation; the encoder maximises the prediction error.

    With :math:`R^2_k = 1 - E (c_k - \hat c_k(z))^2 / \operatorname{var} c_k` over the batch,

    .. math::

        I_{\mathrm{adv}} = -\frac12 \sum_k \log (1 - R^2_k).

    For jointly Gaussian variables and the optimal network this is the mutual information of
    :math:`Z` and each column of :math:`C`, summed over columns. It is the bound of [1]_ with a
    Gaussian for each column. Adversarial regression follows [2]_ and [3]_; the logarithmic form is
    not part of the published methods. The value is 0 if nothing is predicted, and does not depend
    on the scale of the condition.

    The critic detects dependence of the conditional mean of the condition given the
    representation. It does not detect a representation that affects only the variance,
    correlations or shape of the distribution of the condition. It is a lower bound: a network that
    is too small or undertrained underestimates the dependence, and the value is negative where its
    predictions are worse than the mean.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation.
    n_condition
        Dimensions of the condition.
    n_hidden
        Width of the two hidden layers.

    References
    ----------
    .. [1] Barber and Agakov. The IM algorithm: a variational approach to information maximization.
       NIPS (2003).
    .. [2] Edwards and Storkey. Censoring representations with an adversary. ICLR (2016).
       arXiv 1511.05897.
    .. [3] Xie et al. Controllable invariance through adversarial feature learning. NIPS (2017).
       arXiv 1705.11122.

    Examples
    --------
    >>> critic = isk.losses.AdversarialCritic(n_specific=3, n_condition=2)
    >>> specific, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> critic.critic_loss(specific, condition).backward()  # train the critic
    >>> critic.bound(specific, condition).shape  # train the encoder
    torch.Size([])
    """

    name = "adversarial"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__()
        self.network = make_mlp(n_specific, n_condition, n_hidden, n_layers=2)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return minus half the squared errors in units of variance, shape ``(n_cells, n_cells)``.

        Examples
        --------
        >>> critic = isk.losses.AdversarialCritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """
        weight = _inverse_variance(condition).sqrt()
        return -torch.cdist(self.network(specific) * weight, condition * weight).square() / 2

    def _unexplained(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return 1 - R2 of each column of the condition; 0 where the column is constant."""
        return (condition - self.network(specific)).square().mean(dim=0) * _inverse_variance(condition)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return half the sum over columns of 1 - R2, a scalar.

        Examples
        --------
        >>> critic = isk.losses.AdversarialCritic(n_specific=3, n_condition=2)
        >>> critic.critic_loss(torch.randn(8, 3), torch.ones(8, 2)).item()  # a constant condition
        0.0
        """
        return self._unexplained(specific, condition).sum() / 2

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the estimated information, summed over the columns that vary, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.AdversarialCritic(n_specific=3, n_condition=2)
        >>> critic.bound(torch.randn(8, 3), torch.ones(8, 2)).item()  # a constant condition
        0.0
        """
        unexplained = self._unexplained(specific, condition)
        information = -((unexplained + SMALLEST_SHARE) / (1 + SMALLEST_SHARE)).log() / 2
        return (information * (_inverse_variance(condition) > 0)).sum()


def _inverse_variance(condition: Tensor) -> Tensor:
    """Return the inverse variance of each column; 0 where the column is constant."""
    variance = condition.var(dim=0, correction=0)
    return torch.where(variance > SMALLEST_VARIANCE, 1 / variance.clamp(min=SMALLEST_VARIANCE), 0.0)
