"""The tutorials run from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

from indiseek_sc import IndiSeek, datasets

FOLDER = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_PANELS = 8


def shorten(monkeypatch: pytest.MonkeyPatch, method: str, **arguments: Any) -> None:
    """Replace arguments of a method of the model, so that it takes seconds."""
    original = getattr(IndiSeek, method)
    monkeypatch.setattr(IndiSeek, method, lambda self, *args, **kwargs: original(self, *args, **kwargs | arguments))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few cells and epochs, in one process."""
    read, train = datasets.pbmc_covid, IndiSeek.train
    monkeypatch.setattr(datasets, "pbmc_covid", lambda: read()[::6].copy())
    monkeypatch.setattr(IndiSeek, "train", lambda self, max_epochs=None, **kwargs: train(self, 1, **kwargs))
    shorten(monkeypatch, "write_refits", n_jobs=1)
    shorten(monkeypatch, "lambda_path", max_epochs=1)
    shorten(monkeypatch, "train_prediction", max_epochs=1)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))


LIGHT = "05"
"""A tutorial with short training; the others are run by ``pytest -m slow``."""


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem.startswith(LIGHT) else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
)
def test_cells_run_on_few_cells(notebook, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "tutorial", "display": print}
    for number, cell in enumerate(nbformat.read(notebook, as_version=4).cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{notebook.stem}, cell {number}", "exec"), names)
            panels = [sum(ax.get_subplotspec() is not None for ax in plt.figure(n).axes) for n in plt.get_fignums()]
            assert max(panels, default=0) <= MOST_PANELS


@pytest.mark.slow  # minutes, since models are trained at length
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path):
    cells = nbformat.read(notebook, as_version=4)
    NotebookClient(cells, timeout=900, resources={"metadata": {"path": tmp_path}}).execute()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_without_warnings(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    n_figures = sum("plt.show()" in "".join(cell["source"]) for cell in cells)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == n_figures
    printed = "".join("".join(output.get("text", [])) for output in outputs)
    assert "Warning" not in printed
    assert all(output["output_type"] != "error" for output in outputs)


def test_the_six_tutorials_are_there():
    assert [notebook.name[:2] for notebook in NOTEBOOKS] == [f"0{number}" for number in range(1, 7)]
