"""Split what two single-cell modalities share from what each alone knows."""

from __future__ import annotations

from importlib.metadata import version

from indiseek_sc import datasets, metrics, pl, tl
from indiseek_sc.model import IndiSeek

__all__ = ["IndiSeek", "datasets", "metrics", "pl", "tl"]

__version__ = version("indiseek_sc")
