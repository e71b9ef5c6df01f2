"""InfoDisen: the two stages of DisentangledSSL."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from indiseek_sc._keys import ROLES, other
from indiseek_sc.baselines._clip import CLIP_SETTINGS, UnitModule
from indiseek_sc.baselines._encoder_decoders import TrainedEncoderDecoder
from indiseek_sc.baselines._views import TEMPERATURE, augment, contrast_error
from indiseek_sc.losses import info_nce
from indiseek_sc.model import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.nn import NamedModules, SpecificEncoderDecoder

BETA = 0.1
"""Weight of the alignment of mean directions in stage 1; the source's value for synthetic data."""

KAPPA = 1000.0
"""Concentration of a shared representation around its mean direction."""


class InfoDisenModule(UnitModule):
    """Module for both stages of DisentangledSSL."""

    encoder_decoders: NamedModules[Role, TrainedEncoderDecoder]

    def reset_shared(self, n_active: int | None = None) -> None:
        """Initialise new encoders for stage 1; the temperature is fixed."""
        super().reset_shared(n_active)
        self.log_scale.data.fill_(-math.log(TEMPERATURE))

    def shared_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the unweighted terms of stage 1.

        These are ``info_nce`` of sampled representations and ``distance`` of their mean directions.
        """
        means = [self.shared(role, cells[role]) for role in ROLES]
        drawn = [draw_direction(mean, KAPPA) for mean in means] if self.training else means
        return {
            "info_nce": info_nce(drawn[0], drawn[1], self.log_scale.detach()),
            "distance": -(means[0] * means[1]).sum(dim=1).mean(),
        }

    def shared_objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms of stage 1."""
        return terms["info_nce"] + BETA * terms["distance"]

    def _make_encoder_decoder(self, role: Role) -> SpecificEncoderDecoder:
        a, sizes = self.architecture, (self.n_features[role], self.n_condition, self.n_specific[role])
        return TrainedEncoderDecoder(*sizes, a.n_hidden, n_layers=a.n_layers, reads_condition=True, standardize=False)

    def prepare_specific(
        self, role: Role, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the fixed inputs of stage 2.

        Both modalities are needed, since the joint representation contains the other modality's C.
        """
        prepared = super().prepare_specific(role, features, conditions)
        return prepared | {"other_features": features[other(role)], "other_condition": conditions[other(role)]}

    def specific_terms(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the independence term, and ``error``.

        The latter is the contrastive loss between joint representations of two views.
        """
        view = self._view(role, cells)
        specific, specific_view = self.encode_prepared(role, cells), self.encode_prepared(role, view)
        bounds = self.critics[role].bounds(specific, cells["against"])
        bounds_view = self.critics[role].bounds(specific_view, view["against"])
        joint = self._join(specific, cells["other_condition"])
        return {
            **{f"{name}_bound": (bound + bounds_view[name]) / 2 for name, bound in bounds.items()},
            "error": contrast_error(joint, self._join(specific_view, view["other_condition"])),
        }

    def _view(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return an augmented view of prepared cells with its shared representations."""
        view: dict[str, Tensor] = {}
        for name, player in (("", role), ("other_", other(role))):
            encoder_decoder = self.encoder_decoders[player]
            features = augment(cells[f"{name}features"], encoder_decoder.center, encoder_decoder.spread)
            condition = self.condition_of(player, features, cells[f"{name}condition"])
            view |= {f"{name}features": features, f"{name}condition": condition}
        return view | {"against": view["condition" if self.architecture.against == "own" else "other_condition"]}

    def _join(self, specific: Tensor, other_condition: Tensor) -> Tensor:
        return torch.cat([specific, F.normalize(other_condition[:, : self.n_shared], dim=1)], dim=1)


def draw_direction(mean: Tensor, kappa: float) -> Tensor:
    """Sample unit vectors around mean directions, with gradients.

    For large ``kappa``, a von Mises-Fisher distribution is a Gaussian of variance 1 / kappa in the
    tangent space of the sphere, which is sampled here. Normalisation removes the radial part up to
    terms of order 1 / kappa.

    Parameters
    ----------
    mean
        Unit vectors, shape ``(n_cells, n_dimensions)``.
    kappa
        Concentration.
    """
    return F.normalize(mean + torch.randn_like(mean) / math.sqrt(kappa), dim=1)


class InfoDisen(IndiSeek):
    r"""DisentangledSSL (Wang et al. 2024, arXiv 2410.23996), called InfoDisen in IndiSeek's paper.

    Step 1 is InfoNCE at a temperature of .07 on unit representations sampled around mean directions
    (von Mises-Fisher, :math:`\kappa = 1000`), plus :math:`\beta` times the mean of
    :math:`-\cos(\mu_1, \mu_2)`. Step 2 is, for each modality, with :math:`Z_i = h_i(X_i, C_i)`,

    .. math::

        \min\; \Big\| \sum_n \frac{z_n}{\|z_n\|} \frac{c_n^\top}{\|c_n\|} \Big\|_F
        + \frac{\lambda}{2}\, \frac{1}{\log n}\, \mathcal L_{\mathrm{InfoNCE}}\big((Z_i, C_{3-i}),
        (Z_i', C_{3-i}')\big),

    with independence of the *own* shared representation, averaged over a cell and an augmented view
    of it; a prime denotes representations of that view. Only the encoder is trained. There is no
    decoder; one is fitted to the final representations for
    :meth:`~indiseek_sc.IndiSeek.get_reconstruction` and the joint representation.

    Here :math:`\lambda` weights completeness as in all methods of this package; in the source it
    weights independence, as :math:`2 \log n / \lambda` does here. Losses, temperature,
    :math:`\kappa`, :math:`\beta = .1`, batches of 256, and cosine decay in step 2 are those of the
    source. The following differs from the source: 16 dimensions instead of 100, two hidden layers
    of 256 units instead of 512, a learning rate of 1e-3 instead of 1e-4 with fewer steps, early
    stopping instead of decay in step 1, augmentation in units of each feature's standard deviation
    (a tenth of the features dropped, noise of a tenth), no augmentation in step 1, constant
    :math:`\beta` and :math:`\lambda` in training, and shared representations of unit length in
    step 2 as well.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import InfoDisen
    >>> InfoDisen.setup_mudata(mdata)
    >>> InfoDisen(mdata).settings.architecture.independence
    'orthogonality'
    """

    _module_cls = InfoDisenModule
    _changed_settings: ClassVar[dict[str, Any]] = {
        **CLIP_SETTINGS,
        "independence": "orthogonality",
        "against": "own",
        "lambda_": 100.0,
        "batch_size": 256,
        "specific_batch_size": 256,
        "max_epochs_specific": 100,
    }
