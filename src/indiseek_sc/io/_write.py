"""Writing of coded cells, whole or not at all."""

from __future__ import annotations
