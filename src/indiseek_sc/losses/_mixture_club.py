"""The variational CLUB bound with a mixture of Gaussians for a critic."""

from __future__ import annotations

import torch
from torch import Tensor

from indiseek_sc.losses._gaussian_club import LOG_VARIANCE_LIMIT
from indiseek_sc.losses._pair_critic import PairCritic, gaussian_scores
from indiseek_sc.nn import last_layer, make_mlp


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
        Columns of the specific code.
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
        """Mean negative log-likelihood of the codes, up to a constant."""
        log_weight, mean, log_variance = self._components(condition)
        each = ((specific[:, None] - mean).square() / log_variance.exp() + log_variance).sum(dim=2) / 2
        return -(log_weight - each).logsumexp(dim=1).mean()
