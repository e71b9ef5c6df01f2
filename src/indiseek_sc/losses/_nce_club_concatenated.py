"""The NCE-CLUB bound with one network that reads a pair."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.losses._independence import IndependenceCritic


class ConcatenatedNCECritic(IndependenceCritic):
    r"""NCE-CLUB with a network :math:`f(z,c)` on the concatenated pair, as in FactorCL (arXiv 2306.05268).

    It sees any dependence that :math:`f` can represent, but costs a pass through the network for each of the pairs of a batch.

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
        """Return f of all pairs, shape ``(n_cells, n_cells)``; codes by row, conditions by column."""
        first_layer = self.read_specific(specific)[:, None] + self.read_condition(condition)
        return self.output(self.hidden(first_layer.relu()).relu())[..., 0]

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Symmetric InfoNCE of the scores."""
        scores = self.scores(specific, condition)
        partner = torch.arange(scores.shape[0], device=scores.device)
        return (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner)) / 2

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Mean score of true pairs less that of all pairs."""
        scores = self.scores(specific, condition)
        return scores.diagonal().mean() - scores.mean()
