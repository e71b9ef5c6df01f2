"""The encoder and decoder pairs of stage 2."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from indiseek_sc.nn._flow import ConditionalSpline
from indiseek_sc.nn._linear import PrincipalMap, RidgeMap
from indiseek_sc.nn._networks import Activation, last_layer, make_mlp
from indiseek_sc.nn._parts import map_parts
from indiseek_sc.nn._whitening import ConditionalWhitening, Whitening

if TYPE_CHECKING:
    from collections.abc import Mapping


class SpecificEncoderDecoder(nn.Module, ABC):
    """Encodes features to a specific representation, and decodes that with the condition: own shared representation, and batch if there is one.

    ``error_scale`` is what the reconstruction error is measured against, in squared units of the features.
    """

    error_scale: Tensor
    standardize: nn.Module
    refinement: nn.Module
    START: ClassVar[tuple[str, ...]] = ("error_scale",)
    """Parts that are set before critics speak; see :meth:`start_state`."""

    is_refined = False
    """Whether a part ``refinement`` of the decoder is trained after the critics have judged."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("error_scale", torch.ones(()))

    @property
    @abstractmethod
    def used(self) -> Tensor:
        """Numbers of the columns of the representation that are in use, shape ``(n_used,)``; the others are 0."""

    @property
    def n_used(self) -> int:
        """Number of dimensions of the representation that are in use."""
        return len(self.used)

    @property
    def learner(self) -> nn.Module:
        """The part that learns while the critics judge."""
        return self

    @abstractmethod
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Set from training cells all that has a closed form; ``n_shared`` directions of the condition are shared representation."""

    @abstractmethod
    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Compute once what stays fixed while the critics judge, one row a cell."""

    def encode(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        """Encode, shape ``(n_cells, n_specific)``. In training mode statistics are those of the batch."""
        return self.standardize(self._raw(prepared, condition))

    @abstractmethod
    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is to be reconstructed and what the representation reconstructs of it, both ``(n_cells, n_columns)``."""

    def start_state(self) -> dict[str, Tensor]:
        """Return a copy of the state before critics spoke; loaded into a new encoder-decoder, it brings that to the same start."""
        state = self.state_dict()
        return {name: x.clone() for name, x in state.items() if name.partition(".")[0] in self.START}

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Encode features, shape ``(n_cells, n_features)``."""
        return self.encode(self.prepare(features, condition), condition)

    def decode(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct features, shape ``(n_cells, n_features)``, from both representations and nothing else."""
        return map_parts(
            lambda latent, known: self.refine(self.decode_closed(latent, known), latent, known), specific, condition
        )

    @abstractmethod
    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct as :meth:`decode`, without what a part ``refinement`` adds."""

    def refine(self, closed: Tensor, specific: Tensor, condition: Tensor) -> Tensor:
        """Add the refinement, if there is one, to what :meth:`decode_closed` returns."""
        return closed + self.refinement(torch.cat([specific, condition], dim=1)) if self.is_refined else closed

    def start_decoder(self, features: Tensor, specific: Tensor, condition: Tensor) -> None:
        """Set from training cells what has a closed form in the decoder, once the specific representations are there."""

    @torch.no_grad()
    def freeze_statistics(self, prepared: Mapping[str, Tensor], condition: Tensor) -> None:
        """Set the statistics that standardise the representation to those of the training cells."""
        if isinstance(self.standardize, nn.BatchNorm1d):
            values = self._raw(prepared, condition)
            statistics = {"running_mean": values.mean(dim=0), "running_var": values.var(dim=0, correction=0)}
            self.standardize.load_state_dict(statistics, strict=False)

    @abstractmethod
    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        """Return the representation before it is standardised."""


class PlainEncoderDecoder(SpecificEncoderDecoder):
    """An encoder and a decoder that start at random, as published.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Columns of the condition.
    n_specific
        Width of the representation.
    n_hidden
        Width of the hidden layers.
    n_layers
        Number of hidden layers.
    activation
        Nonlinearity.
    standardize
        Standardise the representation. The published recipe does not, which lets it shrink or grow to please a critic.
    """

    def __init__(
        self,
        n_features: int,
        n_condition: int,
        n_specific: int,
        n_hidden: int = 50,
        *,
        n_layers: int = 5,
        activation: Activation = "relu",
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = make_mlp(n_features, n_specific, n_hidden, n_layers=n_layers, activation=activation)
        self.decoder = make_mlp(
            n_specific + n_condition, n_features, n_hidden, n_layers=n_layers, activation=activation
        )
        # Deep ReLU networks start near a width of 1e-3: added to such a variance, the usual 1e-5 lets the representation shrink again.
        self.standardize = nn.BatchNorm1d(n_specific, eps=1e-12, affine=False) if standardize else nn.Identity()

    @property
    def used(self) -> Tensor:
        """All columns."""
        return torch.arange(last_layer(self.encoder).out_features, device=self.error_scale.device)

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Measure the total variance of the features."""
        self.error_scale.copy_(features.var(dim=0, correction=0).sum().clamp(min=1e-12))

    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return the features."""
        return {"features": features}

    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        return self.encoder(prepared["features"])

    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and their reconstruction."""
        return prepared["features"], self.decode(specific, condition)

    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct; there is no refinement."""
        return self.decoder(torch.cat([specific, condition], dim=1))


NEGLIGIBLE_SHARE = 1e-4
"""Axes with less than this share of the variance of the features are left out of the specific representation."""

CELLS_PER_DIMENSION = 50
"""Training cells that each dimension of the specific representation asks for."""

FEWEST = 10
"""So many dimensions there may be, however few the cells."""

IDLE_SHARE = 0.2
"""A dimension may be left out if it brings less to a reconstruction than this share of what the average of those left brings."""

MOST_IDLE = 0.1
"""So much of what all dimensions bring may be left out, and no more."""


class ConditionalEncoderDecoder(SpecificEncoderDecoder):
    r"""Conditional whitening, corrected by a small network. This design is ours, not the paper's.

    With :math:`c` the condition, :math:`b(c)` a ridge regression of the features :math:`x`, and :math:`V` the first principal
    axes of what it leaves,

    .. math::

        r = V^\top (x - b(c)), \qquad w = L(c)\,\frac{r - \mu(c)}{\sigma(c)} - m(c), \qquad z_0 = h(w; c), \qquad
        z = \operatorname{standardize}\big(z_0 + f(z_0, c)\big), \\
        \hat x = b(c) + V \big(\mu(c) + \sigma(c)\, L(c)^{-1} (h^{-1}(z; c) + m(c))\big) + g(z, c),

    where :math:`\mu, \sigma, m` and :math:`L`, lower triangular with a diagonal of 1, are fitted in closed form
    (:class:`~indiseek_sc.nn.ConditionalWhitening`). :math:`w` has
    the same conditional mean, variances and correlations for every :math:`c`, and :math:`h`
    (:class:`~indiseek_sc.nn.ConditionalSpline`) gives it the same shape. So little is left for the critics,
    which train :math:`f` from zero; :math:`g` starts at zero too. Since the axes are sorted, and :math:`L` and the Jacobian of
    :math:`h` are triangular, the first dimension of :math:`z` goes with the widest axis, and each further one with what those
    before leave of its own. Fit order: :meth:`fit`, then training of ``conditional``, of ``shape``, of ``correction``, and of
    ``refinement``.

    A shared representation is a function of the features, so with :math:`k` directions of it given, the features have about as many
    degrees of freedom left as they have more columns than :math:`k`. A wider :math:`z` would consist of rounding and misfit,
    which tell the shared representation. So there are at most that many axes, and of few cells no more than they can tell apart; the others are
    columns of 0. For the same reason dimensions that
    bring next to nothing to a reconstruction are left out by :meth:`fit_whitening`: scaled to a variance
    of 1, they would be noise and what the regression missed of the mean. :attr:`used` are those that are left.

    Parameters
    ----------
    n_features
        Number of features.
    n_condition
        Columns of the condition.
    n_specific
        Width of the representation, at most ``n_features``.
    n_hidden
        Width of the hidden layers.
    n_linear
        So many of the last columns of the condition, such as indicators of batches, have linear effects alone in the whitening.
    """

    in_use: Tensor
    mean: Tensor
    std: Tensor
    START = (
        *SpecificEncoderDecoder.START,
        "baseline",
        "principal",
        "conditional",
        "in_use",
        "flow",
        "mean",
        "std",
    )

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
        """Numbers of the columns of the representation that are in use."""
        return self.in_use.nonzero()[:, 0]

    @property
    def learner(self) -> nn.Module:
        """The correction."""
        return self.correction

    @torch.no_grad()
    def fit(self, features: Tensor, condition: Tensor, n_shared: int = 0) -> None:
        """Fit the regression, the axes of its residual, and their overall scale."""
        self.baseline.fit(condition, features)
        variances = features.var(dim=0, correction=0)
        n_varying = int((variances > 0).sum())  # components that were not kept are columns of 0
        n_largest = min(max(n_varying - n_shared, 1), max(len(features) // CELLS_PER_DIMENSION, FEWEST))
        # Standardised, an axis that holds next to nothing would be all rounding and misfit.
        negligible = NEGLIGIBLE_SHARE * variances.sum()
        self.principal.fit(
            features,
            condition,
            columns=lambda x, known: x - self.baseline(known),
            n_largest=n_largest,
            smallest_variance=negligible,
        )
        scores = self.scores(features, condition)
        # What Z can hold at all is the measure of what it loses, so that lambda means the same wherever little is left.
        self.error_scale.copy_(scores.var(dim=0, correction=0).sum().clamp(min=1e-12))

    @torch.no_grad()
    def fit_whitening(self, features: Tensor, condition: Tensor, n_fit: int) -> None:
        r"""Fit the whitening on the first ``n_fit`` cells, with penalties chosen by the others, and leave out dimensions that bring next to nothing.

        What dimension :math:`j` brings is :math:`E\,\sigma_j^2(c)`, the variance of its axis that neither the condition nor the dimensions
        before it explain. Those that bring less than a fifth of what the average of those left brings are left out, unless all of them together
        bring more than a tenth of the whole.
        """
        self.conditional.fit(self.scores(features, condition), condition, n_fit)
        brought = (2 * self.conditional(condition[:n_fit]).log_scale).exp().mean(dim=0) * self.conditional.varies
        sizes, order = brought.sort(descending=True)
        kept = sizes.cumsum(dim=0)
        least = IDLE_SHARE * kept / torch.arange(1, len(sizes) + 1, device=sizes.device)
        largest_idle = torch.cat([sizes[1:], sizes.new_zeros(1)])
        is_choice = (largest_idle <= least) & (sizes > least) & (kept >= (1 - MOST_IDLE) * kept[-1])
        n_left = int(is_choice.nonzero()[-1]) + 1 if is_choice.any() else len(sizes)
        self.in_use.zero_().index_fill_(0, order[:n_left], 1.0).mul_(self.conditional.varies)
        self.flow.varies.copy_(self.in_use)

    @torch.no_grad()
    def freeze_start(self, features: Tensor, condition: Tensor) -> None:
        """Note mean and deviation of the start over the training cells, once ``shape`` is trained."""
        start = self.flow(self.whitened(features, condition), condition)
        self.mean.copy_(start.mean(dim=0))
        self.std.copy_(torch.where(self.in_use > 0, start.std(dim=0, correction=0), 1.0))

    def scores(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return r, what the linear regression leaves along the principal axes, shape ``(n_cells, n_specific)``."""
        return map_parts(lambda x, known: self.principal(x - self.baseline(known)), features, condition)

    def whitened(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return w, shape ``(n_cells, n_specific)``."""
        return map_parts(self._whiten, features, condition)

    def _whiten(self, features: Tensor, condition: Tensor) -> Tensor:
        return self.conditional(condition).whiten(self.scores(features, condition)) * self.in_use

    def prepare(self, features: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Return z_0, standardised over the training cells."""
        return {"start": map_parts(self._start, features, condition)}

    def _start(self, features: Tensor, condition: Tensor) -> Tensor:
        return (self.flow(self.whitened(features, condition), condition) - self.mean) / self.std

    def _raw(self, prepared: Mapping[str, Tensor], condition: Tensor) -> Tensor:
        return map_parts(
            lambda start, known: start + self.correction(torch.cat([start, known], dim=1)) * self.in_use,
            prepared["start"],
            condition,
        )

    def compare(self, specific: Tensor, prepared: Mapping[str, Tensor], condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores that z_0 and z decode to, less their mean: what lies across the axes no z can change.

        They are decoded by the affine part alone. Of a difference between both representations that is small, as lambda has it, the shape
        would change little but the cost: its inverse goes column by column, at each step of training.
        """
        with (
            torch.no_grad()
        ):  # anew for each batch: kept for all cells it would be ten times as much as the representations
            whitening = self.conditional(condition)
        back = Whitening(torch.zeros_like(specific), whitening.log_scale, whitening.cholesky)
        return back.unwhiten(prepared["start"] * self.std), back.unwhiten(specific * self.std)

    def decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        """Reconstruct by the regression and the axes alone, without what the refinement adds."""
        return map_parts(self._decode_closed, specific, condition)

    def _decode_closed(self, specific: Tensor, condition: Tensor) -> Tensor:
        whitened = self.flow.inverse(specific * self.std + self.mean, condition)
        scores = self.conditional(condition).unwhiten(whitened)
        return self.baseline(condition) + self.principal.inverse(scores)
