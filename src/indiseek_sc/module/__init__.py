"""The module of the model, its settings, and the networks computed from its representations."""

from __future__ import annotations

from indiseek_sc.losses import Independence
from indiseek_sc.module._module import COVARIATE_KEYS, IndiSeekModule, set_trainable
from indiseek_sc.module._outputs import JointLatent, ModalityPredictor, Units
from indiseek_sc.module._settings import Architecture, Optimisation, Preset, Settings, make_settings

__all__ = [
    "COVARIATE_KEYS",
    "Architecture",
    "Independence",
    "IndiSeekModule",
    "JointLatent",
    "ModalityPredictor",
    "Optimisation",
    "Preset",
    "Settings",
    "Units",
    "make_settings",
    "set_trainable",
]
