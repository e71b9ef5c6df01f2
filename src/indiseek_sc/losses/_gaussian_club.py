"""The variational CLUB bound with a Gaussian critic."""

from __future__ import annotations

from torch import Tensor

from indiseek_sc.losses._pair_critic import PairCritic, gaussian_scores
from indiseek_sc.nn import make_mlp

LOG_VARIANCE_LIMIT = 8.0
"""For numerics only: standard deviations from 0.02 to 55, far beyond what a standardised code needs."""


class GaussianCritic(PairCritic):
    r"""vCLUB (Cheng et al. 2020, arXiv 2006.12013) with :math:`q(z|c) = N(\mu(c), \operatorname{diag} \sigma^2(c))`.

    .. math::

        I_{\mathrm{vCLUB}} = E_{p(z,c)} \log q(z|c) - E_{p(z)p(c)} \log q(z|c).

    The second expectation needs no sampled negatives: for each :math:`c`,
    :math:`E_z (z - \mu)^2 = (\bar z - \mu)^2 + \operatorname{var} z` over the batch.

    It sees dependence of mean and variance of each dimension, and is blind to that of correlations and of shape. Its value does
    not depend on the scale of the code where :math:`q` is the truth, but the network learns best on standardised codes.

    Parameters
    ----------
    n_specific
        Columns of the specific code.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the critic's two hidden layers.
    bounded_variance
        Squash the log-variance to (-1, 1), as CLUB's reference code does. An encoder can cheat such a critic by shrinking
        its code, so this is for the literal recipe alone.
    """

    name = "gaussian"

    def __init__(
        self, n_specific: int, n_condition: int, n_hidden: int = 128, *, bounded_variance: bool = False
    ) -> None:
        super().__init__()
        self.bounded_variance = bounded_variance
        self.network = make_mlp(n_condition, 2 * n_specific, n_hidden, n_layers=2)

    def _moments(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.network(condition).chunk(2, dim=1)
        if self.bounded_variance:
            return mean, log_variance.tanh()
        return mean, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return log q of all pairs up to a constant, shape ``(n_cells, n_cells)``."""
        return gaussian_scores(specific, *self._moments(condition))

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Mean negative log-likelihood of the codes, up to a constant, summed over dimensions."""
        mean, log_variance = self._moments(condition)
        return ((specific - mean).square() / log_variance.exp() + log_variance).sum(dim=1).mean() / 2

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """VCLUB over the batch, summed over dimensions."""
        mean, log_variance = self._moments(condition)
        paired = (specific - mean).square()
        unpaired = (specific.mean(dim=0) - mean).square() + specific.var(dim=0, correction=0)
        return ((unpaired - paired) / log_variance.exp()).sum(dim=1).mean() / 2
