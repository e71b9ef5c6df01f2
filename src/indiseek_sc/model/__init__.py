"""The model class and what its methods return."""

from __future__ import annotations

import indiseek_sc._accessor  # registers mdata.indiseek
from indiseek_sc.model._model import IndiSeek
from indiseek_sc.model._prediction import ModalityPrediction
from indiseek_sc.model._run_stages import Stage
from indiseek_sc.model._stages import NEW_ENCODERS
from indiseek_sc.model._training import TrainingOutcome
from indiseek_sc.train import EarlyEndWarning

__all__ = ["EarlyEndWarning", "NEW_ENCODERS", "IndiSeek", "ModalityPrediction", "Stage", "TrainingOutcome"]
