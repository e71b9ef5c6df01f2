"""Whole trainings with default settings, half of the cells held out, judged by the aim of the suite."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "synthetic_recovery.py"

MISSED = {
    "S2": "the RNA's code tells squares of shared factors to .18, shared factors to .03",
    "S3-oracle": "private factors that the given shared code holds are told to .11 and .02 only",
    "S4": "the RNA's code tells a shared factor to .78, by the shape of p * sign(s)",
    "S5": "private factors are told to .90-.95, shared ones to .13",
    "S6": "private factors are told to .95-.97, shared ones to .03",
}
"""Where the aim was missed, and what was measured with seed 0. S3 without given codes is S1."""


@pytest.fixture(scope="module")
def benchmark_script():
    if not SCRIPT.is_file():
        pytest.skip("benchmarks/ is not part of a source distribution")
    spec = spec_from_file_location("synthetic_recovery", SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason=MISSED[name], strict=False) if name in MISSED else ())
        for name in ("S1", *MISSED)
    ],
)
def test_specific_codes_hold_private_factors_and_no_shared_ones(benchmark_script, name: str) -> None:
    table = benchmark_script.run(name, n_cells=4000, seed=0)
    assert set(table["should"]) == {"should", "must not"}
    assert table.loc[table["should"] == "should", "r2"].min() >= 0.95
    assert table.loc[table["should"] == "must not", "r2"].max() <= 0.02
