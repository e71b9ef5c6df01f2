"""Tools: what the codes and embeddings in a MuData say, written back beside them."""

from indiseek_sc.tl._block_attribution import block_attribution
from indiseek_sc.tl._enrichment import attribution_enrichment
from indiseek_sc.tl._find_wnn_weights import WnnWeights, find_wnn_weights
from indiseek_sc.tl._importance import modality_importance
from indiseek_sc.tl._rank_correlation import rank_correlation
from indiseek_sc.tl._retrieval import retrieval
from indiseek_sc.tl._wnn_weights import wnn_weights
from indiseek_sc.tl._write_attribution import write_attribution

__all__ = [
    "WnnWeights",
    "attribution_enrichment",
    "block_attribution",
    "find_wnn_weights",
    "modality_importance",
    "rank_correlation",
    "retrieval",
    "wnn_weights",
    "write_attribution",
]
