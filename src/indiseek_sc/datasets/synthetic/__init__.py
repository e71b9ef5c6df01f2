"""Synthetic data with known factors, for evaluating representations; not from the paper."""

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
