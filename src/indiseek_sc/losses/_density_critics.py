"""Critics that model the conditional density of a specific representation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from indiseek_sc.losses._critics import PairCritic, gaussian_scores
from indiseek_sc.nn import Whitening, last_layer, make_mlp

LOG_VARIANCE_LIMIT = 8.0
"""Bound of the log-variance, for numerical stability: standard deviations from 0.02 to 55."""


class GaussianCritic(PairCritic):
    r"""Estimate the dependence by vCLUB with a diagonal Gaussian as the variational density.

    vCLUB was proposed in [1]_.

    .. math::

        I_{\mathrm{vCLUB}} = E_{p(z,c)} \log q(z|c) - E_{p(z)p(c)} \log q(z|c), \qquad
        q(z|c) = N\big(\mu(c), \operatorname{diag} \sigma^2(c)\big).

    The second expectation needs no sampled negatives: for each :math:`c`,
    :math:`E_z (z - \mu)^2 = (\bar z - \mu)^2 + \operatorname{var} z` over the batch.

    The critic detects dependence of the mean and variance of each dimension on the condition. It
    does not detect dependence of correlations or of other properties of the distribution. If
    :math:`q` is the true density, the value does not depend on the scale of the representation,
    but training is most stable with standardised representations.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation.
    n_condition
        Dimensions of the condition.
    n_hidden
        Width of the two hidden layers.
    bounded_variance
        Whether to restrict the log-variance to (-1, 1) with a hyperbolic tangent, as in the
        reference implementation of CLUB. The encoder can then reduce the bound merely by shrinking
        its representation, so use this option only to reproduce the published method.

    References
    ----------
    .. [1] Cheng et al. CLUB: a contrastive log-ratio upper bound of mutual information. ICML
       (2020). arXiv 2006.12013.

    Examples
    --------
    >>> critic = isk.losses.GaussianCritic(n_specific=3, n_condition=2)
    >>> specific, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> critic.critic_loss(specific, condition).backward()  # train the critic
    >>> critic.bound(specific, condition).shape  # train the encoder
    torch.Size([])
    """

    name = "gaussian"

    def __init__(
        self, n_specific: int, n_condition: int, n_hidden: int = 128, *, bounded_variance: bool = False
    ) -> None:
        super().__init__()
        self.bounded_variance = bounded_variance
        self.network = make_mlp(n_condition, 2 * n_specific, n_hidden, n_layers=2)

    def _moments(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q for each cell, shape ``(n_cells, n_specific)``."""
        mean, log_variance = self.network(condition).chunk(2, dim=1)
        if self.bounded_variance:
            return mean, log_variance.tanh()
        return mean, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the log-density of all pairs up to a constant, shape ``(n_cells, n_cells)``.

        Examples
        --------
        >>> critic = isk.losses.GaussianCritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """
        return gaussian_scores(specific, *self._moments(condition))

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the mean negative log-likelihood up to a constant, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.GaussianCritic(n_specific=3, n_condition=2)
        >>> critic.critic_loss(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([])
        """
        mean, log_variance = self._moments(condition)
        return ((specific - mean).square() / log_variance.exp() + log_variance).sum(dim=1).mean() / 2

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return vCLUB of the batch, summed over dimensions, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.GaussianCritic(n_specific=3, n_condition=2)
        >>> critic.bound(torch.ones(8, 3), torch.ones(8, 2)).abs().item() < 1e-5  # nothing varies
        True
        """
        mean, log_variance = self._moments(condition)
        paired = (specific - mean).square()
        unpaired = (specific.mean(dim=0) - mean).square() + specific.var(dim=0, correction=0)
        return ((unpaired - paired) / log_variance.exp()).sum(dim=1).mean() / 2


class LeaveOneOutCritic(GaussianCritic):
    r"""Estimate the dependence by L1Out with the Gaussian density of :class:`GaussianCritic`.

    L1Out is one of the bounds in [1]_.

    .. math::

        I_{\mathrm{L1Out}} = \frac1n \sum_i \Big[ \log q(z_i|c_i)
        - \log \frac{1}{n-1} \sum_{j \ne i} q(z_i|c_j) \Big],

    equation 13 of the reference. The marginal density of a representation is approximated by the
    mixture of the conditional densities of the other cells. For the true :math:`q` the value is an
    upper bound of the mutual information, tighter than CLUB where dependence is strong; it
    approaches the mutual information as the batch grows.

    The critic detects dependence of the mean and variance of each dimension on the condition. It
    does not detect dependence of correlations or of other properties of the distribution. With
    many informative dimensions, none of the densities of a batch may cover a given representation,
    and the bound is then far too high.

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
    .. [1] Poole et al. On variational bounds of mutual information. ICML (2019). arXiv 1905.06922.

    Examples
    --------
    >>> critic = isk.losses.LeaveOneOutCritic(n_specific=3, n_condition=2)
    >>> critic.critic_loss(torch.randn(8, 3), torch.randn(8, 2)).shape
    torch.Size([])
    """

    name = "leave_one_out"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__(n_specific, n_condition, n_hidden)

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return L1Out of the batch, a scalar in nats; 0 for a single cell.

        Examples
        --------
        >>> critic = isk.losses.LeaveOneOutCritic(n_specific=3, n_condition=2)
        >>> critic.bound(torch.randn(1, 3), torch.randn(1, 2)).item()
        0.0
        """
        n_cells = specific.shape[0]
        if n_cells == 1:
            return specific.new_zeros(())
        scores = self.scores(specific, condition)
        is_true_pair = torch.eye(n_cells, dtype=torch.bool, device=scores.device)
        others = scores.masked_fill(is_true_pair, -torch.inf).logsumexp(dim=1) - math.log(n_cells - 1)
        return (scores.diagonal() - others).mean()


LOG_SCALE_LIMIT = 4.0
"""Bound of the logarithm of the standard deviation, for numerical stability."""


class FullGaussianCritic(PairCritic):
    r"""Estimate the dependence by vCLUB with a Gaussian density of full covariance.

    vCLUB was proposed in [1]_.

    For :math:`q(z|c) = N(\mu(c), \Sigma(c))` the precision is parameterised as
    :math:`A(c)^\top A(c)` with a lower-triangular :math:`A(c)` (modified Cholesky decomposition
    [2]_), so that :math:`\log q = -\frac12 \lVert A(z - \mu) \rVert^2 + \log\det A` up to a
    constant. The second expectation of vCLUB has a closed form: for each :math:`c`, with the mean
    :math:`\bar z` and covariance :math:`S` of the batch,

    .. math::

        E_z \lVert A(z - \mu) \rVert^2
        = \lVert A(\bar z - \mu) \rVert^2 + \operatorname{tr} A S A^\top .

    The critic detects dependence of means, variances and correlations on the condition, but not of
    other properties of the distribution. The number of network outputs grows with the square of the
    number of dimensions, and with it the risk of overfitting on few cells.

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
    .. [1] Cheng et al. CLUB: a contrastive log-ratio upper bound of mutual information. ICML
       (2020). arXiv 2006.12013.
    .. [2] Pourahmadi. Joint mean-covariance models with applications to longitudinal data:
       unconstrained parameterisation. Biometrika 86, 677 (1999).

    Examples
    --------
    >>> critic = isk.losses.FullGaussianCritic(n_specific=3, n_condition=2)
    >>> specific, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> critic.critic_loss(specific, condition).backward()  # train the critic
    >>> critic.bound(specific, condition).shape  # train the encoder
    torch.Size([])
    """

    name = "gaussian_full"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128) -> None:
        super().__init__()
        self.sizes = [n_specific, n_specific, n_specific * (n_specific - 1) // 2]
        self.network = make_mlp(n_condition, sum(self.sizes), n_hidden, n_layers=2)

    def _whitening(self, condition: Tensor) -> Whitening:
        """Return the whitening transformation that q implies for each cell."""
        mean, log_scale, cholesky = self.network(condition).split(self.sizes, dim=1)
        return Whitening(mean, log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), cholesky)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the log-density of all pairs up to a constant, shape ``(n_cells, n_cells)``.

        Examples
        --------
        >>> critic = isk.losses.FullGaussianCritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """
        whitening = self._whitening(condition)
        matrix = whitening.matrix()
        precision = matrix.mT @ matrix
        projected = (precision @ whitening.mean[:, :, None])[:, :, 0]
        # Expand the quadratic form: z' P z for all pairs is one product of all z z' with all P.
        squares = (specific[:, :, None] * specific[:, None, :]).flatten(1) @ precision.flatten(1).T
        squares = squares - 2 * specific @ projected.T + (whitening.mean * projected).sum(1)
        return -squares / 2 - whitening.log_scale.sum(1)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the mean negative log-likelihood up to a constant, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.FullGaussianCritic(n_specific=3, n_condition=2)
        >>> critic.critic_loss(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([])
        """
        return self._whitening(condition).negative_log_likelihood(specific).mean()

    def bound(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return vCLUB of the batch, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.FullGaussianCritic(n_specific=3, n_condition=2)
        >>> critic.bound(torch.ones(8, 3), torch.ones(8, 2)).abs().item() < 1e-5  # nothing varies
        True
        """
        whitening = self._whitening(condition)
        matrix, mean = whitening.matrix(), specific.mean(dim=0)
        centred = specific - mean
        covariance = centred.T @ centred / specific.shape[0]
        paired = whitening.whiten(specific).square().sum(dim=1)
        unpaired = whitening.whiten(mean).square().sum(dim=1) + ((matrix @ covariance) * matrix).sum(dim=(1, 2))
        return torch.mean(unpaired - paired) / 2


class MixtureCritic(PairCritic):
    r"""Estimate the dependence by vCLUB with a mixture density network as :math:`q`.

    vCLUB was proposed in [1]_, and mixture density networks in [2]_.

    .. math::

        q(z|c) = \sum_k w_k(c)\, N\big(\mu_k(c), \operatorname{diag} \sigma_k^2(c)\big).

    The second expectation of vCLUB has no closed form and is estimated from all pairs of cells in
    the batch.

    The critic detects any dependence of the conditional distribution that a few components can
    represent, including means, variances and correlations. It is least sensitive where the
    distributions of many dimensions change in shape at once.

    Parameters
    ----------
    n_specific
        Dimensions of the specific representation.
    n_condition
        Dimensions of the condition.
    n_hidden
        Width of the two hidden layers.
    n_components
        Number of mixture components.

    References
    ----------
    .. [1] Cheng et al. CLUB: a contrastive log-ratio upper bound of mutual information. ICML
       (2020). arXiv 2006.12013.
    .. [2] Bishop. Mixture density networks. Technical report NCRG/94/004, Aston University (1994).

    Examples
    --------
    >>> critic = isk.losses.MixtureCritic(n_specific=3, n_condition=2, n_components=2)
    >>> specific, condition = torch.randn(8, 3), torch.randn(8, 2)
    >>> critic.critic_loss(specific, condition).backward()  # train the critic
    >>> critic.bound(specific, condition).shape  # train the encoder
    torch.Size([])
    """

    name = "mixture"

    def __init__(self, n_specific: int, n_condition: int, n_hidden: int = 128, n_components: int = 4) -> None:
        super().__init__()
        self.n_components = n_components
        width = n_components * n_specific
        self.sizes = [n_components, width, width]
        self.network = make_mlp(n_condition, sum(self.sizes), n_hidden, n_layers=2)
        # Components with equal initial means would receive equal gradients and stay equal.
        torch.nn.init.normal_(last_layer(self.network).bias[n_components : n_components + width])

    def _components(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the parameters of the mixture for each cell.

        These are the log-weights, shape ``(n_cells, n_components)``, and the means and
        log-variances, shape ``(n_cells, n_components, n_specific)``.
        """
        logits, mean, log_variance = self.network(condition).split(self.sizes, dim=1)
        shape = len(condition), self.n_components, -1
        log_variance = log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return logits.log_softmax(dim=1), mean.reshape(shape), log_variance.reshape(shape)

    def scores(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the log-density of all pairs up to a constant, shape ``(n_cells, n_cells)``.

        Examples
        --------
        >>> critic = isk.losses.MixtureCritic(n_specific=3, n_condition=2)
        >>> critic.scores(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([8, 8])
        """
        log_weight, mean, log_variance = self._components(condition)
        each = gaussian_scores(specific, mean.flatten(0, 1), log_variance.flatten(0, 1))
        return (each.unflatten(1, log_weight.shape) + log_weight).logsumexp(dim=2)

    def critic_loss(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Return the mean negative log-likelihood up to a constant, a scalar in nats.

        Examples
        --------
        >>> critic = isk.losses.MixtureCritic(n_specific=3, n_condition=2)
        >>> critic.critic_loss(torch.randn(8, 3), torch.randn(8, 2)).shape
        torch.Size([])
        """
        log_weight, mean, log_variance = self._components(condition)
        each = ((specific[:, None] - mean).square() / log_variance.exp() + log_variance).sum(dim=2) / 2
        return -(log_weight - each).logsumexp(dim=1).mean()
