"""Critics that score pairs of a code and a condition."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from indiseek_sc.losses._independence import IndependenceCritic


class PairCritic(IndependenceCritic):
    r"""A critic with a score :math:`f(z, c)` of any pair, higher where the two go together.

    Its bound is CLUB's form (Cheng et al. 2020, arXiv 2006.12013),

    .. math::

        E_{p(z,c)} f(z,c) - E_{p(z)p(c)} f(z,c),

    with all pairs of the batch for the second expectation.
    """

    @abstractmethod
    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return f of all pairs, shape ``(n_cells, n_cells)``: codes by row, conditions by column, true pairs on the diagonal."""

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Mean score of true pairs less that of all pairs."""
        scores = self.scores(specific, condition)
        return scores.diagonal().mean() - scores.mean()

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return ``accuracy``, see :func:`pair_accuracy`."""
        return {"accuracy": pair_accuracy(self.scores(specific, condition))}


def pair_accuracy(scores: Tensor) -> Tensor:
    """Share of comparisons in which a code's own condition scores higher than another cell's; chance is 0.5.

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
    r"""Log-densities of all codes under all diagonal Gaussians, up to a constant, by matrix products.

    Parameters
    ----------
    specific
        Codes, shape ``(n_cells, n_specific)``.
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
