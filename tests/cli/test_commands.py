"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import mudata
import numpy as np
import pytest
from typer.testing import CliRunner

from indiseek_sc.cli import app

QUICK = ["--max-epochs", "2", "--accelerator", "cpu"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def cells(pbmc_small, tmp_path):
    pbmc_small["rna"].layers["raw"] = pbmc_small["rna"].X.copy()
    pbmc_small.write(tmp_path / "cells.h5mu")
    return tmp_path / "cells.h5mu"


def test_help_teaches_and_loads_nothing_heavy():
    script = (
        "import sys; from indiseek_sc.cli import app; print(sorted({'torch', 'scvi', 'scanpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "indiseek-sc fit cells.h5mu coded.h5mu" in " ".join(run("fit", "--help").output.split())
    assert run("--version").exit_code == 0
    assert run("demo", "--seed", "nonsense").exit_code == 2


def test_fit_writes_all_that_it_promises(cells, tmp_path):
    done = run("fit", cells, tmp_path / "out.h5mu", "--label-key", "cell_type", "--report", tmp_path / "report", *QUICK)
    assert done.exit_code == 0, done.output
    before, after = mudata.read_h5mu(cells), mudata.read_h5mu(tmp_path / "out.h5mu")
    assert (before["rna"].layers["raw"] != after["rna"].layers["raw"]).nnz == 0
    assert set(before.obs) <= set(after.obs)
    assert {"leiden", "indiseek_theta", "indiseek_split"} <= set(after.obs)
    assert {"X_indiseek", "X_indiseek_shared_rna", "X_indiseek_specific_adt", "X_umap"} <= set(after.obsm)
    assert (after.obs["indiseek_split"] == "test").sum() == 120
    assert np.isfinite(after.obsm["X_indiseek"]).all()

    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {"umap.png", "importance.png", "audit.png", "history.png", "summary.json", "summary.md"}

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    summary = json.loads((tmp_path / "report" / "summary.json").read_text(), parse_constant=refuse)
    assert "rna.leak_ratio" in json.dumps(summary) or "leak_ratio" in json.dumps(summary)
    text = (tmp_path / "report" / "summary.md").read_text()
    assert all(f"({name})" in text for name in files if name.endswith(".png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "{folder}/nothing.h5mu", "{folder}/out.h5mu"], "nothing.h5mu"),
        (["fit", "{cells}", "{folder}/out.h5mu", "--adt", "prot"], "prot"),
        (["fit", "{cells}", "{folder}/out.h5mu", "--label-key", "type", *QUICK], "type"),
        (["fit", "{cells}", "{cells}"], "cells.h5mu"),
        (["fit", "{folder}/broken.h5mu", "{folder}/out.h5mu"], "broken.h5mu"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(cells, tmp_path, arguments, message):
    (tmp_path / "broken.h5mu").write_text("no HDF5")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = run(*[argument.format(cells=cells, folder=tmp_path) for argument in arguments])
    assert done.exit_code == 1
    lines = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.output
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_existing_output_is_kept_unless_forced(cells, tmp_path):
    output = tmp_path / "out.h5mu"
    output.write_text("precious")
    assert run("fit", cells, output, *QUICK).exit_code == 1
    assert output.read_text() == "precious"
    assert run("fit", cells, output, "--force", *QUICK).exit_code == 0
    assert mudata.read_h5mu(output).n_obs == 600


def test_a_run_that_fails_late_leaves_nothing(cells, tmp_path, monkeypatch):
    from indiseek_sc import IndiSeek

    def fail(self, **kwargs):
        raise RuntimeError("the disk\nis on fire")

    monkeypatch.setattr(IndiSeek, "audit", fail)
    names = set(os.listdir(tmp_path))
    done = run("fit", cells, tmp_path / "out.h5mu", "--report", tmp_path / "report", *QUICK)
    assert done.exit_code == 1
    assert "error: the disk is on fire" in done.output
    assert set(os.listdir(tmp_path)) == names
