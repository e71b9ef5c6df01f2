from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from .conftest import run


def test_version():
    result = run("--version")
    assert (result.exit_code, result.output.strip()) == (0, version("indiseek_sc"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["demo", "fit", "IndiSeek"]),
        (["report", "--help"], ["FILE.h5mu", "--model", "--label-key", "--output", "--compare", "Example:"]),
        (["demo", "--help"], ["OUTDIR", "summary.md", "demo.h5mu"]),
        (["fit", "--help"], ["IN", "OUT", ".h5ad", "X_indiseek_specific_rna", "Example:", "--label-key", "leiden"]),
    ],
)
def test_help_mentions_essential_words(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 0
    assert [word for word in words if word not in result.output] == []


def test_help_does_not_import_heavy_packages():
    code = (
        "import sys; from indiseek_sc.cli import app; app(['--help'], standalone_mode=False);"
        "sys.exit(', '.join({'torch', 'scvi', 'scanpy', 'pandas', 'matplotlib'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "in.h5mu"],
        ["fly"],
        ["fit", "in.h5mu", "out.h5mu", "--no-such-option"],
        ["fit", "in.h5mu", "out.h5mu", "--lambda", "-1"],
        ["fit", "in.h5mu", "out.h5mu", "--lambda", "nan"],
        ["fit", "in.h5mu", "out.h5mu", "--lambda", "best"],
        ["fit", "in.h5mu", "out.h5mu", "--max-epochs", "0"],
        ["fit", "in.h5mu", "out.h5mu", "--accelerator", "abacus"],
        ["demo", "--seed", "x"],
        ["report"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_debug_raises_the_error(tmp_path):
    result = run("fit", tmp_path / "nowhere.h5mu", tmp_path / "out.h5mu", "--debug")
    assert result.exit_code == 1
    assert isinstance(result.exception, FileNotFoundError)
