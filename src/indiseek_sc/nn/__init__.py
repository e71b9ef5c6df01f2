"""Networks, closed-form fits and feature transforms, in pure PyTorch, without data handling."""

from __future__ import annotations

from indiseek_sc.nn._canonical_analysis import (
    CanonicalRotation,
    LinearMap,
    chance_correlation,
    regularized_cca,
    shared_strength,
)
from indiseek_sc.nn._conditional_encoder_decoder import ConditionalEncoderDecoder
from indiseek_sc.nn._covariates import N_STATES, CovariateDesign, CovariateOffsets, Offsets
from indiseek_sc.nn._encoder_decoders import PlainEncoderDecoder, SpecificEncoderDecoder
from indiseek_sc.nn._flow import ConditionalSpline
from indiseek_sc.nn._linear import FourierRegression, PrincipalMap, RidgeMap
from indiseek_sc.nn._networks import CrossPredictor, NamedModules, SharedEncoder, last_layer, make_mlp
from indiseek_sc.nn._parts import is_out_of_memory, map_parts, take_parts
from indiseek_sc.nn._prediction import LEVELS, IntervalCalibration, PredictionHead
from indiseek_sc.nn._transforms import FeatureTransform, InputKind, Recipe, build_transform, get_recipe
from indiseek_sc.nn._whitening import ConditionalWhitening, Whitening

__all__ = [
    "LEVELS",
    "N_STATES",
    "CanonicalRotation",
    "ConditionalEncoderDecoder",
    "ConditionalSpline",
    "ConditionalWhitening",
    "CovariateDesign",
    "CovariateOffsets",
    "CrossPredictor",
    "FeatureTransform",
    "FourierRegression",
    "InputKind",
    "IntervalCalibration",
    "LinearMap",
    "NamedModules",
    "Offsets",
    "PlainEncoderDecoder",
    "PredictionHead",
    "PrincipalMap",
    "Recipe",
    "RidgeMap",
    "SharedEncoder",
    "SpecificEncoderDecoder",
    "Whitening",
    "build_transform",
    "chance_correlation",
    "get_recipe",
    "last_layer",
    "make_mlp",
    "is_out_of_memory",
    "map_parts",
    "take_parts",
    "regularized_cca",
    "shared_strength",
]
