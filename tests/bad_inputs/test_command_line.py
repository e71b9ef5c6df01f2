"""Errors of commands: one line on standard error, an exit code, and no file written."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mudata import MuData
from typer.testing import CliRunner

from indiseek_sc.cli import app

from .cases import (
    Change,
    cells_of,
    contents,
    empty_cells,
    put,
    rename_features,
    same,
    take_logarithms,
    with_adt,
    with_donors,
)

FIT, ENCODE, PREDICT = (
    ("fit", "{cells}", "out.h5mu"),
    ("encode", "model", "{cells}", "out.h5mu"),
    ("predict", "model", "{cells}", "out.h5ad"),
)
REPORT = ("report", "{cells}", "--output", "out.html")


def labelled_as(values: Any) -> Change:
    return partial(_add_column, "cell_type", values)


def _add_column(name: str, values: Any, mdata: MuData) -> MuData:
    mdata.obs[name] = values
    return mdata


def dense(corrupt: Change) -> Change:
    def change(mdata: MuData) -> MuData:
        for adata in mdata.mod.values():
            adata.X = adata.X.toarray()
        return corrupt(mdata)

    return change


# name: (the change of the cells, the command, exit code, parts of the message)
CASES: dict[str, tuple[Change, tuple[str, ...], int, list[str]]] = {
    "a missing file": (same, ("fit", "nowhere.h5mu", "out.h5mu"), 1, ["nowhere.h5mu: there is no such file"]),
    "an unknown ending of the output": (same, ("fit", "{cells}", "out.loom"), 1, ["out.loom must end in .h5mu, .zarr or .h5ad", "For example: out.h5mu"]),
    "the input as output": (same, ("fit", "{cells}", "{cells}", "--force"), 1, ["cells.h5mu is the input itself", "another name"]),
    "an output that exists": (same, ("fit", "{cells}", "model.h5ad"), 1, ["model.h5ad already exists", "--force"]),
    "an output in a missing folder": (same, ("fit", "{cells}", "no/out.h5mu"), 1, ["there is no folder no. Create it first"]),
    "a report over a file": (same, (*FIT, "--report", "model.h5ad"), 1, ["model.h5ad is a file, but the output is a folder"]),
    "an unknown modality": (same, (*FIT, "--adt", "adts"), 1, ["--adt='adts' is not a modality", "Did you mean 'adt'?"]),
    "no modality of proteins": (with_adt(name="second"), FIT, 1, ["no modality of proteins among 'rna', 'second'", "Say which: --adt NAME"]),
    "swapped modalities": (same, (*FIT, "--adt", "rna", "--rna", "adt"), 1, ["seem swapped", "--rna 'rna' --adt 'adt'"]),
    "an unknown layer": (same, (*FIT, "--rna-layer", "counts"), 1, ["--rna-layer='counts': mdata['rna'] has no such layer"]),
    "an unknown column of batches": (same, (*FIT, "--batch-key", "doner"), 1, ["--batch-key='doner' is not a column", "Did you mean 'donor'?"]),
    "cells without a batch": (with_donors([None, *["b"] * 39]), (*FIT, "--batch-key", "donor"), 1, ["--batch-key: 1 cells have no batch in mdata.obs['donor']: 'cell0'"]),
    "an unknown column of labels": (same, (*FIT, "--label-key", "type"), 1, ["--label-key='type' is not a column"]),
    "a single label": (labelled_as("B"), (*FIT, "--label-key", "cell_type"), 1, ["--label-key: 'cell_type' has only one label, 'B'", "omit --label-key"]),
    "an unknown protein": (same, (*FIT, "--exclude", "CD3"), 1, ["--exclude: there is no 'CD3'"]),
    "NaN in a protein": (dense(put(np.nan, modality="adt")), FIT, 1, ["--adt-layer: mdata['adt'].X", "nan in cell 'cell4', 'adt2'", "Leave these out: --exclude 'adt2'"]),
    "fractions as counts": (dense(take_logarithms), (*FIT, "--rna-input", "counts"), 1, ["--rna-layer: mdata['rna'].X", "fractional", "--rna-input='normalized'"]),
    "cells without counts": (dense(empty_cells), FIT, 1, ["--rna-layer: mdata['rna'].X: 2 cells have no counts", "'cell3', 'cell8'"]),
    "repeated genes": (rename_features("rna", lambda names: [names[1], *names[1:]]), FIT, 1, ["names of genes occur more than once: 'rna1'"]),
    "too few cells": (same, FIT, 1, ["Too few cells: ", "At least 32 and 2 are needed."]),
    "no GPU": (same, (*FIT, "--accelerator", "gpu"), 1, ["--accelerator gpu: torch finds no CUDA GPU here", "Use --accelerator cpu"]),
    "--lambda as unknown text": (same, (*FIT, "--lambda", "best"), 2, ["'best' is neither a number of at least 0 nor"]),
    "--max-epochs of 0": (same, (*FIT, "--max-epochs", "0"), 2, ["'--max-epochs'"]),
    "--seed as text": (same, (*FIT, "--seed", "x"), 2, ["'--seed'"]),
    "an unknown accelerator": (same, (*FIT, "--accelerator", "abacus"), 2, ["'--accelerator'"]),
    "encode with a missing model": (same, ("encode", "nowhere", "{cells}", "out.h5mu"), 1, ["nowhere is not the folder of a saved model", "written by fit --save-model"]),
    "encode with a damaged model": (same, ("encode", "damaged", "{cells}", "out.h5mu"), 1, ["damaged cannot be loaded as a model", "model.pt is damaged", "Copy the folder again"]),
    "encode with missing genes": (rename_features("rna", lambda names: [*names[:20], *names[20:] + "b"]), ENCODE, 1, ["of the 30 genes that the model uses 10 are missing", "'rna20'"]),
    "encode with an unknown batch": (with_donors("c"), ENCODE, 1, ["--batch-key: 40 cells of mdata.obs['donor']", "unknown to the model: 'c'", "Estimate their offsets: encode with --new-batches"]),
    "encode without proteins": (lambda m: MuData({"rna": m["rna"].copy()}), ENCODE, 1, ["no modality of proteins among 'rna'", "--adt NAME"]),
    "predict with a model that has not learnt it": (same, PREDICT, 1, ["has not been trained to predict", "run fit again, with --predict and --save-model"]),
    "predict from a missing modality": (lambda m: MuData({"rna": m["rna"].copy()}), (*PREDICT, "--from", "adt"), 1, ["no modality of proteins among 'rna'"]),
    "predict from an unknown modality": (same, (*PREDICT, "--from", "atac"), 2, ["'--from'"]),
    "a report without representations": (same, REPORT, 1, ["cells.h5mu lacks the representations X_indiseek", "Run indiseek-sc fit first"]),
    "a report with a missing model": (same, ("report", "encoded.h5mu", "--output", "out.html", "--model", "nowhere"), 1, ["--model nowhere is not the folder of a saved model"]),
    "a report with unknown labels": (same, ("report", "encoded.h5mu", "--output", "out.html", "--label-key", "celltype"), 1, ["--label-key='celltype' is not a column", "Did you mean 'cell_type'?"]),
    "a report of an invalid file": (same, ("report", "model.h5ad", "--output", "out.html"), 1, ["model.h5ad cannot be read"]),
    "demo in a folder that exists": (same, ("demo", "model"), 1, ["model already exists", "--force"]),
}  # fmt: skip

PYTHON_ARGUMENTS = re.compile(
    r"(?<![-\w])(rna|adt)_(layer|input)\b|\b(max_missing|checkpoint_dir|train_size|accelerator|exclude|check_sizes)=|\blambda_\b"
)
"""Arguments of Python functions, which a message of the command line must not mention."""


@pytest.mark.parametrize("name", CASES)
def test_commands(name: str, folder: Path, encoded: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrupt, arguments, exit_code, parts = CASES[name]
    monkeypatch.chdir(tmp_path)
    cells_of("cells.h5mu", corrupt)(tmp_path, folder)
    shutil.copytree(folder, "model")
    shutil.copytree(folder, "damaged")
    Path("damaged/model.pt").write_bytes(b"")
    Path("model.h5ad").write_text("precious")
    if "encoded.h5mu" in arguments:
        encoded.write_h5mu("encoded.h5mu")
    before = contents(tmp_path)
    result = CliRunner().invoke(app, [word.format(cells="cells.h5mu") for word in arguments])
    assert result.exit_code == exit_code, result.output
    *_, message = result.output.splitlines() if exit_code == 1 else [" ".join(result.output.replace("│", " ").split())]
    assert message.startswith("error: ") or exit_code == 2
    assert [part for part in parts if part not in message] == [], message
    assert exit_code == 2 or not PYTHON_ARGUMENTS.search(message), message
    assert contents(tmp_path) == before
