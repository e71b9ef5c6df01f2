"""The NCE-CLUB bound with one network that reads a pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from indiseek_sc.losses._pair_critic import PairCritic, contrastive_loss

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
        Columns of the specific code.
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
