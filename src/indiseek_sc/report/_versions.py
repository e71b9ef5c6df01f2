"""Versions of what the result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("indiseek_sc", "anndata", "mudata", "numpy", "scanpy", "scikit-learn", "scvi-tools", "torch", "umap-learn")
"""Those that can change the result, or what the file looks like."""


def find_versions() -> dict[str, str]:
    """Version of Python and of each package, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
