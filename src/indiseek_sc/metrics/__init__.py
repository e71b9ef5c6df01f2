"""Metrics on plain arrays: evaluation of representations, and modality importance."""

from indiseek_sc.metrics._audit import AUDIT_MEASURES, AUDIT_PAIR_MEASURES, AuditReport, SpecificAuditor, audit
from indiseek_sc.metrics._batch_mixing import batch_mixing
from indiseek_sc.metrics._checks import first_of
from indiseek_sc.metrics._clusters import check_split_minima, cluster_agreement, cluster_splits
from indiseek_sc.metrics._dimensions import ALL_COVARIATES, explained_variance, label_use
from indiseek_sc.metrics._directions import add_noise_floor, flat_directions
from indiseek_sc.metrics._estimates import Estimates, combine_refits
from indiseek_sc.metrics._feature_importance import (
    FeatureImportance,
    mean_squared_jacobian,
    permutation_importance,
    probe_r2,
)
from indiseek_sc.metrics._information import LabelInformation, label_information
from indiseek_sc.metrics._lambda_path import LambdaChoice, LambdaPath, choose_lambda
from indiseek_sc.metrics._prediction import (
    PredictionReport,
    evaluate_prediction,
    interval_coverage,
    pearson_per_cell,
    pearson_per_feature,
    root_mean_squared_error,
)
from indiseek_sc.metrics._probes import PROBES, held_out_r2, limit_threads
from indiseek_sc.metrics._rank_correlation import FEWEST_LABELS, RankCorrelation, rank_correlation
from indiseek_sc.metrics._recovery import factor_recovery, label_accuracy
from indiseek_sc.metrics._refits import Refit, ReplicatedImportance, replicated_importance
from indiseek_sc.metrics._retrieval import check_numbers_of_candidates, foscttm, median_rank, recall_at_k, retrieval
from indiseek_sc.metrics._theta import ModalityImportance, label_purity, modality_importance, smooth_over_neighbors
from indiseek_sc.metrics._transfer import transfer_labels
from indiseek_sc.metrics._wnn_neighbors import WnnNeighbors, shared_neighbors, wnn_neighbors
from indiseek_sc.metrics._wnn_weights import WnnSearch, wnn_weights

__all__ = [
    "ALL_COVARIATES",
    "AUDIT_MEASURES",
    "AUDIT_PAIR_MEASURES",
    "FEWEST_LABELS",
    "PROBES",
    "AuditReport",
    "Estimates",
    "FeatureImportance",
    "LabelInformation",
    "LambdaChoice",
    "LambdaPath",
    "ModalityImportance",
    "PredictionReport",
    "RankCorrelation",
    "Refit",
    "ReplicatedImportance",
    "SpecificAuditor",
    "WnnNeighbors",
    "WnnSearch",
    "audit",
    "batch_mixing",
    "check_numbers_of_candidates",
    "check_split_minima",
    "choose_lambda",
    "cluster_agreement",
    "cluster_splits",
    "explained_variance",
    "combine_refits",
    "factor_recovery",
    "first_of",
    "flat_directions",
    "foscttm",
    "held_out_r2",
    "interval_coverage",
    "evaluate_prediction",
    "label_accuracy",
    "label_information",
    "label_purity",
    "label_use",
    "mean_squared_jacobian",
    "median_rank",
    "modality_importance",
    "pearson_per_cell",
    "pearson_per_feature",
    "permutation_importance",
    "probe_r2",
    "rank_correlation",
    "recall_at_k",
    "replicated_importance",
    "retrieval",
    "root_mean_squared_error",
    "limit_threads",
    "shared_neighbors",
    "smooth_over_neighbors",
    "add_noise_floor",
    "transfer_labels",
    "wnn_neighbors",
    "wnn_weights",
]
