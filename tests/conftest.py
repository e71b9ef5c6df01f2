"""Fixtures of all tests, and what makes the tests the same on every machine."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import pytest
import torch
from mudata import MuData

from indiseek_sc.datasets import pbmc_covid as read_pbmc_covid

ROOT = Path(__file__).parents[1]

matplotlib.use("Agg")
# Sums in floating point depend on how many threads share them; on busy machines, one is also the
# fastest for small networks.
torch.set_num_threads(1)
# For the processes that run the tests, which start after this: where Numba uses more threads, torch
# does so too from then on.
for _library in ("NUMBA", "OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def _pbmc_covid_once() -> MuData:
    return read_pbmc_covid()


@pytest.fixture
def pbmc_covid(_pbmc_covid_once: MuData) -> MuData:
    """The bundled data set, 6,000 cells: a copy that the test may change."""
    return _pbmc_covid_once.copy()


@pytest.fixture
def pbmc_small(_pbmc_covid_once: MuData) -> MuData:
    """Every tenth cell of the bundled data set, 600 cells of all types and batches: a copy that the test may change."""
    return _pbmc_covid_once[::10].copy()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the larger real data sets, which are not part of the project: beside the checkout where there is one."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the larger real data sets (a folder shared/data beside the checkout) are not on this machine")
    return folder
