"""Training: plans, minibatches on the device, and the fit of one stage."""

from __future__ import annotations

from indiseek_sc.train._arguments import Device, TrainerOptions, choose_device, read_trainer_kwargs
from indiseek_sc.train._batches import DeviceBatches, StageData
from indiseek_sc.train._fit import StageFit, StageProgress, fit_stage, isolated_seed, merge_history
from indiseek_sc.train._plans import RegressionPlan, SharedPlan, StagePlan
from indiseek_sc.train._specific_plan import SpecificPlan
from indiseek_sc.train._split import Rows, Split, draw_split
from indiseek_sc.train._stopping import (
    EarlyEndWarning,
    KeepBest,
    LeakProbe,
    NonFiniteLossError,
    find_negative_bounds,
    share_explained,
    warn_of_negative_bounds,
)

__all__ = [
    "Device",
    "DeviceBatches",
    "KeepBest",
    "LeakProbe",
    "NonFiniteLossError",
    "RegressionPlan",
    "Rows",
    "SharedPlan",
    "SpecificPlan",
    "Split",
    "StageData",
    "StageFit",
    "StagePlan",
    "StageProgress",
    "TrainerOptions",
    "EarlyEndWarning",
    "choose_device",
    "draw_split",
    "find_negative_bounds",
    "fit_stage",
    "isolated_seed",
    "merge_history",
    "read_trainer_kwargs",
    "share_explained",
    "warn_of_negative_bounds",
]
