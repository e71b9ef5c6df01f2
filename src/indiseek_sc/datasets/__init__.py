"""Data sets to try the package on: a real one, and synthetic ones whose factors are known."""

import indiseek_sc._accessor
from indiseek_sc.datasets import synthetic
from indiseek_sc.datasets._bundled import pbmc_covid

__all__ = ["pbmc_covid", "synthetic"]
