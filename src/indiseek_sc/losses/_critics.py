"""Base classes of independence critics, their sum, and functions of pairwise scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.nn import NamedModules

if TYPE_CHECKING:
    from collections.abc import Mapping


class IndependenceCritic(nn.Module, ABC):
    r"""Estimates how much a specific representation :math:`Z` tells of a condition :math:`C`.

    It plays two parts, with parameters that only the first one moves: ``critic_loss`` is minimised by the critic's own
    optimiser, ``bound`` by the encoder. The bound of a critic that learns means something only while the critic keeps up
    with the encoder. A term that has no parameters needs ``bound`` alone.
    """

    name: str = ""
    """How the critic is called in histories; the name of the class where it is empty."""

    @property
    def learns(self) -> bool:
        """Whether there are parameters to train."""
        return next(self.parameters(), None) is not None

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Loss that teaches the critic, scalar; representations of shapes ``(n_cells, n_specific)`` and ``(n_cells, n_condition)``."""
        if self.learns:
            raise NotImplementedError(f"{type(self).__name__} has parameters, so it must define critic_loss.")
        return specific.new_zeros(())

    @abstractmethod
    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Estimate of the dependence, scalar, 0 where there is none; the encoder makes it small. In nats but for kernel terms."""

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return further figures that tell how good the critic is, scalars by name; they are not trained on."""
        return {}


class CriticSum(IndependenceCritic):
    """Sum of critics: each sees dependence that another is blind to.

    Parameters
    ----------
    critics
        The critics, by name.
    """

    name = "sum"

    def __init__(self, critics: Mapping[str, IndependenceCritic]) -> None:
        super().__init__()
        if not critics:
            raise ValueError("critics: at least one is needed.")
        self.critics = NamedModules(critics)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Sum of the critics' losses; their parameters are disjoint, so one optimiser serves all."""
        losses = self.losses(specific, condition)
        return torch.stack(list(losses.values())).sum() if losses else super().critic_loss(specific, condition)

    def losses(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the loss of each critic that learns, by name."""
        return {name: critic.critic_loss(specific, condition) for name, critic in self.critics.items() if critic.learns}

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Sum of the critics' bounds."""
        return torch.stack(list(self.bounds(specific, condition).values())).sum()

    def bounds(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the bound of each critic by name."""
        return {name: critic.bound(specific, condition) for name, critic in self.critics.items()}

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the figures of each critic, behind its name."""
        return {
            f"{name}_{figure}": value
            for name, critic in self.critics.items()
            for figure, value in critic.diagnostics(specific, condition).items()
        }


class NoCritic(IndependenceCritic):
    """Asks nothing of a specific representation, for ablations.

    Parameters
    ----------
    n_specific
        Columns of the specific representation; not needed.
    n_condition
        Columns of the condition; not needed.
    """

    name = "none"

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return 0."""
        return specific.new_zeros(())


class PairCritic(IndependenceCritic):
    r"""A critic with a score :math:`f(z, c)` of any pair, higher where the two go together.

    Its bound is CLUB's form (Cheng et al. 2020, arXiv 2006.12013),

    .. math::

        E_{p(z,c)} f(z,c) - E_{p(z)p(c)} f(z,c),

    with all pairs of the batch for the second expectation.
    """

    @abstractmethod
    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return f of all pairs, shape ``(n_cells, n_cells)``: representations by row, conditions by column, true pairs on the diagonal."""

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Mean score of true pairs less that of all pairs."""
        scores = self.scores(specific, condition)
        return scores.diagonal().mean() - scores.mean()

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return ``accuracy``: the share of comparisons that true pairs win; chance is 0.5."""
        return {"accuracy": pair_accuracy(self.scores(specific, condition))}


def pair_accuracy(scores: Tensor) -> Tensor:
    """Share of comparisons in which a representation's own condition scores higher than another cell's; chance is 0.5.

    Unlike the share of cells whose own condition comes first, it does not depend on the size of the batch. Ties count as half.

    Parameters
    ----------
    scores
        Scores of all pairs, shape ``(n_cells, n_cells)``.

    Returns
    -------
    Scalar; 0.5 for a single cell.
    """
    n_cells = scores.shape[0]
    if n_cells == 1:
        return scores.new_tensor(0.5)
    own = scores.diagonal()[:, None]
    n_won = (own > scores).sum() + ((own == scores).sum() - n_cells) / 2
    return n_won / (n_cells * (n_cells - 1))


def contrastive_loss(scores: Tensor) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) of scores of all pairs, scalar, in nats.

    Parameters
    ----------
    scores
        Scores of all pairs, shape ``(n_cells, n_cells)``, true ones on the diagonal.
    """
    partner = torch.arange(scores.shape[0], device=scores.device)
    return (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner)) / 2


def gaussian_scores(specific: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Log-densities of all representations under all diagonal Gaussians, up to a constant, by matrix products.

    Parameters
    ----------
    specific
        Representations, shape ``(n_cells, n_specific)``.
    mean
        Means, shape ``(n_densities, n_specific)``.
    log_variance
        Logarithms of the variances, same shape.

    Returns
    -------
    Shape ``(n_cells, n_densities)``, in nats, without :math:`-\frac{d}{2}\log 2\pi`.
    """
    precision = (-log_variance).exp()
    # (z - m)^2 / v, multiplied out, is three products; an array of cells by densities by dimensions would be far larger.
    squares = specific.square() @ precision.T - 2 * specific @ (mean * precision).T + (mean.square() * precision).sum(1)
    return -(squares + log_variance.sum(1)) / 2
