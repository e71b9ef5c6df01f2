"""Separate shared from modality-specific variation in two single-cell modalities."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indiseek_sc import baselines, datasets, io, metrics, pl, tl
    from indiseek_sc._settings import settings
    from indiseek_sc.io import read
    from indiseek_sc.model import IndiSeek

__all__ = ["IndiSeek", "baselines", "datasets", "io", "metrics", "pl", "read", "settings", "tl"]

__version__ = version("indiseek_sc")


def __getattr__(name: str) -> Any:
    """Import subpackages on first access.

    torch and scvi-tools take seconds to import, and ``indiseek-sc --help`` needs neither.
    """
    if name == "IndiSeek":
        return import_module("indiseek_sc.model").IndiSeek
    if name == "read":
        return import_module("indiseek_sc.io").read
    if name == "settings":
        return import_module("indiseek_sc._settings").settings
    if name in __all__:
        return import_module(f"indiseek_sc.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
