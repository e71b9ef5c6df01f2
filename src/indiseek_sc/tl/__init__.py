"""Tools: what the codes and embeddings in a MuData say, written back beside them."""

from indiseek_sc.tl._compare_clusters import ClusterComparison, compare_clusters
from indiseek_sc.tl._find_wnn_weights import WnnWeights, find_wnn_weights
from indiseek_sc.tl._importance import modality_importance
from indiseek_sc.tl._rank_correlation import rank_correlation
from indiseek_sc.tl._retrieval import retrieval
from indiseek_sc.tl._wnn_weights import wnn_weights

__all__ = [
    "ClusterComparison",
    "WnnWeights",
    "compare_clusters",
    "find_wnn_weights",
    "modality_importance",
    "rank_correlation",
    "retrieval",
    "wnn_weights",
]
