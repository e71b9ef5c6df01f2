"""Networks and closed-form fits: pure torch, no data."""

from __future__ import annotations

from indiseek_sc.nn._batch_offsets import BatchOffsets
from indiseek_sc.nn._canonical_analysis import (
    CanonicalRotation,
    LinearMap,
    chance_correlation,
    regularized_cca,
    shared_strength,
)
from indiseek_sc.nn._conditional_codec import ConditionalCodec
from indiseek_sc.nn._conditional_gaussian import ConditionalGaussian
from indiseek_sc.nn._conditional_spline import ConditionalSpline
from indiseek_sc.nn._cross_predictor import CrossPredictor
from indiseek_sc.nn._fourier_regression import FourierRegression
from indiseek_sc.nn._interval_calibration import LEVELS, IntervalCalibration
from indiseek_sc.nn._mlp import last_layer, make_mlp
from indiseek_sc.nn._named_modules import NamedModules
from indiseek_sc.nn._plain_codec import PlainCodec
from indiseek_sc.nn._prediction_head import PredictionHead
from indiseek_sc.nn._principal_map import PrincipalMap
from indiseek_sc.nn._ridge import RidgeMap
from indiseek_sc.nn._shared_encoder import SharedEncoder
from indiseek_sc.nn._specific_codec import SpecificCodec
from indiseek_sc.nn._whitening import Whitening

__all__ = [
    "LEVELS",
    "BatchOffsets",
    "CanonicalRotation",
    "ConditionalCodec",
    "ConditionalGaussian",
    "ConditionalSpline",
    "CrossPredictor",
    "FourierRegression",
    "IntervalCalibration",
    "LinearMap",
    "NamedModules",
    "PlainCodec",
    "PredictionHead",
    "PrincipalMap",
    "RidgeMap",
    "SharedEncoder",
    "SpecificCodec",
    "Whitening",
    "chance_correlation",
    "last_layer",
    "make_mlp",
    "regularized_cca",
    "shared_strength",
]
