"""Tools: what the codes that a model wrote into a MuData say, written back beside them."""

from indiseek_sc.tl._importance import modality_importance

__all__ = ["modality_importance"]
