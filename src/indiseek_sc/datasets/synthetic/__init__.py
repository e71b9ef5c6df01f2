"""Synthetic data with known factors, to see what representations hold and what they leak. Ours, not the paper's."""

from indiseek_sc.datasets.synthetic._counts import cite_seq_counts
from indiseek_sc.datasets.synthetic._suite import (
    NAMES,
    gaussian_linear,
    make,
    noise_coupled,
    nonlinear_redundancy,
    random_mixers,
    redundant_shared,
)

__all__ = [
    "NAMES",
    "cite_seq_counts",
    "gaussian_linear",
    "make",
    "noise_coupled",
    "nonlinear_redundancy",
    "random_mixers",
    "redundant_shared",
]
