"""Example data sets: a real one, and synthetic ones with known factors."""

import indiseek_sc._accessor  # registers mdata.indiseek
from indiseek_sc.datasets import synthetic
from indiseek_sc.datasets._bundled import pbmc_covid

__all__ = ["pbmc_covid", "synthetic"]
