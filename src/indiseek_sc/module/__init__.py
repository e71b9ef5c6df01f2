"""The module: everything of a model that has weights."""

from __future__ import annotations

from indiseek_sc.module._module import IndiSeekModule, set_trainable
from indiseek_sc.module._settings import Preset, Settings, make_settings
from indiseek_sc.module._transforms import FeatureTransform, InputKind, build_transform

__all__ = [
    "FeatureTransform",
    "IndiSeekModule",
    "InputKind",
    "Preset",
    "Settings",
    "build_transform",
    "make_settings",
    "set_trainable",
]
