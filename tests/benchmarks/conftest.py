"""Import the scripts of benchmarks/, which import each other by name."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
RECOVERED = [("private", "min"), ("private", "mean"), ("shared", "max"), ("shared", "mean")]

FEATURES = [("jacobian", "shared"), ("jacobian", "private"), ("probe", "shared"), ("probe", "private")]


@pytest.fixture(autouse=True)
def keep_log_level():
    """Restore the log level of scvi-tools, which scripts change."""
    logger = logging.getLogger("scvi")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def load_script():
    """Return a function that imports a script by its name."""
    if not FOLDER.is_dir():
        pytest.skip("benchmarks/ is not part of a source distribution")
    known = set(sys.modules)
    sys.path.insert(0, str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


@pytest.fixture
def make_rows():
    """Return a function that makes a table of runs with random figures."""

    def make_rows(methods, data=("liu", "S1"), n_seeds=2) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        rows = []
        for name in data:
            for method in methods:
                for seed in range(n_seeds):
                    row = {"data": name, "method": method, "seed": seed, "lambda": 10.0, "lambda_within": None}
                    row |= {
                        "n_cells": 3000,
                        "n_train": 1500,
                        "seconds": 12.0,
                        "n_specific": 16,
                        "foscttm": 0.1,
                        "recall@10": 0.2,
                    }
                    row |= {"settings": "some", "versions": "torch 2", "date": "2026-01-02"}
                    for role in ("rna", "adt"):
                        figures = ("agreement_flat", "sufficiency", "leak_ratio", "leak_p", "gain", "complete")
                        row |= {f"{role}.{figure}": rng.random() for figure in figures}
                        if name.startswith("S"):
                            row |= {f"{role}.{kind}_r2_{end}": rng.random() for kind, end in RECOVERED}
                            row |= {f"{role}.{measure}_{group}": rng.random() for measure, group in FEATURES}
                    if name == "liu":
                        row["wnn_source"] = "obs column 'RNA.weight', named as by Seurat"
                        for kind in ("raw", "shared", "specific", "both", "decoded"):
                            row |= {f"rho.{kind}": 0.5, f"rho.{kind}_lower": 0.4, f"rho.{kind}_upper": 0.6}
                    rows.append(row)
        return pd.DataFrame(rows)

    return make_rows
