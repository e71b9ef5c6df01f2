"""Losses of both stages: pure torch, no data, no logging, no optimisers."""

from __future__ import annotations

from indiseek_sc.losses._canonical import canonical_correlation_loss
from indiseek_sc.losses._gaussian_club import GaussianCritic
from indiseek_sc.losses._independence import CriticSum, IndependenceCritic, make_critic
from indiseek_sc.losses._info_nce import info_nce
from indiseek_sc.losses._nce_club import NCECritic
from indiseek_sc.losses._nce_club_concatenated import ConcatenatedNCECritic
from indiseek_sc.losses._no_critic import NoCritic
from indiseek_sc.losses._orthogonality import OrthogonalityCritic
from indiseek_sc.losses._reconstruction import normalized_error

__all__ = [
    "ConcatenatedNCECritic",
    "CriticSum",
    "GaussianCritic",
    "IndependenceCritic",
    "NCECritic",
    "NoCritic",
    "OrthogonalityCritic",
    "canonical_correlation_loss",
    "info_nce",
    "make_critic",
    "normalized_error",
]
