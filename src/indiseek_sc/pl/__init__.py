"""Figures of a trained model, its representations and its audit, as wide as a column or a page of a journal. Nothing is computed here: what is missing, an error says how to make."""

from indiseek_sc.pl._attribution import attribution
from indiseek_sc.pl._audit import AUDIT_AIMS, audit, prediction, retrieval
from indiseek_sc.pl._clusters import cluster_agreement, cluster_splits
from indiseek_sc.pl._dimensions import dimensions
from indiseek_sc.pl._feature_importance import feature_importance
from indiseek_sc.pl._importance import importance_ranking
from indiseek_sc.pl._rank_correlation import rank_correlation
from indiseek_sc.pl._style import COLUMN, DPI, PAGE, PALETTE, STYLE, display_name, finish
from indiseek_sc.pl._training import history, lambda_path
from indiseek_sc.pl._umap import umap

__all__ = [
    "AUDIT_AIMS",
    "COLUMN",
    "DPI",
    "PAGE",
    "PALETTE",
    "STYLE",
    "attribution",
    "audit",
    "cluster_agreement",
    "cluster_splits",
    "feature_importance",
    "dimensions",
    "display_name",
    "finish",
    "lambda_path",
    "history",
    "importance_ranking",
    "prediction",
    "rank_correlation",
    "retrieval",
    "umap",
]
