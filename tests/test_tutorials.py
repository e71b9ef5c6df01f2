"""The tutorials run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "tutorials"


@pytest.mark.slow  # minutes, since it trains at length; the demo's path is tested on few epochs in tests/cli
@pytest.mark.parametrize("notebook", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path):
    cells = nbformat.read(notebook, as_version=4)
    assert any(cell.get("outputs") for cell in cells.cells), "committed without its outputs"
    NotebookClient(cells, timeout=900, resources={"metadata": {"path": tmp_path}}).execute()


def test_there_are_tutorials():
    assert list(FOLDER.glob("*.ipynb"))
