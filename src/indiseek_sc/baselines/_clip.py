"""CLIP, and the settings and modules shared by the baselines that build on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indiseek_sc.baselines._encoder_decoders import EmptyEncoderDecoder
from indiseek_sc.model import IndiSeek
from indiseek_sc.module import IndiSeekModule

if TYPE_CHECKING:
    from indiseek_sc._keys import Role
    from indiseek_sc.nn import SpecificEncoderDecoder


class UnitModule(IndiSeekModule):
    """Module with shared representations of unit length, as in the contrastive loss.

    Their dimensions are in no particular order.
    """

    def shared(self, role: Role, features: Tensor) -> Tensor:
        """Return the shared representation, shape ``(n_cells, n_shared)``, each row of length 1."""
        return F.normalize(super().shared(role, features), dim=1)

    def condition(self, role: Role, shared: Tensor, design: Tensor) -> Tensor:
        """Return the input of networks: the shared representation and the covariates.

        The shared representation is scaled to a mean square of 1.
        """
        return super().condition(role, math.sqrt(self.n_shared) * shared, design)

    def condition_of(self, role: Role, features: Tensor, condition: Tensor) -> Tensor:
        """Return the condition for ``features``, computed by the current encoders.

        Covariates are copied from ``condition``.
        """
        latent = self.rotations[role].standardize(math.sqrt(self.n_shared) * self.shared(role, features))
        return torch.cat([latent, condition[:, self.n_shared :]], dim=1)


class ClipModule(UnitModule):
    """Module without specific representations."""

    def learners(self) -> list[nn.Module]:
        """Return an empty list: in stage 2 only decoders are trained."""
        return []

    def _count_specific(self, role: Role) -> int:
        return 0

    def _make_encoder_decoder(self, role: Role) -> SpecificEncoderDecoder:
        return EmptyEncoderDecoder(self.n_features[role], self.n_condition)


CLIP_SETTINGS: dict[str, Any] = {
    "n_shared": 16,
    "within_batches": False,
    "linear_start": False,
    "info_nce_weight": 1.0,
    "canonical_weight": 0.0,
    "prediction_weight": 0.0,
    "conditional_encoder_decoder": False,
    "gate_critics": False,
    "batch_size": 1024,
    "specific_batch_size": 512,
    "learning_rate": 1e-3,
    "one_cycle": False,
    "max_epochs_shared": 400,
    "max_epochs_decoder": 60,
    "keep_least_leak": False,
    "specific_learning_rate": 1e-3,
}
"""Settings with InfoNCE alone and random initial weights in stage 1, and no early stopping in
stage 2."""


class CLIP(IndiSeek):
    """Shared representations by InfoNCE alone (Radford et al. 2021, arXiv 2103.00020).

    The temperature is learned. Specific representations have no columns, so that in the audit an
    empty :math:`Z_i` explains as much as a constant: leak and gain are 0 up to random variation of
    the probes, and features reconstructed from :math:`C_i` alone do not count as gain. ``lambda_``
    has no effect.

    This is an adaptation, since CLIP was developed for images and text: encoders are those of this
    package (two hidden layers of 256 units, dropout .4, 16 dimensions, AdamW, batches of 1,024,
    early stopping on validation cells).

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`. ``n_specific`` and ``independence`` have no effect.

    Examples
    --------
    >>> from indiseek_sc.baselines import CLIP
    >>> CLIP.setup_mudata(mdata)
    >>> CLIP(mdata).settings.architecture.n_shared
    16
    """

    _module_cls = ClipModule
    _changed_settings: ClassVar[dict[str, Any]] = {**CLIP_SETTINGS, "independence": "none"}
