"""Command-line interface, ``indiseek-sc``."""

from __future__ import annotations

from indiseek_sc.cli._app import app

__all__ = ["app"]
