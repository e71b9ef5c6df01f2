"""Loss functions of both stages, in pure PyTorch, without data handling, logging or optimisers."""

from __future__ import annotations

from indiseek_sc.losses._critics import CriticSum, IndependenceCritic, NoCritic, PairCritic
from indiseek_sc.losses._density_critics import FullGaussianCritic, GaussianCritic, LeaveOneOutCritic, MixtureCritic
from indiseek_sc.losses._kernel_terms import DistanceCorrelationCritic, HSICCritic, OrthogonalityCritic
from indiseek_sc.losses._make_critic import (
    CRITICS,
    CriticFactory,
    Independence,
    check_independence,
    describe_independence,
    is_named,
    make_critic,
)
from indiseek_sc.losses._network_critics import AdversarialCritic, ConcatenatedNCECritic, NCECritic
from indiseek_sc.losses._paired_losses import canonical_correlation_loss, info_nce, normalized_error, remove_linear

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
    "describe_independence",
    "info_nce",
    "is_named",
    "make_critic",
    "normalized_error",
    "remove_linear",
]
