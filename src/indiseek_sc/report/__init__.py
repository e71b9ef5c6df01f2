"""A report of codes and of the model that made them: one HTML file with pictures, figures, settings and words for a methods section."""

from __future__ import annotations

from indiseek_sc.report._course import count_epochs, course_of_training
from indiseek_sc.report._model_facts import ModelFacts
from indiseek_sc.report._versions import find_versions
from indiseek_sc.report._write import check_codes, write_report

__all__ = ["ModelFacts", "check_codes", "count_epochs", "course_of_training", "find_versions", "write_report"]
