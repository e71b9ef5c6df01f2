from __future__ import annotations

import re

import mudata
import pytest

from indiseek_sc import _keys

from .conftest import run

OF_DATA = {"umap-0", "umap-1", "theta", "retrieval", "dimensions-rna", "dimensions-adt"}
"""Figures of results that are in the data, for which no model is needed."""


def figures_of(page: str) -> set[str]:
    """Return the names of the figures that a page offers for download."""
    return set(re.findall(r'download="([\w-]+)\.svg"', page))


def test_report_with_model(fitted, tmp_path):
    before = (fitted / "encoded.h5mu").read_bytes()
    result = run(
        "report", fitted / "encoded.h5mu", "--model", fitted / "model", "--output", tmp_path / "r.html", "--debug"
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "r.html").read_text()
    of_model = {"umap-2", "attribution-rna", "attribution-adt", "audit", "prediction-0", "prediction-1", "history"}
    assert figures_of(page) == OF_DATA | of_model
    assert "prot from rna" in page
    assert "IndiSeek: encoded.h5mu" in page
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]
    assert (fitted / "encoded.h5mu").read_bytes() == before


@pytest.mark.slow
def test_report_without_model_lists_missing_results(fitted, tmp_path):
    result = run("report", fitted / "encoded.h5mu", "--output", tmp_path / "r.html", "--label-key", "cell_type")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "r.html").read_text()
    assert figures_of(page) == OF_DATA
    assert "This needs the model" in page


def error_of(*arguments) -> str:
    result = run("report", *arguments)
    assert result.exit_code == 1, result.output
    return result.output.splitlines()[-1]


def test_models_of_other_cells_and_existing_outputs_are_rejected(fitted, tmp_path):
    out = ("--output", tmp_path / "r.html")
    other = mudata.read_h5mu(fitted / "encoded.h5mu")
    other.obs[_keys.SPLIT] = other.obs[_keys.SPLIT].to_numpy()[::-1]
    other.write_h5mu(tmp_path / "other.h5mu")
    assert "was trained on other cells" in error_of(tmp_path / "other.h5mu", *out, "--model", fitted / "model")
    (tmp_path / "r.html").write_text("precious")
    assert "--force" in error_of(fitted / "encoded.h5mu", *out)
    assert (tmp_path / "r.html").read_text() == "precious"
