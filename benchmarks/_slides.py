"""The style of figures of benchmarks, which are wider than a page and are read from a screen."""

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
"""That of the package, with the type and lines of a slide."""
