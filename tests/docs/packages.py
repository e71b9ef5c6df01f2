"""Names of the packages whose documentation is tested."""

PUBLIC = [
    "indiseek_sc.baselines",
    "indiseek_sc.datasets",
    "indiseek_sc.datasets.synthetic",
    "indiseek_sc.io",
    "indiseek_sc.losses",
    "indiseek_sc.metrics",
    "indiseek_sc.model",
    "indiseek_sc.pl",
    "indiseek_sc.tl",
]
"""Packages with a page of the API."""

DOCUMENTED = [*PUBLIC, "indiseek_sc._settings", "indiseek_sc.module", "indiseek_sc.nn"]
"""Packages with tested docstrings and examples."""
