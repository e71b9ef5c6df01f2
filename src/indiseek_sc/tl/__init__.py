"""Tools: analyses of the representations in a MuData, whose results are written back into it."""

from indiseek_sc._accessor import IndiSeekAccessor
from indiseek_sc.tl._attribution import attribution_enrichment, block_attribution, write_attribution
from indiseek_sc.tl._clusters import ClusterComparison, compare_clusters
from indiseek_sc.tl._dimension_markers import dimension_markers
from indiseek_sc.tl._dimensions import TECHNICAL_R2, describe_dimensions
from indiseek_sc.tl._feature_sets import feature_sets
from indiseek_sc.tl._rank_correlation import rank_correlation
from indiseek_sc.tl._retrieval import retrieval
from indiseek_sc.tl._theta import modality_importance
from indiseek_sc.tl._transfer import transfer_labels
from indiseek_sc.tl._wnn_neighbors import wnn_neighbors
from indiseek_sc.tl._wnn_weights import WnnWeights, find_wnn_weights, wnn_weights

__all__ = [
    "TECHNICAL_R2",
    "ClusterComparison",
    "IndiSeekAccessor",
    "WnnWeights",
    "attribution_enrichment",
    "block_attribution",
    "compare_clusters",
    "describe_dimensions",
    "dimension_markers",
    "feature_sets",
    "find_wnn_weights",
    "modality_importance",
    "rank_correlation",
    "retrieval",
    "transfer_labels",
    "wnn_neighbors",
    "wnn_weights",
    "write_attribution",
]
