"""The variational CLUB bound with a Gaussian critic of full covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from indiseek_sc.losses._pair_critic import PairCritic
from indiseek_sc.nn import Whitening, make_mlp

LOG_SCALE_LIMIT = 4.0
"""For numerics only, as :data:`~indiseek_sc.losses._gaussian_club.LOG_VARIANCE_LIMIT`, of standard deviations."""


class FullGaussianCritic(PairCritic):
    r"""vCLUB (Cheng et al. 2020, arXiv 2006.12013) with :math:`q(z|c) = N(\mu(c), \Sigma(c))`.

    The precision is :math:`A(c)^\top A(c)` with :math:`A(c)` lower triangular (the modified Cholesky decomposition, Pourahmadi
    1999, Biometrika 86, 677), so that :math:`\log q = -\frac12 \lVert A(z - \mu) \rVert^2 + \log\det A` up to a constant. The
    second expectation of vCLUB has a closed form: for each :math:`c`, with mean :math:`\bar z` and covariance :math:`S` of the batch,

    .. math::

        E_z \lVert A(z - \mu) \rVert^2 = \lVert A(\bar z - \mu) \rVert^2 + \operatorname{tr} A S A^\top .

    It sees dependence of means, variances and correlations, and is blind to that of shape. The number of outputs grows with the
    square of the code's width, and so does what it can learn by heart from few cells.

    Parameters
    ----------
    n_specific
        Columns of the specific code.
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
        mean, log_scale, mixing = self.network(condition).split(self.sizes, dim=1)
        return Whitening(mean, log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), mixing)

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
        """Mean negative log-likelihood of the codes, up to a constant."""
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
