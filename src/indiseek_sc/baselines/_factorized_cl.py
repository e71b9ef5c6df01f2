"""FactorizedCL: independence within a modality, and completeness by a contrastive loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from indiseek_sc.baselines._clip import CLIP_SETTINGS, UnitModule
from indiseek_sc.baselines._encoder_decoders import TrainedEncoderDecoder
from indiseek_sc.baselines._views import augment, contrast_error
from indiseek_sc.model import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.nn import NamedModules, SpecificEncoderDecoder

LATENT_NOISE = 0.1
"""Standard deviation of the noise added in training to a standardised representation."""


class FactorizedCLModule(UnitModule):
    """Stage 2 of FactorizedCL."""

    encoder_decoders: NamedModules[Role, TrainedEncoderDecoder]

    def _make_encoder_decoder(self, role: Role) -> SpecificEncoderDecoder:
        a, sizes = self.architecture, (self.n_features[role], self.n_condition, self.n_specific[role])
        return TrainedEncoderDecoder(*sizes, a.n_hidden, n_layers=a.n_layers, reads_condition=False, standardize=True)

    def encode_prepared(self, role: Role, cells: Mapping[str, Tensor]) -> Tensor:
        """Return the specific representation, with noise in training.

        Without noise, its mutual information with another function of X is infinite.
        """
        specific = super().encode_prepared(role, cells)
        return specific + LATENT_NOISE * torch.randn_like(specific) if self.training else specific

    def specific_terms(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the bound of the critic, in nats, and ``error``.

        The latter is the contrastive loss between joint representations of two views.
        """
        encoder_decoder = self.encoder_decoders[role]
        view = augment(cells["features"], encoder_decoder.center, encoder_decoder.spread)
        augmented = {"features": view, "condition": self.condition_of(role, view, cells["condition"])}
        specific = self.encode_prepared(role, cells)
        bounds = self.critics[role].bounds(specific, cells["against"])
        joint = self._join(specific, cells["condition"])
        joint_view = self._join(self.encode_prepared(role, augmented), augmented["condition"])
        return {
            **{f"{name}_bound": bound for name, bound in bounds.items()},
            "error": contrast_error(joint, joint_view),
        }

    def _join(self, specific: Tensor, condition: Tensor) -> Tensor:
        return torch.cat([specific, condition[:, : self.n_shared]], dim=1)


class FactorizedCL(IndiSeek):
    r"""FactorCL (Liang et al. 2023, arXiv 2306.05268) in two stages.

    The adaptation is that of IndiSeek's paper (arXiv 2509.21584). Stage 1 is that of :class:`CLIP`.
    Stage 2 is, for each modality,

    .. math::

        \min\; I_{\mathrm{NCE\text{-}CLUB}}(Z_i; C_i)
        + \frac{\lambda}{2}\, \frac{1}{\log n}\, \mathcal L_{\mathrm{InfoNCE}}\big((Z_i, C_i),
        (Z_i', C_i')\big),

    with independence of the *own* shared representation, estimated by a critic on concatenated
    pairs; a prime denotes representations of an augmented view of the cell. Small noise is added to
    :math:`Z_i` in training, because :math:`Z_i` and :math:`C_i` are functions of the same features.
    There is no decoder; one is fitted to the final representations for
    :meth:`~indiseek_sc.IndiSeek.get_reconstruction` and the joint representation.

    The original FactorCL trains shared and unique representations together, also with the unique
    ones against the *other* modality, and conditions on augmentations or labels. The adaptation in
    the paper does not specify the augmentation, the noise (here a standard deviation of .1 of the
    standardised representation), the temperature (here .07), or widths and lengths of training.
    The remaining settings here are 16 dimensions, two hidden layers of 256 units, a critic with two
    layers of 64 units, batches of 128 since the critic evaluates every pair, and five critic steps
    per encoder step. The InfoNCE loss of the critic is symmetric here and one-sided in the sources.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import FactorizedCL
    >>> FactorizedCL.setup_mudata(mdata)
    >>> FactorizedCL(mdata).settings.architecture.independence
    'nce_concatenated'
    """

    _module_cls = FactorizedCLModule
    _changed_settings: ClassVar[dict[str, Any]] = {
        **CLIP_SETTINGS,
        "independence": "nce_concatenated",
        "against": "own",
        "lambda_": 10.0,
        "specific_batch_size": 128,
        "n_critic_steps": 5,
        "n_critic_warmup_steps": 50,
        "max_epochs_specific": 12,
    }
