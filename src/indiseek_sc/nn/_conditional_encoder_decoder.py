"""The conditional encoder-decoder of stage 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from indiseek_sc.nn._encoder_decoders import SpecificEncoderDecoder
from indiseek_sc.nn._flow import ConditionalSpline
from indiseek_sc.nn._linear import PrincipalMap, RidgeMap
from indiseek_sc.nn._networks import make_mlp
from indiseek_sc.nn._parts import map_parts
from indiseek_sc.nn._whitening import ConditionalWhitening, Whitening

if TYPE_CHECKING:
    from collections.abc import Mapping

NEGLIGIBLE_SHARE = 1e-4
"""Smallest share of the variance of the features that a principal axis must explain."""

CELLS_PER_DIMENSION = 50
"""Number of training cells required for each dimension of the specific representation."""

FEWEST = 10
"""Number of dimensions that are always allowed."""

LOW_VARIANCE_SHARE = 0.2
"""Largest contribution of a low-variance dimension, relative to the mean of the kept dimensions."""

LOW_VARIANCE_TOTAL = 0.1
"""Largest share of the total contribution that all low-variance dimensions together may have."""


class ConditionalEncoderDecoder(SpecificEncoderDecoder):
    r"""Conditional whitening and a normalizing flow, corrected by a small network.

    With the condition :math:`c`, a ridge regression :math:`b(c)` of the features :math:`x`, and the
    first principal axes :math:`V` of its residuals,

    .. math::

        r = V^\top (x - b(c)), \qquad
        w = L(c)\,\frac{r - \mu(c)}{\sigma(c)} - m(c), \qquad
        z_0 = h(w; c), \qquad
        z = \operatorname{standardize}\big(z_0 + f(z_0, c)\big), \\
        \hat x = b(c) + V \big(\mu(c) + \sigma(c)\, L(c)^{-1} (h^{-1}(z; c) + m(c))\big) + g(z, c),

    where :math:`\mu`, :math:`\sigma`, :math:`m` and :math:`L`, a lower-triangular Cholesky factor
    with a diagonal of 1, are fitted in closed form (:class:`~indiseek_sc.nn.ConditionalWhitening`).
    The conditional mean, variances and correlations of :math:`w` are the same for every :math:`c`,
    and the flow :math:`h` (:class:`~indiseek_sc.nn.ConditionalSpline`) makes the whole conditional
    distribution the same. The critics therefore have little dependence left to remove; they train
    the correction :math:`f`, which starts at zero, as does the refinement :math:`g`. This design is
    not part of the published IndiSeek.

    The axes are sorted by variance, and :math:`L` and the Jacobian of :math:`h` are triangular, so
    the first dimension of :math:`z` corresponds to the axis of largest variance, and each further
    dimension to the part of its axis that the previous dimensions do not explain. The fit proceeds
    in the order :meth:`fit`, :meth:`fit_whitening`, training of ``flow``, :meth:`freeze_start`,
    training of ``correction``, and training of ``refinement``.

    The number of dimensions is limited in three ways. A shared representation of :math:`k`
    dimensions is a function of the features, which leaves about :math:`k` fewer degrees of freedom
    than there are features; further dimensions would consist of rounding and regression errors,
    which depend on the shared representation. There is also at most one dimension for every 50
    training cells, although ten are always allowed. Finally, :meth:`fit_whitening` removes
    low-variance dimensions: scaled to a variance of 1, they would consist of noise and errors of
    the conditional mean. Removed dimensions are columns of 0; :attr:`used` are the others.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Dimensions of the condition.
    n_specific
        Dimensions of the specific representation, at most ``n_features``.
    n_hidden
        Width of the hidden layers.
    n_linear
        Number of last columns of the condition, such as batch indicators, that enter the whitening
        only linearly.

    Examples
    --------
    >>> from indiseek_sc.nn import ConditionalEncoderDecoder
    >>> features, condition = torch.randn(200, 4), torch.randn(200, 2)
    >>> encoder_decoder = ConditionalEncoderDecoder(n_features=4, n_condition=2, n_specific=3)
    >>> encoder_decoder.fit(features, condition)
    >>> encoder_decoder.fit_whitening(features, condition, n_fit=150)
    >>> encoder_decoder.freeze_start(features, condition)
    >>> encoder_decoder(features, condition).shape
    torch.Size([200, 3])
    """

    in_use: Tensor
    mean: Tensor
    std: Tensor
    START = (*SpecificEncoderDecoder.START, "baseline", "principal", "conditional", "in_use", "flow", "mean", "std")

    is_refined = True

    def __init__(
        self, n_features: int, n_condition: int, n_specific: int, n_hidden: int = 128, *, n_linear: int = 0
    ) -> None:
        super().__init__()
        self.baseline = RidgeMap(n_condition, n_features)
        self.principal = PrincipalMap(n_features, n_specific)
        self.conditional = ConditionalWhitening(n_condition, n_specific, n_linear=n_linear)
        self.flow = ConditionalSpline(n_condition, n_specific)
        self.correction = make_mlp(
            n_specific + n_condition, n_specific, n_hidden, n_layers=2, activation="gelu", start_at_zero=True
        )
        self.refinement = make_mlp(
            n_specific + n_condition, n_features, 2 * n_hidden, n_layers=2, dropout=0.1, start_at_zero=True
        )
        self.standardize = nn.BatchNorm1d(n_specific, affine=False)
        self.register_buffer("in_use", torch.ones(n_specific))
        self.register_buffer("mean", torch.zeros(n_specific))
        self.register_buffer("std", torch.ones(n_specific))

    @property
    def used(self) -> Tensor:
        """Indices of the dimensions in use."""
        return self.in_use.nonzero()[:, 0]

    @property
    def learner(self) -> nn.Module:
        """The correction."""
        return self.correction

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Fit the regression, the principal axes of its residuals, and their total variance."""
        self.baseline.fit(condition, features)
        variances = features.var(dim=0, correction=0)
        n_varying = int((variances > 0).sum())  # principal components that were not kept are 0
        n_largest = min(max(n_varying - n_shared, 1), max(len(features) // CELLS_PER_DIMENSION, FEWEST))
        # Standardised axes of negligible variance would consist of rounding and regression errors.
        negligible = NEGLIGIBLE_SHARE * variances.sum()
        self.principal.fit(
            features,
            condition,
            columns=lambda x, given: x - self.baseline(given),
            n_largest=n_largest,
            smallest_variance=negligible,
        )
        scores = self.scores(features, condition)
        # The error is relative to the variance that Z can represent, so that lambda has the same
        # meaning in modalities whose residual variance is small.
        self.error_scale.copy_(scores.var(dim=0, correction=0).sum().clamp(min=1e-12))

    @torch.no_grad()
    def fit_whitening(self, features: Tensor, condition: Tensor, n_fit: int) -> None:
        r"""Fit the whitening with validated penalties, and remove low-variance dimensions.

        The contribution of dimension :math:`j` to a reconstruction is :math:`E\,\sigma_j^2(c)`,
        the variance of its axis that neither the condition nor the previous dimensions explain.
        Dimensions are removed if they contribute less than a fifth of the mean contribution of the
        kept dimensions, unless the removed dimensions together contribute more than a tenth of the
        total.

        Parameters
        ----------
        features
            Features, shape ``(n_cells, n_features)``.
        condition
            Condition of the same cells, shape ``(n_cells, n_condition)``.
        n_fit
            Number of first cells on which the whitening is fitted; the others are for validation.
        """
        self.conditional.fit(self.scores(features, condition), condition, n_fit)
        contribution = (2 * self.conditional(condition[:n_fit]).log_scale).exp().mean(dim=0) * self.conditional.varies
        sizes, order = contribution.sort(descending=True)
        # Entry k describes the choice to keep the k + 1 dimensions of largest contribution.
        kept = sizes.cumsum(dim=0)
        threshold = LOW_VARIANCE_SHARE * kept / torch.arange(1, len(sizes) + 1, device=sizes.device)
        largest_removed = torch.cat([sizes[1:], sizes.new_zeros(1)])
        is_separated = (largest_removed <= threshold) & (sizes > threshold)
        is_allowed = is_separated & (kept >= (1 - LOW_VARIANCE_TOTAL) * kept[-1])
        n_kept = int(is_allowed.nonzero()[-1]) + 1 if is_allowed.any() else len(sizes)
        self.in_use.zero_().index_fill_(0, order[:n_kept], 1.0).mul_(self.conditional.varies)
        self.flow.varies.copy_(self.in_use)

    @torch.no_grad()
    def freeze_start(self, features: Tensor, condition: Tensor) -> None:
        """Set ``mean`` and ``std`` to those of the trained flow's output over training cells."""
        start = self.flow(self.whitened(features, condition), condition)
        self.mean.copy_(start.mean(dim=0))
        self.std.copy_(torch.where(self.in_use > 0, start.std(dim=0, correction=0), 1.0))

    def scores(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return r, the residuals along the principal axes, shape ``(n_cells, n_specific)``."""
        return map_parts(lambda x, given: self.principal(x - self.baseline(given)), features, condition)

    def whitened(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return w, the whitened residuals, shape ``(n_cells, n_specific)``."""
        return map_parts(self._whiten, features, condition)

    def _whiten(self, features: Tensor, condition: Tensor) -> Tensor:
        return self.conditional(condition).whiten(self.scores(features, condition)) * self.in_use

    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return z_0, the output of the flow, standardised over the training cells."""
        return {"start": map_parts(self._start, features, condition)}

    def _start(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return z_0, standardised over the training cells, for one part of the cells."""
        return (self.flow(self.whitened(features, condition), condition) - self.mean) / self.std

    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        return map_parts(
            lambda start, given: start + self.correction(torch.cat([start, given], dim=1)) * self.in_use,
            prepared["start"],
            condition,
        )

    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores decoded from z_0 and z by the affine part alone, without their mean.

        The component of the features orthogonal to the axes does not depend on z and is left out.
        So is the inverse of the flow: lambda keeps the difference between z_0 and z small, so it
        would hardly change the error, but its columns must be computed one after another at each
        training step.
        """
        # The whitening is computed again for each batch: stored for all cells, it would need ten
        # times the memory of the representations.
        with torch.no_grad():
            whitening = self.conditional(condition)
        centred = Whitening(torch.zeros_like(specific), whitening.log_scale, whitening.cholesky)
        return centred.unwhiten(prepared["start"] * self.std), centred.unwhiten(specific * self.std)

    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct features from the regression and the axes, without the refinement."""
        return map_parts(self._decode_closed, specific, condition)

    def _decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        whitened = self.flow.inverse(specific * self.std + self.mean, condition)
        scores = self.conditional(condition).unwhiten(whitened)
        return self.baseline(condition) + self.principal.inverse(scores)
