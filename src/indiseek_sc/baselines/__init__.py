"""Baselines and ablations: other losses with the same data, encoders, training and audit."""

from __future__ import annotations

from indiseek_sc.baselines._ablations import IntraModal, NoCritics, NoIndependence, NoReconstruction
from indiseek_sc.baselines._clip import CLIP
from indiseek_sc.baselines._factorized_cl import FactorizedCL
from indiseek_sc.baselines._info_disen import InfoDisen
from indiseek_sc.baselines._joint_opt import JointOpt
from indiseek_sc.baselines._methods import METHODS, Method, make

__all__ = [
    "CLIP",
    "METHODS",
    "FactorizedCL",
    "InfoDisen",
    "IntraModal",
    "JointOpt",
    "Method",
    "NoCritics",
    "NoIndependence",
    "NoReconstruction",
    "make",
]
