"""The NCE-CLUB bound: a contrastive critic plugged into CLUB."""

from __future__ import annotations

import math

from torch import Tensor

from indiseek_sc.losses._pair_critic import PairCritic, contrastive_loss
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
        Columns of the specific code.
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
