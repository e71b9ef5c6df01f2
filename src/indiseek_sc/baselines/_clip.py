"""CLIP alone, and what the rivals that build on it have in common."""

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
    """Shared representations are unit vectors, as the contrastive loss sees them, in no particular directions."""

    def shared(self, role: Role, features: Tensor) -> Tensor:
        """Return the shared representation, shape ``(n_cells, n_shared)``, each row of length 1."""
        return F.normalize(super().shared(role, features), dim=1)

    def condition(self, role: Role, shared: Tensor, design: Tensor) -> Tensor:
        """Return the shared representation with a mean square of 1 as networks read it, and the covariates beside it."""
        return super().condition(role, math.sqrt(self.n_shared) * shared, design)

    def condition_of(self, role: Role, features: Tensor, condition: Tensor) -> Tensor:
        """Return the condition of features as encoders are now, with the covariates as they stand in ``condition``."""
        latent = self.rotations[role].standardize(math.sqrt(self.n_shared) * self.shared(role, features))
        return torch.cat([latent, condition[:, self.n_shared :]], dim=1)


class ClipModule(UnitModule):
    """No specific representations."""

    def learners(self) -> list[nn.Module]:
        """Nothing learns in stage 2 but the decoders."""
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
"""Stage 1 by InfoNCE alone, from a random start; stage 2 to its end."""


class CLIP(IndiSeek):
    r"""Shared representations by InfoNCE and nothing else (Radford et al. 2021, arXiv 2103.00020); the specific representations have no columns.

    The temperature is learned. In the audit an empty :math:`Z_i` tells what a constant tells, so leak and gain are 0 but for the
    probes' chance, and what is decoded from :math:`C_i` alone does not count as gain. ``lambda_`` weighs nothing here.

    A recast: the encoders are ours (two hidden layers of 256 units, dropout .4, 16 dimensions, AdamW, batches of 1,024, early
    stopping on validation cells), for CLIP itself was made for images and text.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`. ``n_specific`` and ``independence`` have no effect.
    """

    _module_cls = ClipModule
    _changed_settings: ClassVar[dict[str, Any]] = {**CLIP_SETTINGS, "independence": "none"}
