"""Recovery of factors after training with default settings, with half of the cells held out."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "synthetic_recovery.py"

REACHED = {
    "S1": (0.98, 0.02),
    "S2": (0.94, 0.03),
    "S3-oracle": (0.98, 0.05),
    "S4": (0.90, 0.15),
    "S5": (0.89, 0.03),
    "S6": (0.95, 0.06),
}
"""Smallest R2 of private factors and largest R2 of factors that must not be contained.

The limits allow a small margin around the results of seed 0. The targets of the suite are .95 and
.02; benchmarks/RESULTS.md explains where they are missed. S3 without given representations is S1.
"""

MISSED = {"S2": pytest.mark.xfail(reason="C contains a trace of one private factor (docs/decisions/0031)")}
"""Limits that an earlier version reached, and the present one does not."""

OF_THE_OTHER = 0.02


@pytest.fixture(scope="module")
def benchmark_script():
    if not SCRIPT.is_file():
        pytest.skip("benchmarks/ is not part of a source distribution")
    spec = spec_from_file_location("synthetic_recovery", SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(x, marks=MISSED.get(x, ())) for x in REACHED])
def test_specific_representations_contain_private_and_not_shared_factors(benchmark_script, name: str) -> None:
    table = benchmark_script.run(name, n_cells=4000, seed=0)
    assert set(table["should"]) == {"should", "must not"}
    least, largest = REACHED[name]
    assert table.loc[table["should"] == "should", "r2"].min() >= least
    forbidden = table[table["should"] == "must not"]
    assert forbidden["r2"].max() <= largest
    assert forbidden.loc[forbidden["kind"].str.startswith("private"), "r2"].max() <= OF_THE_OTHER
