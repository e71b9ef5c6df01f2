"""Style of benchmark figures, which are wider than a page and are read on a screen."""

from __future__ import annotations

from typing import Any

from indiseek_sc.pl import STYLE

DPI = 200

SLIDES: dict[str, Any] = {
    **STYLE,
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 11,
    "legend.title_fontsize": 12,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.5,
    "lines.markersize": 6,
    "patch.linewidth": 1,
}
"""The style of the package, with larger type and thicker lines."""
