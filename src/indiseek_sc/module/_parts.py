"""What a module is made of, and how parts are made anew."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scvi.module.base import BaseModuleClass
from torch import nn

from indiseek_sc._keys import ROLES, other
from indiseek_sc.losses import make_critic
from indiseek_sc.module._joint_code import JointCode
from indiseek_sc.module._modality_predictor import ModalityPredictor
from indiseek_sc.nn import (
    BatchOffsets,
    CanonicalRotation,
    ConditionalCodec,
    CrossPredictor,
    FeatureTransform,
    NamedModules,
    PlainCodec,
    SharedEncoder,
    SpecificCodec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.losses import CriticSum
    from indiseek_sc.module._settings import Settings


class ModuleParts(BaseModuleClass):
    """The parts of both modalities that have weights or buffers.

    Parameters
    ----------
    transforms
        The feature transform of each role.
    settings
        What the networks are made of.
    n_batches
        Number of batches, 1 if there are none to tell apart.
    """

    batch_shares: torch.Tensor
    """Share of the training cells in each batch, shape ``(n_batches,)``."""

    frozen_in_specific: tuple[str, ...] = ("transforms", "batch_offsets", "encoders", "predictors", "rotations")
    """Parts that stage 2 must not change."""

    def __init__(self, transforms: Mapping[Role, FeatureTransform], settings: Settings, n_batches: int = 1) -> None:
        super().__init__()
        self.settings = settings
        self.n_batches = n_batches
        self.transforms = NamedModules(transforms)
        self.n_features = {role: self.transforms[role].n_output for role in ROLES}
        self.batch_offsets = NamedModules({role: BatchOffsets(n_batches, self.n_features[role]) for role in ROLES})
        self.register_buffer("batch_shares", torch.full((n_batches,), 1 / n_batches))
        self.n_shared = (
            min(settings.n_shared, *self.n_features.values()) if settings.linear_start else settings.n_shared
        )
        self.n_condition = self.n_shared + (n_batches if n_batches > 1 else 0)
        self.n_specific = {role: self._count_specific(role) for role in ROLES}
        self.frozen: tuple[str, ...] = ()
        self.reset_shared()
        self.reset_specific()
        self.joint = JointCode(*(self.n_features[role] for role in ROLES))
        # There from the start, so that a state dict fits whether or not a prediction was asked for before it was saved.
        self.modality_predictors = NamedModules({role: self._make_modality_predictor(role) for role in ROLES})

    @property
    def takes_out_batches(self) -> bool:
        """Whether there are batches, and what they add to features is taken out."""
        return self.n_batches > 1 and self.settings.batch_offsets

    def reset_shared(self, n_active: int | None = None) -> None:
        """Make new encoders of stage 1, with all or the first ``n_active`` columns of their codes in use."""
        self.encoders = NamedModules({role: self._make_encoder(role, n_active) for role in ROLES})
        self.rotations = NamedModules({role: CanonicalRotation(self.n_shared) for role in ROLES})
        predicts = self.settings.prediction_weight > 0
        self.predictors = NamedModules({role: self._make_predictor(role) for role in ROLES} if predicts else {})
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def reset_specific(self, *, keep_critics: bool = False) -> None:
        """Make new codecs and, unless they are to go on from where they are, new critics of stage 2."""
        self.codecs = NamedModules({role: self._make_codec(role) for role in ROLES})
        if not keep_critics:
            self.critics = NamedModules({role: self._make_critic(role) for role in ROLES})

    def refresh_critics(self) -> None:
        """Give the critics new weights, in place, so that an optimiser keeps hold of them."""
        for role in ROLES:
            self.critics[role].load_state_dict(self._make_critic(role).state_dict())

    @property
    def critics_learn(self) -> bool:
        """Whether any critic has parameters to train."""
        return any(critic.learns for critic in self.critics.values())

    def learners(self) -> list[nn.Module]:
        """Return the parts that learn while the critics judge."""
        return [self.codecs[role].learner for role in ROLES]

    def _count_specific(self, role: Role) -> int:
        s = self.settings
        return min(s.n_specific, self.n_features[role]) if s.conditional_codec else s.n_specific

    def _make_encoder(self, role: Role, n_active: int | None = None) -> SharedEncoder:
        s = self.settings
        return SharedEncoder(
            self.n_features[role],
            self.n_shared,
            s.n_hidden,
            s.n_layers,
            dropout=s.dropout,
            linear_start=s.linear_start,
            activation="gelu" if s.linear_start else "relu",
            n_active=n_active,
        )

    def _make_predictor(self, role: Role) -> CrossPredictor:
        return CrossPredictor(self.n_shared, self.n_features[other(role)], self.settings.n_hidden)

    def _make_codec(self, role: Role) -> SpecificCodec:
        s, sizes = self.settings, (self.n_features[role], self.n_condition, self.n_specific[role])
        if s.conditional_codec:
            return ConditionalCodec(*sizes)
        return PlainCodec(*sizes, s.n_hidden, n_layers=s.n_layers, standardize=s.standardize)

    def _make_modality_predictor(self, source: Role) -> ModalityPredictor:
        return ModalityPredictor(self.n_condition + self.n_features[source], self.transforms[other(source)])

    def _make_critic(self, role: Role) -> CriticSum:
        return make_critic(self.settings.independence, self.n_specific[role], self.n_condition)
