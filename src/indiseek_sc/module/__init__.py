"""The module: everything of a model that has weights."""

from __future__ import annotations

from indiseek_sc.losses import Independence
from indiseek_sc.module._modality_predictor import Units
from indiseek_sc.module._module import IndiSeekModule, set_trainable
from indiseek_sc.module._settings import Preset, Settings, change_settings, make_settings

__all__ = [
    "Independence",
    "IndiSeekModule",
    "Preset",
    "Settings",
    "Units",
    "change_settings",
    "make_settings",
    "set_trainable",
]
