"""Base classes of the critics, sums of critics, and functions of pairwise scores."""

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
    """Measure the dependence of a specific representation :math:`Z` on a condition :math:`C`.

    Training alternates between two steps. The critic's own optimiser minimises ``critic_loss``
    with respect to the parameters of the critic; the encoder minimises ``bound`` with the critic
    held fixed. The bound of a trainable critic is meaningful only while the critic is close to its
    optimum for the current encoder. A term without parameters needs to define ``bound`` alone.

    Examples
    --------
    >>> class MeanProduct(isk.losses.IndependenceCritic):
    ...     def bound(self, specific, condition):
    ...         return (specific * condition).mean()
    >>> MeanProduct().bound(torch.ones(4, 1), torch.ones(4, 1)).item()
    1.0
    """

    name: str = ""
    """Name of the critic in training histories. If empty, the name of the class is used."""

    @property
    def learns(self) -> bool:
        """Whether the critic has parameters to train."""
        return next(self.parameters(), None) is not None

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the training loss of the critic, a scalar; 0 for a term without parameters.

        Parameters
        ----------
        specific
            Specific representation, shape ``(n_cells, n_specific)``.
        condition
            Condition of the same cells, shape ``(n_cells, n_condition)``.

        Raises
        ------
        NotImplementedError
            If the critic has parameters but does not define this method.

        Examples
        --------
        >>> critic = isk.losses.HSICCritic()  # has no parameters
        >>> critic.critic_loss(torch.ones(4, 1), torch.ones(4, 1)).item()
        0.0
        """
        if self.learns:
            raise NotImplementedError(
                f"{type(self).__name__} has parameters, so it must define critic_loss, the loss that trains them."
            )
        return specific.new_zeros(())

    @abstractmethod
    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the estimated dependence, a scalar that the encoder minimises.

        The value is 0 at independence. It is in nats, except for kernel terms and orthogonality.

        Parameters
        ----------
        specific
            Specific representation, shape ``(n_cells, n_specific)``.
        condition
            Condition of the same cells, shape ``(n_cells, n_condition)``.

        Examples
        --------
        >>> cells = torch.arange(20.0)[:, None]
        >>> round(isk.losses.HSICCritic().bound(cells, cells).item(), 3)
        1.0
        """

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return measures of the critic's quality by name, scalars that are logged only.

        Parameters
        ----------
        specific
            Specific representation, shape ``(n_cells, n_specific)``.
        condition
            Condition of the same cells, shape ``(n_cells, n_condition)``.

        Examples
        --------
        >>> isk.losses.HSICCritic().diagnostics(torch.ones(4, 1), torch.ones(4, 1))
        {}
        """
        return {}


class CriticSum(IndependenceCritic):
    """Sum several critics, which may be sensitive to different kinds of dependence.

    Parameters
    ----------
    critics
        The critics, by name.

    Raises
    ------
    ValueError
        If there is no critic.

    Examples
    --------
    >>> critics = isk.losses.CriticSum({"hsic": isk.losses.HSICCritic()})
    >>> critics.learns
    False
    """

    name = "sum"

    def __init__(self, critics: Mapping[str, IndependenceCritic]) -> None:
        super().__init__()
        if not critics:
            raise ValueError("critics: give at least one critic.")
        self.critics = NamedModules(critics)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the sum of the losses of the trainable critics, a scalar.

        The critics share no parameters, so one optimiser trains all of them.

        Examples
        --------
        >>> critics = isk.losses.make_critic("gaussian+nce", n_specific=3, n_condition=2)
        >>> critics.critic_loss(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([])
        """
        losses = self.losses(specific, condition)
        return torch.stack(list(losses.values())).sum() if losses else super().critic_loss(specific, condition)

    def losses(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the loss of each trainable critic by name.

        Examples
        --------
        >>> critics = isk.losses.make_critic("hsic+nce", n_specific=3, n_condition=2)
        >>> list(critics.losses(torch.randn(8, 3), torch.randn(8, 2)))
        ['nce']
        """
        return {name: critic.critic_loss(specific, condition) for name, critic in self.critics.items() if critic.learns}

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the sum of the bounds of all critics, a scalar.

        Examples
        --------
        >>> critics = isk.losses.make_critic("gaussian+nce", n_specific=3, n_condition=2)
        >>> critics.bound(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([])
        """
        return torch.stack(list(self.bounds(specific, condition).values())).sum()

    def bounds(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the bound of each critic by name.

        Examples
        --------
        >>> critics = isk.losses.make_critic("gaussian+nce", n_specific=3, n_condition=2)
        >>> list(critics.bounds(torch.randn(8, 3), torch.randn(8, 2)))
        ['gaussian', 'nce']
        """
        return {name: critic.bound(specific, condition) for name, critic in self.critics.items()}

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the quality measures of all critics, each prefixed with the name of its critic.

        Examples
        --------
        >>> critics = isk.losses.make_critic("gaussian+nce", n_specific=3, n_condition=2)
        >>> list(critics.diagnostics(torch.randn(8, 3), torch.randn(8, 2)))
        ['gaussian_accuracy', 'nce_accuracy']
        """
        return {
            f"{name}_{figure}": value
            for name, critic in self.critics.items()
            for figure, value in critic.diagnostics(specific, condition).items()
        }


class NoCritic(IndependenceCritic):
    """Impose no independence constraint, for ablations.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation; ignored.
    n_condition
        Dimensions of the condition; ignored.

    Examples
    --------
    >>> isk.losses.NoCritic(3, 2).learns
    False
    """

    name = "none"

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return 0.

        Examples
        --------
        >>> isk.losses.NoCritic(3, 2).bound(torch.ones(4, 3), torch.ones(4, 2)).item()
        0.0
        """
        return specific.new_zeros(())


class PairCritic(IndependenceCritic):
    """Critic with a score :math:`f(z, c)` of a pair, which is higher where the two belong together.

    The bound has the form of CLUB [1]_,

    .. math::

        E_{p(z,c)} f(z,c) - E_{p(z)p(c)} f(z,c),

    where the second expectation is estimated from all pairs of cells in the batch.

    References
    ----------
    .. [1] Cheng et al. CLUB: a contrastive log-ratio upper bound of mutual information. ICML
       (2020). arXiv 2006.12013.

    Examples
    --------
    >>> class Product(isk.losses.PairCritic):
    ...     def scores(self, specific, condition):
    ...         return specific @ condition.T
    >>> cells = torch.tensor([[-1.0], [1.0]])
    >>> Product().bound(cells, cells).item()
    1.0
    """

    @abstractmethod
    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the scores of all pairs of cells, shape ``(n_cells, n_cells)``.

        Rows are representations and columns are conditions; the diagonal holds the true pairs.

        Examples
        --------
        >>> critic = isk.losses.NCECritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the mean score of true pairs minus that of all pairs, a scalar.

        Examples
        --------
        >>> critic = isk.losses.NCECritic(n_specific=3, n_condition=2)
        >>> critic.bound(torch.ones(8, 3), torch.ones(8, 2)).abs().item() < 1e-5  # nothing varies
        True
        """
        scores = self.scores(specific, condition)
        return scores.diagonal().mean() - scores.mean()

    def diagnostics(self, specific: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return ``accuracy``: how often true pairs score above other pairs; chance is 0.5.

        Examples
        --------
        >>> critic = isk.losses.NCECritic(n_specific=3, n_condition=2)
        >>> list(critic.diagnostics(torch.randn(8, 3), torch.randn(8, 2)))
        ['accuracy']
        """
        return {"accuracy": pair_accuracy(self.scores(specific, condition))}


def pair_accuracy(scores: Tensor) -> Tensor:
    """Return how often the true condition of a cell scores above another; chance is 0.5.

    Unlike the share of cells whose own condition ranks first, this value does not depend on the
    number of cells. Ties count as one half.

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
    true = scores.diagonal()[:, None]
    n_won = (true > scores).sum() + ((true == scores).sum() - n_cells) / 2
    return n_won / (n_cells * (n_cells - 1))


def contrastive_loss(scores: Tensor) -> Tensor:
    """Return the symmetric InfoNCE loss of the scores of all pairs, a scalar in nats.

    Parameters
    ----------
    scores
        Scores of all pairs, shape ``(n_cells, n_cells)``, with true pairs on the diagonal.

    References
    ----------
    .. [1] van den Oord et al. Representation learning with contrastive predictive coding (2018).
       arXiv 1807.03748.
    """
    partner = torch.arange(scores.shape[0], device=scores.device)
    return (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner)) / 2


def gaussian_scores(specific: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Return the log-densities of all cells under all diagonal Gaussians, up to a constant.

    Parameters
    ----------
    specific
        Representations :math:`z`, shape ``(n_cells, n_specific)``.
    mean
        Means, shape ``(n_densities, n_specific)``.
    log_variance
        Logarithms of the variances, same shape.

    Returns
    -------
    Log-densities, shape ``(n_cells, n_densities)``, in nats, without :math:`-\frac{d}{2}\log 2\pi`.
    """
    precision = (-log_variance).exp()
    # Expanding (z - m)^2 / v into three matrix products avoids an array of shape
    # (n_cells, n_densities, n_specific).
    squares = specific.square() @ precision.T - 2 * specific @ (mean * precision).T + (mean.square() * precision).sum(1)
    return -(squares + log_variance.sum(1)) / 2
