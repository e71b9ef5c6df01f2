"""HTML report of the representations and the model that computed them."""

from __future__ import annotations

from indiseek_sc.report._compute import COMPONENTS
from indiseek_sc.report._dimensions import summarize_dimensions
from indiseek_sc.report._facts import Material, ModelFacts, collect_facts, select_training_curves
from indiseek_sc.report._write import check_latents, write_report

__all__ = [
    "COMPONENTS",
    "Material",
    "ModelFacts",
    "check_latents",
    "collect_facts",
    "select_training_curves",
    "summarize_dimensions",
    "write_report",
]
