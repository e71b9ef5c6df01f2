"""Synthetic data with known factors, to see what codes hold and what they leak. Ours, not the paper's."""

from indiseek_sc.datasets.synthetic._counts import cite_seq_counts
from indiseek_sc.datasets.synthetic._coupled import noise_coupled
from indiseek_sc.datasets.synthetic._gaussian import gaussian_linear, redundant_shared
from indiseek_sc.datasets.synthetic._make import NAMES, make
from indiseek_sc.datasets.synthetic._mixers import random_mixers
from indiseek_sc.datasets.synthetic._redundancy import nonlinear_redundancy

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
