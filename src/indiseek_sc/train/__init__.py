"""Training: plans, batches that live on the device, and the runner of a stage. No loss is defined here."""

from __future__ import annotations

from indiseek_sc.train._batches import DeviceBatches, StageData
from indiseek_sc.train._keep_at import KeepAt
from indiseek_sc.train._keep_best import KeepBest, NonFiniteLossError
from indiseek_sc.train._leak_probe import LeakProbe, share_told
from indiseek_sc.train._negative_bounds import find_negative_bounds, warn_of_negative_bounds
from indiseek_sc.train._plans import RegressionPlan, SharedPlan
from indiseek_sc.train._progress import StageProgress
from indiseek_sc.train._runner import StageRunner
from indiseek_sc.train._seed import isolated_seed
from indiseek_sc.train._specific_plan import SpecificPlan
from indiseek_sc.train._split import Split, draw_split

__all__ = [
    "DeviceBatches",
    "KeepAt",
    "KeepBest",
    "LeakProbe",
    "NonFiniteLossError",
    "RegressionPlan",
    "SharedPlan",
    "SpecificPlan",
    "Split",
    "StageData",
    "StageProgress",
    "StageRunner",
    "draw_split",
    "find_negative_bounds",
    "isolated_seed",
    "share_told",
    "warn_of_negative_bounds",
]
