"""Real data sets to try the package on."""

from indiseek_sc.datasets._bundled import pbmc_covid

__all__ = ["pbmc_covid"]
