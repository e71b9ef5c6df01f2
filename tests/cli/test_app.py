from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from .conftest import run


def test_version():
    result = run("--version")
    assert (result.exit_code, result.output.strip()) == (0, version("indiseek_sc"))


@pytest.mark.parametrize(
    ("arguments", "taught"),
    [
        (["--help"], ["demo", "fit", "IndiSeek"]),
        (["report", "--help"], ["FILE.h5mu", "--model", "--label-key", "--output", "--compare", "Example:"]),
        (["demo", "--help"], ["OUTDIR", "summary.md", "demo.h5mu"]),
        (["fit", "--help"], ["IN", "OUT", ".h5ad", "X_indiseek_specific_rna", "Example:", "--label-key", "leiden"]),
    ],
)
def test_help_teaches(arguments, taught):
    result = run(*arguments)
    assert result.exit_code == 0
    assert [word for word in taught if word not in result.output] == []


def test_help_loads_nothing_heavy_and_comes_at_once():
    code = (
        "import sys; from indiseek_sc.cli import app; app(['--help'], standalone_mode=False);"
        "sys.exit(', '.join({'torch', 'scvi', 'scanpy', 'pandas', 'matplotlib'} & set(sys.modules)) or None)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout
    assert time.perf_counter() - start < 5  # 0.4 s on a free machine; with torch and scanpy it takes 8


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


def error_of(result) -> str:
    """The error line of a command that failed; the lines before it are the steps."""
    assert result.exit_code == 1, result.output
    *steps, error = result.output.splitlines()
    assert error.startswith("error: ")
    assert all(line.startswith(("[", "warning: ")) for line in steps)
    return error


def test_a_missing_file_and_one_that_is_no_h5mu(user_file, tmp_path, pbmc_small):
    out = tmp_path / "out.h5mu"
    assert "nowhere.h5mu: there is no such file" in error_of(run("fit", tmp_path / "nowhere.h5mu", out))
    text, h5ad = tmp_path / "text.h5mu", tmp_path / "rna.h5ad"
    text.write_text("hello")
    pbmc_small["rna"].write_h5ad(h5ad)
    for path in (text, h5ad, tmp_path):
        assert str(path) in error_of(run("fit", path, out))
    half = tmp_path / "half.h5mu"
    half.write_bytes(user_file.read_bytes()[:100_000])
    assert "cannot be read as h5mu" in error_of(run("fit", half, out))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["half.h5mu", "rna.h5ad", "text.h5mu"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--adt", "adt"], ["--adt='adt'", "'rna', 'prot', 'atac'"]),
        (["--adt", "atac"], ["'atac' holds accessible chromatin", "not proteins"]),
        (["--rna-layer", "raw"], ["--rna-layer='raw'", "'counts'"]),
        (["--rna-layer", "counts", "--batch-key", "plate"], ["--batch-key='plate'", "donor"]),
        (["--adt", "prot", "--rna-layer", "counts", "--label-key", "type"], ["--label-key='type'", "cell_type"]),
        (["--rna-layer", "counts", "--label-key", "leiden"], ["--label-key", "one label alone, 'mine'"]),
        (["--adt", "rna", "--rna", "prot"], ["swapped", "--rna 'rna' --adt 'prot'"]),
    ],
)
def test_wrong_names_are_told_before_training_with_those_that_there_are(user_file, tmp_path, options, told):
    error = error_of(run("fit", user_file, tmp_path / "out.h5mu", "--report", tmp_path / "figures", *options))
    assert [words for words in told if words not in error] == []
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_happened(tmp_path):
    result = run("fit", tmp_path / "nowhere.h5mu", tmp_path / "out.h5mu", "--debug")
    assert result.exit_code == 1
    assert isinstance(result.exception, FileNotFoundError)


def test_what_is_there_is_not_overwritten(user_file, tmp_path):
    there, figures = tmp_path / "out.h5mu", tmp_path / "figures"
    there.write_text("precious")
    figures.mkdir()
    (figures / "talk.png").write_text("precious")
    assert "--force" in error_of(run("fit", user_file, there))
    assert "--force" in error_of(run("fit", user_file, tmp_path / "new.h5mu", "--report", figures))
    assert "--force" in error_of(run("demo", figures))
    assert "input itself" in error_of(run("fit", user_file, user_file, "--force"))
    assert "there is no folder" in error_of(run("fit", user_file, tmp_path / "no" / "out.h5mu"))
    assert there.read_text() == (figures / "talk.png").read_text() == "precious"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["figures", "out.h5mu", "talk.png"]
