"""Losses of both stages: pure torch, no data, no logging, no optimisers."""

from __future__ import annotations

from indiseek_sc.losses._adversarial import AdversarialCritic
from indiseek_sc.losses._canonical import canonical_correlation_loss
from indiseek_sc.losses._concatenated_nce_club import ConcatenatedNCECritic
from indiseek_sc.losses._distance_correlation import DistanceCorrelationCritic
from indiseek_sc.losses._full_gaussian_club import FullGaussianCritic
from indiseek_sc.losses._gaussian_club import GaussianCritic
from indiseek_sc.losses._hsic import HSICCritic
from indiseek_sc.losses._independence import CriticSum, IndependenceCritic
from indiseek_sc.losses._info_nce import info_nce
from indiseek_sc.losses._leave_one_out import LeaveOneOutCritic
from indiseek_sc.losses._make_critic import CRITICS, CriticFactory, Independence, check_independence, make_critic
from indiseek_sc.losses._mixture_club import MixtureCritic
from indiseek_sc.losses._nce_club import NCECritic
from indiseek_sc.losses._no_critic import NoCritic
from indiseek_sc.losses._orthogonality import OrthogonalityCritic
from indiseek_sc.losses._pair_critic import PairCritic
from indiseek_sc.losses._reconstruction import normalized_error

__all__ = [
    "CRITICS",
    "AdversarialCritic",
    "ConcatenatedNCECritic",
    "CriticFactory",
    "CriticSum",
    "DistanceCorrelationCritic",
    "FullGaussianCritic",
    "GaussianCritic",
    "HSICCritic",
    "Independence",
    "IndependenceCritic",
    "LeaveOneOutCritic",
    "MixtureCritic",
    "NCECritic",
    "PairCritic",
    "NoCritic",
    "OrthogonalityCritic",
    "canonical_correlation_loss",
    "check_independence",
    "info_nce",
    "make_critic",
    "normalized_error",
]
