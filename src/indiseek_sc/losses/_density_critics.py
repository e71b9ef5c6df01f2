"""Critics that model the density of the representation given the condition, with vCLUB or leave-one-out bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from indiseek_sc.losses._critics import PairCritic, gaussian_scores
from indiseek_sc.nn import Whitening, last_layer, make_mlp

LOG_VARIANCE_LIMIT = 8.0
"""For numerics only: standard deviations from 0.02 to 55, far beyond what a standardised representation needs."""


class GaussianCritic(PairCritic):
    r"""vCLUB (Cheng et al. 2020, arXiv 2006.12013) with :math:`q(z|c) = N(\mu(c), \operatorname{diag} \sigma^2(c))`.

    .. math::

        I_{\mathrm{vCLUB}} = E_{p(z,c)} \log q(z|c) - E_{p(z)p(c)} \log q(z|c).

    The second expectation needs no sampled negatives: for each :math:`c`,
    :math:`E_z (z - \mu)^2 = (\bar z - \mu)^2 + \operatorname{var} z` over the batch.

    It sees dependence of mean and variance of each dimension, and is blind to that of correlations and of shape. Its value does
    not depend on the scale of the representation where :math:`q` is the truth, but the network learns best on standardised representations.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the critic's two hidden layers.
    bounded_variance
        Squash the log-variance to (-1, 1), as CLUB's reference code does. An encoder can cheat such a critic by shrinking
        its representation, so this is for the literal recipe alone.
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
        """Mean negative log-likelihood of the representations, up to a constant, summed over dimensions."""
        mean, log_variance = self._moments(condition)
        return ((specific - mean).square() / log_variance.exp() + log_variance).sum(dim=1).mean() / 2

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """VCLUB over the batch, summed over dimensions."""
        mean, log_variance = self._moments(condition)
        paired = (specific - mean).square()
        unpaired = (specific.mean(dim=0) - mean).square() + specific.var(dim=0, correction=0)
        return ((unpaired - paired) / log_variance.exp()).sum(dim=1).mean() / 2


class LeaveOneOutCritic(GaussianCritic):
    r"""L1Out (Poole et al. 2019, arXiv 1905.06922, eq. 13) with the Gaussian :math:`q` of :class:`GaussianCritic`.

    .. math::

        I_{\mathrm{L1Out}} = \frac1n \sum_i \Big[ \log q(z_i|c_i) - \log \frac{1}{n-1} \sum_{j \ne i} q(z_i|c_j) \Big].

    The other cells' conditions make up the marginal density of a representation. For the true :math:`q` it is an upper bound of the
    mutual information, tighter than CLUB where dependence is strong; it falls towards the information as batches grow.

    It sees dependence of mean and variance of each dimension, and is blind to that of correlations and of shape. With many
    informative dimensions the few densities of a batch miss a representation altogether, and the bound is far too high.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the critic's two hidden layers.
    """

    name = "leave_one_out"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__(n_specific, n_condition, n_hidden)

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """L1Out over the batch; 0 for a single cell, which leaves no other."""
        n_cells = specific.shape[0]
        if n_cells == 1:
            return specific.new_zeros(())
        scores = self.scores(specific, condition)
        itself = torch.eye(n_cells, dtype=torch.bool, device=scores.device)
        others = scores.masked_fill(itself, -torch.inf).logsumexp(dim=1) - math.log(n_cells - 1)
        return (scores.diagonal() - others).mean()


LOG_SCALE_LIMIT = 4.0
"""For numerics only, as :data:`LOG_VARIANCE_LIMIT`, of standard deviations."""


class FullGaussianCritic(PairCritic):
    r"""vCLUB (Cheng et al. 2020, arXiv 2006.12013) with :math:`q(z|c) = N(\mu(c), \Sigma(c))`.

    The precision is :math:`A(c)^\top A(c)` with :math:`A(c)` lower triangular (the modified Cholesky decomposition, Pourahmadi
    1999, Biometrika 86, 677), so that :math:`\log q = -\frac12 \lVert A(z - \mu) \rVert^2 + \log\det A` up to a constant. The
    second expectation of vCLUB has a closed form: for each :math:`c`, with mean :math:`\bar z` and covariance :math:`S` of the batch,

    .. math::

        E_z \lVert A(z - \mu) \rVert^2 = \lVert A(\bar z - \mu) \rVert^2 + \operatorname{tr} A S A^\top .

    It sees dependence of means, variances and correlations, and is blind to that of shape. The number of outputs grows with the
    square of the representation's width, and so does what it can learn by heart from few cells.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the critic's two hidden layers.
    """

    name = "gaussian_full"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__()
        self.sizes = [n_specific, n_specific, n_specific * (n_specific - 1) // 2]
        self.network = make_mlp(n_condition, sum(self.sizes), n_hidden, n_layers=2)

    def _whitening(self, condition: Tensor) -> Whitening:
        mean, log_scale, cholesky = self.network(condition).split(self.sizes, dim=1)
        return Whitening(mean, log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), cholesky)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return log q of all pairs up to a constant, shape ``(n_cells, n_cells)``."""
        whitening = self._whitening(condition)
        matrix = whitening.matrix()
        precision = matrix.mT @ matrix
        projected = (precision @ whitening.mean[:, :, None])[:, :, 0]
        # The quadratic form, multiplied out: z' P z is a product of all z z' with all P.
        squares = (specific[:, :, None] * specific[:, None, :]).flatten(1) @ precision.flatten(1).T
        squares = squares - 2 * specific @ projected.T + (whitening.mean * projected).sum(1)
        return -squares / 2 - whitening.log_scale.sum(1)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Mean negative log-likelihood of the representations, up to a constant."""
        return self._whitening(condition).negative_log_likelihood(specific).mean()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """VCLUB over the batch."""
        whitening = self._whitening(condition)
        matrix, mean = whitening.matrix(), specific.mean(dim=0)
        centred = specific - mean
        covariance = centred.T @ centred / specific.shape[0]
        paired = whitening.whiten(specific).square().sum(dim=1)
        unpaired = whitening.whiten(mean).square().sum(dim=1) + ((matrix @ covariance) * matrix).sum(dim=(1, 2))
        return torch.mean(unpaired - paired) / 2


class MixtureCritic(PairCritic):
    r"""vCLUB (Cheng et al. 2020, arXiv 2006.12013) with a mixture density network (Bishop 1994) for :math:`q`,

    .. math::

        q(z|c) = \sum_k w_k(c)\, N\big(\mu_k(c), \operatorname{diag} \sigma_k^2(c)\big).

    The second expectation of vCLUB has no closed form, and is the mean over all pairs of the batch.

    It sees dependence of means, variances, correlations and shape, as far as a few components can draw them: least where many
    dimensions depend in shape at once.

    Parameters
    ----------
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.
    n_hidden
        Width of the critic's two hidden layers.
    n_components
        Components of the mixture.
    """

    name = "mixture"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128, n_components: int = 4) -> None:
        super().__init__()
        self.n_components = n_components
        width = n_components * n_specific
        self.sizes = [n_components, width, width]
        self.network = make_mlp(n_condition, sum(self.sizes), n_hidden, n_layers=2)
        # Components that start alike would learn alike.
        torch.nn.init.normal_(last_layer(self.network).bias[n_components : n_components + width])

    def _components(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, shape ``(n_cells, n_components)``, means and log-variances, with one more axis."""
        logits, mean, log_variance = self.network(condition).split(self.sizes, dim=1)
        shape = len(condition), self.n_components, -1
        log_variance = log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return logits.log_softmax(dim=1), mean.reshape(shape), log_variance.reshape(shape)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return log q of all pairs up to a constant, shape ``(n_cells, n_cells)``."""
        log_weight, mean, log_variance = self._components(condition)
        each = gaussian_scores(specific, mean.flatten(0, 1), log_variance.flatten(0, 1))
        return (each.unflatten(1, log_weight.shape) + log_weight).logsumexp(dim=2)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Mean negative log-likelihood of the representations, up to a constant."""
        log_weight, mean, log_variance = self._components(condition)
        each = ((specific[:, None] - mean).square() / log_variance.exp() + log_variance).sum(dim=2) / 2
        return -(log_weight - each).logsumexp(dim=1).mean()
