"""Figures of a trained model, its codes and its audit. Nothing is computed here: what is missing, an error says how to make."""

from indiseek_sc.pl._attribution import attribution
from indiseek_sc.pl._audit import audit
from indiseek_sc.pl._cluster_agreement import cluster_agreement
from indiseek_sc.pl._cluster_splits import cluster_splits
from indiseek_sc.pl._coordinates import coordinate_importance
from indiseek_sc.pl._frontier import frontier
from indiseek_sc.pl._history import history
from indiseek_sc.pl._importance import importance_ranking
from indiseek_sc.pl._prediction import prediction
from indiseek_sc.pl._rank_correlation import rank_correlation
from indiseek_sc.pl._retrieval import retrieval
from indiseek_sc.pl._umap import umap

__all__ = [
    "attribution",
    "audit",
    "cluster_agreement",
    "cluster_splits",
    "coordinate_importance",
    "frontier",
    "history",
    "importance_ranking",
    "prediction",
    "rank_correlation",
    "retrieval",
    "umap",
]
