"""Figures of a trained model, its representations and its audit.

Figures are as wide as one or two columns of a journal. The functions only draw: if a result is
missing, they raise an error that names the call that computes it.
"""

from indiseek_sc.pl._attribution import attribution
from indiseek_sc.pl._audit import AUDIT_AIMS, Aim, audit, audit_aims, retrieval
from indiseek_sc.pl._clusters import cluster_agreement, cluster_splits
from indiseek_sc.pl._dimensions import dimensions
from indiseek_sc.pl._feature_importance import feature_importance
from indiseek_sc.pl._importance import importance_ranking
from indiseek_sc.pl._lambda_path import lambda_path
from indiseek_sc.pl._prediction import prediction
from indiseek_sc.pl._rank_correlation import rank_correlation
from indiseek_sc.pl._style import COLUMN, DPI, PAGE, PALETTE, STYLE, display_name, finish
from indiseek_sc.pl._training import history
from indiseek_sc.pl._umap import umap

__all__ = [
    "AUDIT_AIMS",
    "COLUMN",
    "DPI",
    "PAGE",
    "PALETTE",
    "STYLE",
    "Aim",
    "attribution",
    "audit",
    "audit_aims",
    "cluster_agreement",
    "cluster_splits",
    "dimensions",
    "display_name",
    "feature_importance",
    "finish",
    "history",
    "importance_ranking",
    "lambda_path",
    "prediction",
    "rank_correlation",
    "retrieval",
    "umap",
]
