"""Errors raised by reading of files and loading of models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData

import indiseek_sc
from indiseek_sc import IndiSeek

from ..model.make_saved_model import draw_cells
from .cases import assert_rejected, cells_of, contents


def saved(path: Path, model_folder: Path) -> Path:
    return Path(shutil.copytree(model_folder, path / "model"))


def change_settings(**changes: Any) -> Callable[[Path, Path], Path]:
    def make_folder(path: Path, model_folder: Path) -> Path:
        folder = saved(path, model_folder)
        noted = json.loads((folder / "model.json").read_text())
        critics = changes.pop("independence", None)
        if critics is not None:
            noted["values"]["init_params_"]["independence"] = critics
        (folder / "model.json").write_text(json.dumps({**noted, **changes}))
        return folder

    return make_folder


def change_file(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path, Path], Path]:
    """Return a saved model with one file changed or deleted."""

    def make_folder(path: Path, model_folder: Path) -> Path:
        folder = saved(path, model_folder)
        content = change((folder / name).read_bytes() if (folder / name).is_file() else b"")
        (folder / name).unlink(missing_ok=True) if content is None else (folder / name).write_bytes(content)
        return folder

    return make_folder


def file_of(name: str, content: bytes = b"x") -> Callable[[Path, Path], Path]:
    def make_file(path: Path, _: Path) -> Path:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
        return path / name

    return make_file


def half_of(name: str) -> Callable[[Path, Path], Path]:
    def make_file(path: Path, _: Path) -> Path:
        draw_cells(40).write_h5mu(path / name)
        (path / name).write_bytes((path / name).read_bytes()[:5000])
        return path / name

    return make_file


def nothing(path: Path, _: Path) -> Path:
    return path / "nowhere"


def load(**arguments: Any) -> Callable[[Path], Any]:
    return lambda path: IndiSeek.load(path, **{"adata": False, "accelerator": "cpu", **arguments})


class Subclass(IndiSeek):
    """A model of another class."""


# name: (creation of the file, the call, error, parts of the message)
CASES: dict[str, tuple[Callable[[Path, Path], Path], Callable[[Path], Any], type[Exception], list[str]]] = {
    "no file": (nothing, indiseek_sc.read, FileNotFoundError, ["nowhere: there is no such file"]),
    "path of None": (nothing, lambda _: indiseek_sc.read(None), ValueError, ["path must be a path, but is None"]),
    "a table": (file_of("cells.csv"), indiseek_sc.read, ValueError, ["cells.csv cannot be read as csv", "Readable formats: Cell Ranger"]),
    "a file of R": (file_of("cells.rds"), indiseek_sc.read, ValueError, ["cells.rds cannot be read as rds", "docs/reading.md"]),
    "a truncated file": (half_of("cells.h5mu"), indiseek_sc.read, ValueError, ["cells.h5mu cannot be read as h5mu", "Is it complete?"]),
    "a folder of something else": (lambda path, _: file_of("inner/notes.txt")(path, _).parent, indiseek_sc.read, ValueError, ["is a folder without matrix.mtx or a zarr store", "It contains: 'notes.txt'"]),
    "a modality misspelt": (cells_of("cells.h5mu"), lambda path: indiseek_sc.read(path, adt="adts"), ValueError, ["cells.h5mu: adt='adts' is not a modality of this file", "Did you mean 'adt'?"]),
    "a modality as number": (cells_of("cells.h5mu"), lambda path: indiseek_sc.read(path, adt=2), ValueError, ["adt must be one name, but is 2"]),
    "no proteins": (cells_of("cells.h5mu", lambda m: MuData({"rna": m["rna"]})), indiseek_sc.read, ValueError, ["no modality of proteins among 'rna'", "read(path, adt='NAME')"]),
    "no model": (nothing, load(), FileNotFoundError, ["model.pt: there is no such file", "Check the folder"]),
    "a model in a file": (file_of("model.txt"), load(), FileNotFoundError, ["model.txt/model.pt: there is no such file"]),
    "dir_path as number": (nothing, lambda _: IndiSeek.load(3), ValueError, ["dir_path must be a path, but is 3"]),
    "another prefix": (saved, load(prefix="b-"), FileNotFoundError, ["b-model.pt: there is no such file", "prefix"]),
    "a prefix with a folder": (saved, load(prefix="folder/x-"), ValueError, ["prefix must be the beginning of file names, without folders"]),
    "a model beside an AnnData": (saved, load(adata=AnnData(np.ones((3, 2)))), TypeError, ["adata must be a MuData with both modalities, but is AnnData", "adata" ]),
    "a model beside a view": (saved, load(adata=draw_cells()[:99]), ValueError, ["adata: it is a view", "mdata = mdata.copy()"]),
    "a GPU with accelerator cpu": (saved, load(device=3), ValueError, ["device=3: with accelerator='cpu' training runs on the CPU"]),
    "a device as text": (saved, load(device="first"), ValueError, ["device must be the number of one GPU or 'auto', but is 'first'"]),
    "a model of another class": (saved, lambda path: Subclass.load(path, adata=False), ValueError, ["contains a model of the class IndiSeek: call IndiSeek.load"]),
    "weights truncated": (change_file("model.pt", lambda x: x[:-1000]), load(), ValueError, ["model.pt is damaged: its checksum is not the one in model.json", "Copy the folder again"]),
    "weights changed": (change_file("model.pt", lambda x: x[:5000] + b"\0" + x[5001:]), load(), ValueError, ["model.pt is damaged: its checksum"]),
    "an empty file of weights": (change_file("model.pt", lambda x: b""), load(), ValueError, ["model.pt is damaged: its checksum"]),
    "settings truncated": (change_file("model.json", lambda x: x[:-100]), load(), ValueError, ["model.json is damaged", "Copy the folder again"]),
    "no settings": (change_file("model.json", lambda x: None), load(), ValueError, ["has no model.json beside it", "a pickle, which could run any code", "train again and save"]),
    "a newer format": (change_settings(format=99, version="9.0"), load(), ValueError, ["model.json was written by indiseek_sc 9.0 in format 99", "pip install -U indiseek_sc"]),
    "a critic defined by other code": (change_settings(independence="os:system"), load(), ValueError, ["independence: ", "created with custom code, 'os:system'", "give it again by load(..., independence=...)"]),
    "another critic": (saved, load(independence="hsic"), ValueError, ["independence: ", "but 'hsic' was given"]),
    "damaged data": (change_file("mdata.h5mu", lambda x: b"x"), load(adata=None), ValueError, ["mdata.h5mu cannot be read", "adata=mdata", "adata=False"]),
    "a missing reference": (nothing, lambda path: IndiSeek.load_query_data(draw_cells(40), path), FileNotFoundError, ["model.pt: there is no such file"]),
    "set-up arguments of a missing model": (nothing, IndiSeek.view_setup_args, FileNotFoundError, ["model.pt: there is no such file"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_files(name: str, folder: Path, tmp_path: Path) -> None:
    make_file, call, error, parts = CASES[name]
    path = make_file(tmp_path, folder)
    before = contents(tmp_path)
    assert_rejected(lambda: call(path), error, parts)
    assert contents(tmp_path) == before
