"""Whole trainings with default settings, half of the cells held out, judged by the aim of the suite."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "synthetic_recovery.py"

MISSED = {
    "S2": "squares of shared factors are told to .1 and more (seed 0)",
    "S4": "the sign of a shared factor stays in the RNA's code (seed 0)",
    "S5": "see S5",
    "S6": "see S6",
    "S3-oracle": "private factors that the given shared code holds are lost from the specific one (seed 0)",
}
"""Where the aim is not met, with what was measured."""


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
        for name in ("S1", "S2", "S3", "S4", "S5", "S6", "S3-oracle")
    ],
)
def test_specific_codes_hold_private_factors_and_no_shared_ones(benchmark_script, name: str) -> None:
    table = benchmark_script.run(name, n_cells=4000, seed=0)
    assert set(table["should"]) == {"should", "must not"}
    assert table.loc[table["should"] == "should", "r2"].min() >= 0.95
    assert table.loc[table["should"] == "must not", "r2"].max() <= 0.02
