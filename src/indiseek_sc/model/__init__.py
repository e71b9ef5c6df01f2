"""The model class: the only place that sees both MuData and torch."""

from __future__ import annotations

from indiseek_sc.model._model import IndiSeek

__all__ = ["IndiSeek"]
