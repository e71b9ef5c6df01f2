"""Helpers: changes that make data invalid, and a check of error messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek

from ..model.cells import fingerprint
from ..model.make_saved_model import draw_cells

Change = Callable[[MuData], Any]
"""Changes a MuData in place, or returns another object, so that it becomes invalid."""


def same(mdata: MuData) -> MuData:
    """Leave the data as they are."""
    return mdata


def assert_rejected(call: Callable[[], Any], error: type[Exception], parts: list[str]) -> str:
    """Check that a call raises this error with a one-line message that contains all parts."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value.args[0])
    assert [part for part in parts if part not in message] == [], message
    assert caught.type is error
    assert "\n" not in message
    assert not re.search(r"\bnp\.\w", message), message
    return message


def reorder(mdata: MuData) -> MuData:
    return MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][::-1].copy()})


def with_adt(**changes: Any) -> Change:
    """Rename the ADT modality (``name``) or its features (``features``)."""

    def change(mdata: MuData) -> MuData:
        adt = mdata["adt"].copy()
        adt.var_names = changes.get("features", adt.var_names)
        return MuData({"rna": mdata["rna"].copy(), changes.get("name", "adt"): adt})

    return change


def put(value: float, row: int = 4, column: int = 2, modality: str = "rna") -> Change:
    def change(mdata: MuData) -> MuData:
        mdata[modality].X[row, column] = value
        return mdata

    return change


def with_obsm(values: Any, modality: str | None = "adt", key: str = "other") -> Change:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obsm[key] = values
        return mdata

    return change


def empty_cells(mdata: MuData) -> MuData:
    mdata["rna"].X[[3, 8]] = 0
    return mdata


def without_x(mdata: MuData) -> MuData:
    rna = AnnData(None, mdata["rna"].obs, mdata["rna"].var, layers={"counts": mdata["rna"].X.copy()})
    return MuData({"rna": rna, "adt": mdata["adt"]})


def rename_features(modality: str, rename: Callable[[pd.Index], Any]) -> Change:
    def change(mdata: MuData) -> MuData:
        mdata[modality].var_names = rename(mdata[modality].var_names)
        mdata.update()
        return mdata

    return change


def with_donors(values: Any) -> Change:
    def change(mdata: MuData) -> MuData:
        mdata.obs["donor"] = values
        return mdata

    return change


def take_logarithms(mdata: MuData) -> MuData:
    mdata["rna"].X = np.log1p(mdata["rna"].X)
    return mdata


def state_of(model: IndiSeek) -> dict[str, Any]:
    """Return all that a model has learnt, and fingerprints of its data."""
    return {
        **fingerprint(model.adata),
        "weights": {name: x.cpu().numpy().tobytes() for name, x in model.module.state_dict().items()},
        "stages": (list(model.stages_), model.lambda_, model.chosen_path, model.settings, sorted(model.history)),
        "objects": (id(model.module), id(getattr(model, "trainer", None)), id(model.adata), id(model.split_)),
        "random": torch.get_rng_state().numpy().tobytes(),
    }


def without_latents(mdata: MuData) -> MuData:
    return draw_cells(40)


def cells_of(name: str, corrupt: Change = same) -> Callable[[Path, Path], Path]:
    def make_file(path: Path, _: Path) -> Path:
        corrupt(draw_cells(40)).write_h5mu(path / name)
        return path / name

    return make_file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
