"""The model class: the only place that sees both MuData and torch."""

from __future__ import annotations

from indiseek_sc.model._model import IndiSeek
from indiseek_sc.model._stages import Stages

__all__ = ["IndiSeek", "Stages"]
