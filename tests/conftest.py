"""Fixtures for all tests, and settings for reproducible results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  (pytest-xdist would import it in two threads at once, to read warnings of its workers)
import matplotlib
import numba
import pytest
import torch
from mudata import MuData
from xdist.scheduler import LoadFileScheduling

from indiseek_sc.datasets import pbmc_covid as read_pbmc_covid

ROOT = Path(__file__).parents[1]

matplotlib.use("Agg")
# Floating-point sums depend on the number of threads; one is also fastest for small networks.
torch.set_num_threads(1)
# Also for worker processes, which start later: otherwise Numba would raise torch's number of threads.
for _library in ("NUMBA", "OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
numba.core.config.reload_config()  # a plugin of pytest may have imported Numba before


COMPILING = (
    *("cli/", "docs/", "pl/", "report/", "test_arguments.py", "test_ecosystem.py", "test_fingerprint.py"),
    *("io/", "model/test_batches.py", "model/test_remedies.py", "tl/test_transfer.py"),
)
"""Tests of UMAPs and neighbour graphs, for which Numba compiles functions in each process."""


class OneProcessPerFile(LoadFileScheduling):
    """Run the tests of a file in one process, and all that need compiled functions in one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "compiling" if file.removeprefix("tests/").startswith(COMPILING) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneProcessPerFile:
    """Distribute tests; groups of pytest-xdist (`--dist=loadgroup`) have no effect in pytest 9."""
    return OneProcessPerFile(config, log)


@pytest.fixture(scope="session")
def _pbmc_covid_once() -> MuData:
    return read_pbmc_covid()


@pytest.fixture
def pbmc_covid(_pbmc_covid_once: MuData) -> MuData:
    """Return a copy of the bundled data set with 6,000 cells, which a test may change."""
    return _pbmc_covid_once.copy()


@pytest.fixture
def pbmc_small(_pbmc_covid_once: MuData) -> MuData:
    """Return a copy of every tenth cell (600 in all) of the data set, which a test may change."""
    return _pbmc_covid_once[::10].copy()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of larger data sets beside the checkout, which are not distributed."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data beside the checkout does not exist")
    return folder
