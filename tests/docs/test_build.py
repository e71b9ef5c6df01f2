"""The documentation site builds without warnings."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTENSIONS = [
    "myst_nb",
    "sphinx",
    "sphinx_autodoc_typehints",
    "sphinx_book_theme",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.katex",
]


def is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


@pytest.mark.slow  # takes a minute or more: each function has a page
def test_the_site_builds_without_warnings(tmp_path):
    if missing := [name for name in EXTENSIONS if not is_installed(name)]:
        pytest.skip(f"{', '.join(missing)} not installed (extra 'doc')")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html"]
    command += ["-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert built.returncode == 0, built.stderr
    for page in ("index", "installation", "guide/audit", "api/tl", "api/cli", "benchmarks", "contributing/index"):
        assert (tmp_path / "site" / f"{page}.html").is_file()
    commands = (tmp_path / "site" / "api" / "cli.html").read_text()
    assert all(f"indiseek-sc {name}" in commands for name in ("demo", "fit", "encode", "predict", "report"))
