"""The module: everything of a model that has weights."""

from __future__ import annotations

from indiseek_sc.losses import Independence
from indiseek_sc.module._modality_predictor import Units
from indiseek_sc.module._module import IndiSeekModule, set_trainable
from indiseek_sc.module._settings import Preset, Settings, change_settings, make_settings
from indiseek_sc.module._transforms import FeatureTransform, InputKind, build_transform

__all__ = [
    "FeatureTransform",
    "Independence",
    "IndiSeekModule",
    "InputKind",
    "Preset",
    "Settings",
    "Units",
    "build_transform",
    "change_settings",
    "make_settings",
    "set_trainable",
]
