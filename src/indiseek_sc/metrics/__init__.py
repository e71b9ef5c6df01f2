"""Arrays in, numbers out: what codes hold, what they leak, and which modality tells cell types apart."""

from indiseek_sc.metrics._accuracy import label_accuracy
from indiseek_sc.metrics._audit import SpecificAuditor, audit
from indiseek_sc.metrics._cluster_agreement import cluster_agreement
from indiseek_sc.metrics._cluster_splits import cluster_splits
from indiseek_sc.metrics._coordinates import (
    CoordinateImportance,
    mean_squared_jacobian,
    permutation_importance,
    probe_r2,
)
from indiseek_sc.metrics._importance import ModalityImportance, modality_importance
from indiseek_sc.metrics._lambda_path import LambdaChoice, LambdaPath, choose_lambda
from indiseek_sc.metrics._neighbors import label_purity
from indiseek_sc.metrics._prediction import (
    PredictionReport,
    interval_coverage,
    judge_prediction,
    pearson_per_cell,
    pearson_per_feature,
    root_mean_squared_error,
)
from indiseek_sc.metrics._rank_correlation import RankCorrelation, rank_correlation
from indiseek_sc.metrics._recovery import factor_recovery
from indiseek_sc.metrics._report import AuditReport
from indiseek_sc.metrics._retrieval import foscttm, median_rank, recall_at_k, retrieval
from indiseek_sc.metrics._wnn_weights import wnn_weights

__all__ = [
    "AuditReport",
    "LambdaChoice",
    "LambdaPath",
    "CoordinateImportance",
    "ModalityImportance",
    "PredictionReport",
    "RankCorrelation",
    "SpecificAuditor",
    "audit",
    "choose_lambda",
    "cluster_agreement",
    "cluster_splits",
    "factor_recovery",
    "foscttm",
    "interval_coverage",
    "judge_prediction",
    "label_accuracy",
    "label_purity",
    "mean_squared_jacobian",
    "median_rank",
    "modality_importance",
    "pearson_per_cell",
    "pearson_per_feature",
    "permutation_importance",
    "probe_r2",
    "rank_correlation",
    "recall_at_k",
    "retrieval",
    "root_mean_squared_error",
    "wnn_weights",
]
