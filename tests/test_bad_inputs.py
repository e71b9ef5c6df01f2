"""What goes wrong is told in words: the argument as the user gave it, the modality, the first offenders, and what to do; nothing changes."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mudata import MuData
from typer.testing import CliRunner

import indiseek_sc
from indiseek_sc import IndiSeek, _keys, pl, tl
from indiseek_sc.cli import app
from indiseek_sc.losses import HSICCritic

from .model.cells import N_CELLS, N_PROTEINS, fingerprint, make_mdata
from .model.make_saved_model import ARCHIVE, draw_cells

Spoil = Callable[[MuData], Any]
"""Changes data, or makes others of them, such that something is wrong."""


def same(mdata: MuData) -> MuData:
    return mdata


def refused(call: Callable[[], Any], error: type[Exception], pieces: list[str]) -> str:
    """Return the message of an error, of exactly this type and in one line, that holds these pieces."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value.args[0])
    assert [piece for piece in pieces if piece not in message] == [], message
    assert caught.type is error
    assert "\n" not in message
    assert not re.search(r"\bnp\.\w", message), message
    return message


# --- set-up -----------------------------------------------------------------------------------------------------------


def reorder(mdata: MuData) -> MuData:
    return MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][::-1].copy()})


def other_cells(mdata: MuData) -> MuData:
    adt = mdata["adt"].copy()
    adt.obs_names = adt.obs_names.str.upper()
    return MuData({"rna": mdata["rna"].copy(), "adt": adt})


def stale(mdata: MuData) -> MuData:
    mdata.mod["adt"] = ad.concat([mdata["adt"], make_mdata(n_cells=43)["adt"][40:]])
    return mdata


def with_adt(**changes: Any) -> Spoil:
    """Other proteins: by another name, or with other names of features."""

    def change(mdata: MuData) -> MuData:
        adt = mdata["adt"].copy()
        adt.var_names = changes.get("features", adt.var_names)
        return MuData({"rna": mdata["rna"].copy(), changes.get("name", "adt"): adt})

    return change


def repeat_gene(mdata: MuData) -> MuData:
    names = mdata["rna"].var_names.to_list()
    names[3] = names[1]
    mdata["rna"].var_names = names
    return mdata


def repeat_cell(mdata: MuData) -> MuData:
    adatas = {name: adata.copy() for name, adata in mdata.mod.items()}
    for adata in adatas.values():
        adata.obs_names = ["cell0", "cell0", *adata.obs_names[2:]]
    return MuData(adatas)


def put(value: float, row: int = 4, column: int = 2, modality: str = "rna") -> Spoil:
    def change(mdata: MuData) -> MuData:
        mdata[modality].X[row, column] = value
        return mdata

    return change


def with_values(convert: Callable[[np.ndarray], Any], modality: str = "rna") -> Spoil:
    """Other values in a layer, ``"other"``."""

    def change(mdata: MuData) -> MuData:
        mdata[modality].layers["other"] = convert(mdata[modality].X.copy())
        return mdata

    return change


def with_obsm(values: Any, modality: str | None = "adt", key: str = "other") -> Spoil:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obsm[key] = values
        return mdata

    return change


def mask(x: np.ndarray) -> np.ndarray:
    return np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) == 14)


def empty_cells(mdata: MuData) -> MuData:
    mdata["rna"].X[[3, 8]] = 0
    return mdata


def without_x(mdata: MuData) -> MuData:
    rna = AnnData(None, mdata["rna"].obs, mdata["rna"].var, layers={"counts": mdata["rna"].X.copy()})
    return MuData({"rna": rna, "adt": mdata["adt"]})


def without(what: str) -> Spoil:
    """No cells, or no proteins."""
    rows, columns = slice(0 if what == "cells" else None), slice(0 if what == "proteins" else None)
    return lambda mdata: MuData({"rna": mdata["rna"][rows].copy(), "adt": mdata["adt"][rows, columns].copy()})


def batch(values: Any, modality: str | None = "rna") -> Spoil:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obs["batch"] = values
        return mdata

    return change


PEAKS = [f"chr1-{1000 * i}-{1000 * i + 500}" for i in range(1, N_PROTEINS + 1)]
SWAPPED = {"rna_layer": "adt", "adt_layer": "rna"}
NAN_BATCH = pd.Categorical([None, "a", None, *["b"] * 37])
OTHER_BATCH = ["b", "b", "b", *["a"] * 37]
TEXT = np.full((N_CELLS, 2), "a", dtype=object)

# name: (what is wrong, arguments, error, what the message says, the remedy that is run as the message has it)
SET_UP: dict[str, tuple[Spoil, dict[str, Any], type[Exception], list[str], str | None]] = {
    "an AnnData": (lambda m: m["rna"], {}, TypeError, ["must be a MuData, but is AnnData", "MuData({'rna'"], None),
    "a path": (lambda m: "cells.h5mu", {}, TypeError, ["mdata must be a MuData, but is str"], None),
    "cells in another order": (
        reorder,
        {},
        ValueError,
        ["mdata['adt'].obs_names", "40 cells lie in another order", "row 0: 'cell0' against 'cell39'"],
        "mdata = mdata[mdata.obs_names].copy()",
    ),
    "cells of other names": (
        other_cells,
        {},
        ValueError,
        ["no cell has both modalities", "in mdata['rna'] 'cell0', 'cell1'; in mdata['adt'] 'CELL0', 'CELL1'"],
        None,
    ),
    "not updated": (stale, {}, ValueError, ["mdata['adt'] has 43 cells", "updated with 40", "mdata.update()"], None),
    "a view": (lambda m: m[:20], {}, ValueError, ["mdata: mdata is a view"], "mdata = mdata.copy()"),
    "a modality is a view": (
        lambda m: MuData({"rna": m["rna"][:, :9], "adt": m["adt"]}),
        {},
        ValueError,
        ["mdata['rna'] is a view"],
        "mdata = mdata.copy()",
    ),
    "modalities of the same features": (
        lambda m: MuData({"rna": m["rna"].copy(), "adt": m["rna"].copy()}, axis=1),
        {},
        ValueError,
        ["share features (axis=1)", "mudata.MuData(..., axis=0)"],
        None,
    ),
    "no cells": (without("cells"), {}, ValueError, ["mdata", "no cell"], None),
    "no proteins": (
        without("proteins"),
        {"check_sizes": False},
        ValueError,
        ["adt_layer: mdata['adt'].X is empty"],
        None,
    ),
    "repeated genes": (
        repeat_gene,
        {},
        ValueError,
        ["mdata['rna'].var_names", "1 names of genes occur more than once: 'g1'"],
        "mdata['rna'].var_names_make_unique(); mdata.update()",
    ),
    "repeated cells": (
        repeat_cell,
        {},
        ValueError,
        ["mdata['rna'].obs_names", "names of cells", "'cell0'", "by their batch"],
        None,
    ),
    "a modality of another name": (
        with_adt(name="prot"),
        {"modalities": {"adt_layer": "Prot"}},
        ValueError,
        ["modalities['adt_layer']", "no modality 'Prot'", "There is: 'rna', 'prot'.", "Did you mean 'prot'?"],
        None,
    ),
    "no modality that is known": (
        with_adt(name="second"),
        {},
        ValueError,
        ["no modality of proteins among 'rna', 'second'", "modalities={'adt_layer': 'NAME'}"],
        None,
    ),
    "several modalities": (
        lambda m: MuData({"rna": m["rna"], "prot": m["adt"], "ab": m["adt"].copy()}),
        {},
        ValueError,
        ["several modalities of proteins among 'prot', 'ab'"],
        None,
    ),
    "accessible chromatin": (
        with_adt(name="atac", features=PEAKS),
        {},
        ValueError,
        ["no modality of proteins among 'rna', 'atac'", "accessible chromatin, not proteins"],
        None,
    ),
    "modalities by role": (
        same,
        {"modalities": {"rna": "rna"}},
        ValueError,
        ["unknown key 'rna'", "'rna_layer'"],
        None,
    ),
    "modalities by number": (same, {"modalities": {3: "rna"}}, ValueError, ["modalities: unknown key 3"], None),
    "modalities as a list": (same, {"modalities": ["rna"]}, ValueError, ["modalities must map arguments"], None),
    "one modality twice": (same, {"modalities": {"adt_layer": "rna"}}, ValueError, ["'rna' is given as both"], None),
    "a name that is written": (
        with_adt(name="X_indiseek"),
        {"modalities": {"adt_layer": "X_indiseek"}},
        ValueError,
        ["the modality 'X_indiseek' has the name of an obsm entry that the model writes", "Rename it"],
        None,
    ),
    "swapped modalities": (
        same,
        {"modalities": SWAPPED},
        ValueError,
        ["'adt', given as RNA, has 5 features", "'rna', given as ADT, has 12", "seem swapped", "check_sizes=False"],
        None,
    ),
    "a flag in words": (
        same,
        {"check_sizes": "no"},
        ValueError,
        ["check_sizes must be True or False, but is 'no'"],
        None,
    ),
    "no such layer": (
        same,
        {"rna_layer": "count"},
        ValueError,
        ["rna_layer='count'", "mdata['rna'] has no such layer", "Did you mean 'counts'?"],
        None,
    ),
    "no such entry of obsm": (
        same,
        {"rna_obsm_key": "pca"},
        ValueError,
        ["rna_obsm_key='pca'", "neither mdata['rna'].obsm nor mdata.obsm", "Did you mean 'X_pca'?"],
        None,
    ),
    "the mask of a modality": (
        same,
        {"adt_obsm_key": "adt"},
        ValueError,
        ["adt_obsm_key='adt'", "There is none."],
        None,
    ),
    "a layer and obsm": (
        same,
        {"rna_layer": "counts", "rna_obsm_key": "X_pca"},
        ValueError,
        ["rna_layer and rna_obsm_key are both given"],
        None,
    ),
    "no X": (without_x, {}, ValueError, ["rna_layer: mdata['rna'].X is empty", "'counts'"], None),
    "its own output": (
        with_obsm(np.ones((N_CELLS, 2)), None, "X_indiseek"),
        {"rna_obsm_key": "X_indiseek"},
        ValueError,
        ["rna_obsm_key='X_indiseek'", "would be overwritten", "mdata.obsm['my_latents']"],
        None,
    ),
    "an axis too many": (
        with_obsm(np.ones((N_CELLS, 2, 3))),
        {"adt_obsm_key": "other"},
        ValueError,
        ["adt_obsm_key='other'", "must be a matrix", "has the shape (40, 2, 3)", "reshape"],
        None,
    ),
    "NaN": (
        put(np.nan),
        {},
        ValueError,
        ["rna_layer: mdata['rna'].X has 1 values that are not finite: nan in cell 'cell4', 'g2'", "fill the values in"],
        None,
    ),
    "NaN in a protein": (
        put(np.nan, modality="adt"),
        {},
        ValueError,
        ["adt_layer: mdata['adt'].X", "They are in 1 of 5 proteins. Leave these out: exclude=['p2']"],
        None,
    ),
    "infinite": (
        put(np.inf, modality="adt"),
        {},
        ValueError,
        ["adt_layer: mdata['adt'].X", "inf in cell 'cell4', 'p2'"],
        None,
    ),
    "too large": (put(1e30), {}, ValueError, ["rna_layer: mdata['rna'].X", "1e+30 in cell 'cell4', 'g2'"], None),
    "a masked array": (
        with_values(mask),
        {"rna_layer": "other"},
        ValueError,
        ["rna_layer: mdata['rna'].layers['other']", "nan in cell 'cell1', 'g2'", "what is masked"],
        None,
    ),
    "a negative count": (
        put(-3),
        {},
        ValueError,
        [
            "rna_layer: mdata['rna'].X has whole numbers",
            "1 are negative: -3 in cell 'cell4', 'g2'",
            "rna_input='normalized'",
        ],
        None,
    ),
    "negative numbers as counts": (
        put(-3),
        {"rna_input": "counts"},
        ValueError,
        ["rna_input='counts'", "1 negative values: -3 in cell 'cell4', 'g2'", "rna_input='normalized'"],
        None,
    ),
    "logarithms as counts": (
        same,
        {"adt_layer": "logs", "adt_input": "counts"},
        ValueError,
        ["mdata['adt'].layers['logs']", "fractional values", "adt_input='normalized'"],
        None,
    ),
    "text": (
        with_obsm(pd.DataFrame(TEXT, [f"cell{i}" for i in range(N_CELLS)])),
        {"adt_obsm_key": "other"},
        TypeError,
        ["adt_obsm_key: mdata['adt'].obsm['other']", "dtype object are not real numbers"],
        None,
    ),
    "complex numbers": (
        with_values(lambda x: x.astype(complex)),
        {"rna_layer": "other"},
        TypeError,
        ["rna_layer: mdata['rna'].layers['other']", "complex128 are not real numbers", ".astype('float32')"],
        None,
    ),
    "cells without counts": (
        empty_cells,
        {},
        ValueError,
        ["mdata['rna'].X: 2 cells have no counts", "'cell3', 'cell8'"],
        "mdata = mdata[numpy.ravel(mdata['rna'].X.sum(axis=1)) > 0].copy()",
    ),
    "an unknown kind": (
        same,
        {"rna_input": "count"},
        ValueError,
        ["rna_input='count' is not known", "Did you mean 'counts'?"],
        None,
    ),
    "no such column of batches": (
        same,
        {"batch_key": "Batch"},
        ValueError,
        ["batch_key='Batch' is not a column of any obs", "mdata['rna'].obs: batch", "Did you mean 'rna:batch'?"],
        None,
    ),
    "a modality of batches that is not there": (
        same,
        {"batch_key": "batch", "modalities": {"batch_key": "gex"}},
        ValueError,
        ["modalities['batch_key']: no modality 'gex'"],
        None,
    ),
    "batches in the other modality": (
        same,
        {"batch_key": "batch", "modalities": {"batch_key": "adt"}},
        ValueError,
        ["there is no such column (mdata['adt'].obs['batch'])"],
        None,
    ),
    "cells without a batch": (
        batch(NAN_BATCH),
        {"batch_key": "batch"},
        ValueError,
        ["batch_key: 2 cells have no batch in mdata['rna'].obs['batch']: 'cell0', 'cell2'", "Fill it in"],
        None,
    ),
    "two batches of a cell": (
        batch(OTHER_BATCH, "adt"),
        {"batch_key": "batch"},
        ValueError,
        ["modalities 'rna' and 'adt' disagree about cell0", "Name one of them: 'rna:batch' or 'adt:batch'"],
        None,
    ),
    "several columns of batches": (
        same,
        {"batch_key": ["rna:batch"]},
        ValueError,
        ["batch_key must be the name of one column", "Give it by itself: batch_key='rna:batch'"],
        None,
    ),
    "a protein that is not there": (same, {"exclude": ["P1"]}, ValueError, ["exclude: there is no 'P1'", "'p1'"], None),
    "a protein that is not in a list": (same, {"exclude": "p1"}, TypeError, ["exclude='p1'", "exclude=['p1']"], None),
    "a number of proteins": (same, {"exclude": 2}, ValueError, ["exclude must be a list, but is 2"], None),
    "all proteins left out": (
        same,
        {"exclude": np.array([f"p{i}" for i in range(N_PROTEINS)])},
        ValueError,
        ["exclude: no feature of mdata['adt'].X is left", "exclude=() for none"],
        None,
    ),
    "an argument misspelt": (
        same,
        {"batch": "batch"},
        TypeError,
        ["unexpected keyword argument 'batch'", "Did you mean 'batch_key'?"],
        None,
    ),
    "an argument of another model": (
        same,
        {"protein_layer": "counts"},
        TypeError,
        ["unexpected keyword argument 'protein_layer'", "Give adt_layer."],
        None,
    ),
}


@pytest.mark.parametrize("name", SET_UP)
def test_the_set_up(name: str) -> None:
    spoil, arguments, error, pieces, remedy = SET_UP[name]
    mdata = spoil(make_mdata())
    before = fingerprint(mdata) if isinstance(mdata, MuData) else None
    message = refused(lambda: IndiSeek.setup_mudata(mdata, **arguments), error, pieces)
    assert before is None or fingerprint(mdata) == before
    if remedy is not None:
        assert remedy in message
        names = {"mdata": mdata, "numpy": np}
        exec(remedy, names)
        IndiSeek.setup_mudata(names["mdata"], **arguments)


KINDS = ["int8", "int64", "uint8", "uint32", "bool", "float16", "float32", "float64", "complex64", "object", "U3"]
FORMATS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "masked": np.ma.masked_array,
    "table": pd.DataFrame,
    "csr": sp.csr_matrix,
    "csc": sp.csc_array,
}
"""anndata itself refuses other sparse matrices."""

NAMES = st.lists(st.text("aB1-é ", min_size=1, max_size=3), min_size=6, max_size=6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.data(),
    st.sampled_from(["rna", "adt"]),
    st.sampled_from(["X", "layers", "obsm"]),
    st.sampled_from(KINDS),
    st.sampled_from(list(FORMATS)),
)
def test_any_matrix_is_set_up_or_refused_by_its_argument(
    data: st.DataObject, modality: str, place: str, kind: str, form: str
) -> None:
    shape = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 3))
    values = data.draw(st.lists(st.sampled_from([0, 1, 2, 7, -1, 0.5, np.nan, np.inf, 1e30]), min_size=1, max_size=6))
    cells, features = (data.draw(st.one_of(st.just([f"x{i}" for i in range(6)]), NAMES)) for _ in range(2))
    assume(form not in ("csr", "csc") or kind not in ("float16", "object", "U3"))  # which scipy does not make
    assume(form != "table" or place == "obsm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matrix = FORMATS[form](np.resize(values, shape).astype(kind))
        if form == "table":
            matrix.index = cells[: shape[0]]
        parts = {
            name: AnnData(
                matrix
                if (name, place) == (modality, "X")
                else np.ones((shape[0], shape[1] if name == modality else 3)),
                pd.DataFrame(index=cells[: shape[0]]),
                pd.DataFrame(index=features[: shape[1] if name == modality else 3]),
                **({place: {"other": matrix}} if name == modality and place != "X" else {}),
            )
            for name in ("rna", "adt")
        }
        mdata = MuData(parts)
        before = fingerprint(mdata)
        argument = {"X": {}, "layers": {f"{modality}_layer": "other"}, "obsm": {f"{modality}_obsm_key": "other"}}[place]
        try:
            IndiSeek.setup_mudata(mdata, check_sizes=False, **argument)
        except (TypeError, ValueError) as error:
            assert re.match(r"(rna|adt)_(layer|obsm_key)\b|(exclude|mdata)\b", str(error)), error
            assert fingerprint(mdata) == before


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of 240 cells, which are from donors a and b."""
    path = tmp_path_factory.mktemp("saved") / "model"
    shutil.unpack_archive(ARCHIVE, path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> IndiSeek:
    """This model beside its cells, to which it wrote their representations."""
    mdata = draw_cells()
    IndiSeek.setup_mudata(mdata, batch_key="donor")
    mdata.obs["cell_type"] = pd.Categorical(np.array(["B", "CD4 T", "CD8 T", "NK"])[np.arange(240) % 4])
    model = IndiSeek.load(folder, mdata, accelerator="cpu")
    model.write_latents()
    return model


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def state_of(model: IndiSeek) -> dict[str, Any]:
    """All that a model has learnt, and its data."""
    return {
        **fingerprint(model.adata),
        "weights": {name: x.cpu().numpy().tobytes() for name, x in model.module.state_dict().items()},
        "stages": (list(model.stages_), model.lambda_, model.chosen_path, model.settings, sorted(model.history)),
        "objects": (id(model.module), id(getattr(model, "trainer", None)), id(model.adata), id(model.split_)),
        "random": torch.get_rng_state().numpy().tobytes(),
    }


def make(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: IndiSeek(model.adata, **arguments)


def train(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.train(**{"max_epochs": 1, "enable_progress_bar": False, **arguments})


def encode(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.get_latent_representation(**arguments)


def predict(source: Any = "rna", target: Any = "adt", mdata: Spoil | None = None, **arguments: Any) -> Callable:
    return lambda model: model.predict_modality(
        source, target, None if mdata is None else mdata(model.adata), **arguments
    )


def attribute(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.feature_attribution(**arguments)


def rank(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.feature_importance(**{"modality": "rna", **arguments})


def walk(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.lambda_path(**arguments)


def untrained(call: Callable[[IndiSeek], Any]) -> Callable[[IndiSeek], Any]:
    return lambda model: call(IndiSeek(model.adata))


def made_by_hand(n_specific: int, n_condition: int) -> HSICCritic:
    return HSICCritic(n_specific, n_condition)


# name: (what is asked of a trained model, error, what the message says)
MODEL: dict[str, tuple[Callable[[IndiSeek], Any], type[Exception], list[str]]] = {
    # How it is made
    "a model of an AnnData": (lambda m: IndiSeek(m.adata["rna"]), TypeError, ["mdata must be a MuData", "IndiSeek.setup_mudata(mdata)"]),
    "a model of nothing": (lambda m: IndiSeek(), ValueError, ["mdata: give a MuData", "IndiSeek.setup_mudata(mdata)"]),
    "a model without set-up": (lambda m: IndiSeek(make_mdata()), ValueError, ["mdata was not set up", "IndiSeek.setup_mudata(mdata)"]),
    "setup_anndata": (lambda m: IndiSeek.setup_anndata(m.adata["rna"]), NotImplementedError, ["mudata.MuData(", "IndiSeek.setup_mudata(mdata)"]),
    "no width": (make(n_shared=0), ValueError, ["n_shared must be at least 1, but is 0"]),
    "half a width": (make(n_specific=1.5), ValueError, ["n_specific must be a whole number, but is 1.5"]),
    "components by number": (make(n_components=np.float64(5)), ValueError, ["n_components must be a whole number, but is"]),
    "no genes": (make(n_top_genes=0), ValueError, ["n_top_genes must be at least 1, but is 0"]),
    "dropout of everything": (make(dropout=1.0), ValueError, ["dropout must be at least 0 and below 1, but is 1.0"]),
    "a weight below 0": (make(info_nce_weight=-1), ValueError, ["info_nce_weight must not be negative, but is -1.0"]),
    "a weight of NaN": (make(canonical_weight=np.nan), ValueError, ["canonical_weight must be a finite number, but is nan"]),
    "offsets in words": (make(batch_offsets="no"), ValueError, ["batch_offsets must be True or False, but is 'no'"]),
    "an unknown preset": (make(preset="papr"), ValueError, ["preset='papr' is not known", "Did you mean 'paper'?"]),
    "an unknown critic": (make(independence="gaussian+clip"), ValueError, ["independence: unknown critic 'clip' in 'gaussian+clip'", "hsic"]),
    "a critic without a name": (make(independence=lambda *n: HSICCritic(*n)), ValueError, ["independence: ", "cannot be saved", "top level of a module"]),
    "a number for a critic": (make(independence=3), TypeError, ["independence must be names, or make critics"]),
    "a seed below 0": (make(seed=-1), ValueError, ["seed must not be negative, but is -1"]),
    # Training
    "epochs below 0": (train(max_epochs=-1), ValueError, ["max_epochs must be whole numbers of at least 0, but is -1"]),
    "half an epoch": (train(max_epochs=1.5), ValueError, ["max_epochs must be whole numbers of at least 0, but is 1.5"]),
    "true epochs": (train(max_epochs=True), ValueError, ["max_epochs must be whole numbers of at least 0, but is True"]),
    "an unknown stage": (train(max_epochs={"critic": 1}), ValueError, ["max_epochs: the stage 'critic' is not known", "Did you mean 'critics'?"]),
    "the order of stages": (train(stages=("specific", "shared")), ValueError, ["stages must be ('shared', 'specific') or one of them alone"]),
    "lambda below 0": (train(lambda_=-1.0), ValueError, ["lambda_ must be a finite number of at least 0, but is -1.0"]),
    "lambda of NaN": (train(lambda_=np.float32("nan")), ValueError, ["lambda_ must be a finite number of at least 0, but is"]),
    "lambda by name": (train(lambda_="best"), ValueError, ["lambda_ must be a number or 'auto', but is 'best'"]),
    "a share of NaN": (train(train_size=np.nan), ValueError, ["train_size must be a finite number, but is nan"]),
    "a share in words": (train(train_size="0.9"), ValueError, ["train_size must be a number, but is '0.9'"]),
    "a share of all": (train(validation_size=1), ValueError, ["validation_size=1 must lie between 0 and 1"]),
    "shares of more than all": (train(train_size=0.9, validation_size=0.2), ValueError, ["train_size + validation_size must be at most 1"]),
    "a row that is not there": (train(held_out=[240]), ValueError, ["held_out must lie below the number of cells, 240, but reach 240 to 240"]),
    "too few cells": (train(held_out=np.arange(220)), ValueError, ["Too few cells: ", "hold out fewer"]),
    "cells held out of stage 2": (train(stages=("specific",), held_out=[0]), ValueError, ["held_out: stage 2 alone keeps the cells", "Leave it out"]),
    "a start of new representations": (train(keep_start=True), ValueError, ["keep_start: ", "give stages=('specific',)"]),
    "a flag of training": (train(early_stopping="no"), ValueError, ["early_stopping must be True or False, but is 'no'"]),
    "an empty batch": (train(batch_size=0), ValueError, ["batch_size must be at least 1, but is 0"]),
    "an unknown plan": (train(plan_kwargs={"learning_rates": 1}), ValueError, ["plan_kwargs: 'learning_rates' is not known", "Did you mean 'learning_rate'?"]),
    "a plan of another argument": (train(plan_kwargs={"max_epochs_shared": 3}), ValueError, ["plan_kwargs: give max_epochs to train() itself"]),
    "a plan as a list": (train(plan_kwargs=[1]), ValueError, ["plan_kwargs must be a dictionary, but is [1]"]),
    "a learning rate of 0": (train(plan_kwargs={"learning_rate": 0}), ValueError, ["learning_rate must be above 0, but is 0.0"]),
    "no GPU": (train(accelerator="gpu"), ValueError, ["accelerator='gpu': torch finds no CUDA GPU here", "Use accelerator='cpu'"]),
    "an unknown accelerator": (train(accelerator="tpu"), ValueError, ["accelerator must be 'auto', 'gpu' or 'cpu', but is 'tpu'"]),
    "several devices": (train(devices=2), ValueError, ["devices: training runs on a single device", "such as [0]"]),
    "an argument of trainers": (train(use_gpu=True), ValueError, ['use_gpu is not taken: give accelerator="gpu"']),
    "an unknown argument": (train(acelerator="cpu"), TypeError, ["no argument 'acelerator'", "Did you mean 'accelerator'?"]),
    "half precision": (train(precision=16), ValueError, ["precision=16 is not taken"]),
    "no batches": (train(limit_train_batches=0), ValueError, ["limit_train_batches must be at least 1, but is 0"]),
    "gradients clipped at 0": (train(gradient_clip_val=np.float32(0)), ValueError, ["gradient_clip_val must be above 0, but is 0.0"]),
    "no validation": (train(check_val_every_n_epoch=1.0), ValueError, ["check_val_every_n_epoch must be a whole number, but is 1.0"]),
    "callbacks in words": (train(callbacks=["early"]), TypeError, ["callbacks must be callbacks of lightning.pytorch, but one is 'early'"]),
    "a checkpoint that is a file": (train(checkpoint_dir=__file__), ValueError, ["checkpoint_dir: ", "is a file. Give a folder"]),
    "a checkpoint that is no path": (train(checkpoint_dir=5), ValueError, ["checkpoint_dir must be a path, but is 5"]),
    "no lambdas": (walk(lambdas=()), ValueError, ["lambdas must be finite numbers above 0, at least one"]),
    "a lambda of 0": (walk(lambdas=[0]), ValueError, ["lambdas must be above 0, but is 0.0"]),
    "a tolerance below 0": (walk(tolerance=-1), ValueError, ["tolerance must not be negative, but is -1.0"]),
    "no jobs": (walk(n_jobs=0), ValueError, ["n_jobs must be at least 1, but is 0"]),
    "a seed of a walk": (walk(seed="x"), ValueError, ["seed must be a whole number, but is 'x'"]),
    "a flag of a walk": (walk(apply="yes"), ValueError, ["apply must be True or False, but is 'yes'"]),
    "taking over a path": (lambda m: m.take_over("model"), TypeError, ["other must be a model", "but is str"]),
    # Representations
    "an unknown kind of representation": (encode(kind="sahred", modality="rna"), ValueError, ["kind='sahred' is not known", "Did you mean 'shared'?"]),
    "an unknown modality": (encode(kind="shared", modality="prot"), ValueError, ["modality='prot' is not known. There is: 'rna', 'adt'"]),
    "no modality": (encode(kind="shared"), ValueError, ["modality must be one name, but is None", "'rna', 'adt'"]),
    "a modality of the joint representation": (encode(modality="rna"), ValueError, ["modality: the joint representation is of both modalities"]),
    "a cell beyond the last": (encode(indices=[240]), ValueError, ["indices must lie below the number of cells, 240"]),
    "a mask that is too short": (encode(indices=[True, False]), ValueError, ["indices: a mask needs one value a cell (240)"]),
    "cells that are not there": (encode(indices=["cell1", "nobody"]), ValueError, ["indices: 1 names are of no cell: 'nobody'", "such as 'cell0'"]),
    "half a cell": (encode(indices=[0.5]), ValueError, ["indices must be whole row numbers, names of cells or a mask"]),
    "rows of several lengths": (encode(indices=[[1], [2, 3]]), ValueError, ["indices must be one list of cells or a mask"]),
    "max_missing in words": (encode(max_missing="all"), ValueError, ["max_missing must be a number, but is 'all'"]),
    "representations of an AnnData": (lambda m: m.get_latent_representation(m.adata["rna"]), TypeError, ["mdata must be a MuData, but is AnnData"]),
    "representations written to a view": (lambda m: m.write_latents(m.adata[:9]), ValueError, ["mdata: it is a view", "mdata = mdata.copy()"]),
    "representations before training": (untrained(lambda m: m.write_latents()), RuntimeError, ["specific representations are not trained yet", "model.train()"]),
    "features of nothing": (lambda m: m.get_features(modality="x"), ValueError, ["modality='x' is not known"]),
    "features before training": (untrained(lambda m: m.get_features(modality="rna")), RuntimeError, ["shared representations are not trained yet"]),
    # Prediction
    "a source misspelt": (predict("RNA"), ValueError, ["source='RNA' is not known", "Did you mean 'rna'?"]),
    "a target that is none": (predict(target=None), ValueError, ["target must be one name, but is None"]),
    "a modality from itself": (predict(target="rna"), ValueError, ["source and target are both 'rna'"]),
    "unknown units": (predict(units="counts"), ValueError, ["units='counts' is not known. There is: 'features', 'normalized'"]),
    "prediction from an AnnData": (predict(mdata=lambda m: m["rna"]), TypeError, ["mudata.MuData({'rna': adata})"]),
    "prediction without the source": (predict(mdata=lambda m: MuData({"adt": m["adt"].copy()})), ValueError, ["there is no modality 'rna' to read"]),
    "prediction without batches": (predict(mdata=lambda m: MuData({"rna": m["rna"].copy()})), ValueError, ["batch_key='donor' is not a column of any obs"]),
    "prediction of no cell": (predict(indices=["nobody"]), ValueError, ["indices: 1 names are of no cell: 'nobody'"]),
    "a level of everything": (lambda m: m.audit_prediction("rna", "adt", level=1.0), ValueError, ["level must lie in 0.05 to 0.99, but is 1.0"]),
    "epochs of another stage": (lambda m: m.train_prediction({"shared": 1}), ValueError, ["max_epochs: the stage 'shared' is not known. There is: 'prediction'"]),
    # Audit and attribution
    "a seed of an audit": (lambda m: m.audit(seed=1.5), ValueError, ["seed must be a whole number, but is 1.5"]),
    "an auditor that is none": (lambda m: m.audit(auditor=3), TypeError, ["auditor must be what make_auditor() returned, but is int"]),
    "an audit before training": (untrained(lambda m: m.audit()), RuntimeError, ["specific representations are not trained yet"]),
    "attribution by another method": (attribute(method="shap"), ValueError, ["method='shap' is not known. There is: 'decoder_jacobian'"]),
    "attribution to raw values": (attribute(values="raw"), ValueError, ["values='raw': ", "use method='integrated_gradients'"]),
    "attribution of few cells": (attribute(max_cells=np.int64(0)), ValueError, ["max_cells must be at least 1, but is 0"]),
    "no steps": (attribute(n_steps=0), ValueError, ["n_steps must be at least 1, but is 0"]),
    "groups of other cells": (attribute(groups=["a"] * 7), ValueError, ["groups: one label is needed for each cell of mdata (240), but there are 7"]),
    "groups misspelt": (attribute(groups="celltype"), KeyError, ["groups='celltype' is not a column of any obs", "Did you mean 'cell_type'?"]),
    "groups in another order": (lambda m: m.feature_attribution(groups=m.adata.obs["cell_type"][::-1]), ValueError, ["groups: its index is not that of the cells", "groups.reindex(mdata.obs_names)"]),
    "no label in any cell": (attribute(groups=[np.nan] * 240), ValueError, ["groups: none of the cells looked at has a label"]),
    "no cell to look at": (attribute(indices=[]), ValueError, ["indices: there is no cell to look at"]),
    "importance of the joint representation": (rank(kind="joint"), ValueError, ["kind='joint' is not known. There is: 'shared', 'specific'"]),
    "importance by another method": (rank(method="gradient"), ValueError, ["method='gradient' is not known. There is: 'jacobian'"]),
    "no repeats": (rank(n_repeats=0), ValueError, ["n_repeats must be at least 1, but is 0"]),
    # Reports and files
    "a report in no folder": (lambda m: m.report("/nowhere/report.html"), ValueError, ["path: /nowhere/report.html: there is no folder /nowhere"]),
    "a report of no labels": (lambda m: m.report("report.html", label_key="celltype"), KeyError, ["label_key='celltype'", "Did you mean 'cell_type'?"]),
    "a report without a path": (lambda m: m.report(None), ValueError, ["path must be a path, but is None"]),
    "a report before training": (untrained(lambda m: m.report("report.html")), RuntimeError, ["specific representations are not trained yet"]),
    "a folder that is there": (lambda m: m.save(Path(__file__).parent), ValueError, ["dir_path: ", "already exists", "overwrite=True"]),
    "a folder that is none": (lambda m: m.save(None), ValueError, ["dir_path must be a path, but is None"]),
    "a prefix with a folder": (lambda m: m.save("new", prefix="../x-"), ValueError, ["prefix must be the beginning of names of files, without folders"]),
    "a prefix that is no text": (lambda m: m.save("new", prefix=3), ValueError, ["prefix must be the beginning of names of files"]),
    "a flag of saving": (lambda m: m.save("new", overwrite="yes"), ValueError, ["overwrite must be True or False, but is 'yes'"]),
    "a reference that is no model": (lambda m: IndiSeek.load_query_data(m.adata, 3), TypeError, ["reference_model must be a model or the folder"]),
    "a query that is an AnnData": (lambda m: IndiSeek.load_query_data(m.adata["rna"], m), TypeError, ["mdata must be a MuData, but is AnnData"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MODEL)
def test_a_model(name: str, model: IndiSeek, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, error, pieces = MODEL[name]
    monkeypatch.chdir(tmp_path)
    before = state_of(model)
    refused(lambda: call(model), error, pieces)
    assert state_of(model) == before
    assert list(tmp_path.iterdir()) == []


# --- queries: other cells that a model shall read ----------------------------------------------------------------------


def rename_features(modality: str, rename: Callable[[pd.Index], Any]) -> Spoil:
    def change(mdata: MuData) -> MuData:
        mdata[modality].var_names = rename(mdata[modality].var_names)
        mdata.update()
        return mdata

    return change


def of_donors(values: Any) -> Spoil:
    def change(mdata: MuData) -> MuData:
        mdata.obs["donor"] = values
        return mdata

    return change


def take_logarithms(mdata: MuData) -> MuData:
    mdata["rna"].X = np.log1p(mdata["rna"].X)
    return mdata


# name: (what is wrong, error, what the message says)
QUERIES: dict[str, tuple[Spoil, type[Exception], list[str]]] = {
    "an AnnData": (lambda m: m["rna"], TypeError, ["must be a MuData", "but is AnnData", "mudata.MuData({'rna': rna, 'adt': adt})"]),
    "other genes": (
        rename_features("rna", lambda names: ["new", *names[1:20], *names[20:] + "b"]),
        ValueError,
        ["mdata['rna'].X: of the 30 genes that the model uses 11 are missing (37%, more than max_missing=0.2): 'rna0', 'rna20'",
         "as model.get_var_names() does", "such as 'new', 'rna20b'", "max_missing=0.37"],
    ),
    "no gene": (
        rename_features("rna", lambda names: names.str.upper()),
        ValueError,
        ["30 are missing (100%", "called such as 'RNA0', 'RNA1'", "model.get_var_names()['rna'] has to mdata['rna'].var_names"],
    ),
    "genes twice": (rename_features("rna", lambda names: [names[1], *names[1:]]), ValueError, ["names of genes occur more than once: 'rna1'", "var_names_make_unique()"]),
    "an unknown batch": (
        of_donors(["a", "c", "c", *["b"] * 37]),
        ValueError,
        ["batch_key: 2 cells of mdata.obs['donor']", "does not know: 'c'", "It knows: 'a', 'b'", "IndiSeek.load_query_data(mdata, model)"],
    ),
    "numbers for batches": (of_donors(0), ValueError, ["does not know: '0'", "It knows: 'a', 'b'"]),
    "cells without a batch": (of_donors([np.nan, *["b"] * 39]), ValueError, ["batch_key: 1 cells have no batch in mdata.obs['donor']: 'cell0'"]),
    "no column of batches": (lambda m: m.obs.pop("donor") is None or m, ValueError, ["batch_key='donor' is not a column of any obs", "Add the column"]),
    "cells in another order": (reorder, ValueError, ["mdata['adt'].obs_names: 40 cells lie in another order", "mdata = mdata[mdata.obs_names].copy()"]),
    "logarithms": (take_logarithms, ValueError, ["rna_layer: mdata['rna'].X is taken as counts (rna_input='counts')", "fractional", "'cell0', 'rna"]),
    "NaN": (put(np.nan), ValueError, ["rna_layer: mdata['rna'].X has 1 values that are not finite: nan in cell 'cell4', 'rna2'"]),
    "no counts in a cell": (empty_cells, ValueError, ["rna_layer: mdata['rna'].X: 2 cells have no counts", "'cell3', 'cell8'"]),
    "no proteins": (with_adt(name="prot"), ValueError, ["no modality 'adt'", "There is: 'rna', 'prot'"]),
    "no layer": (without_x, ValueError, ["rna_layer: mdata['rna'].X is empty"]),
}  # fmt: skip


@pytest.mark.parametrize("entrance", ["latents", "load"])
@pytest.mark.parametrize("name", QUERIES)
def test_a_query(name: str, entrance: str, model: IndiSeek, folder: Path) -> None:
    spoil, error, pieces = QUERIES[name]
    query = draw_cells(40)
    for adata in query.mod.values():
        adata.X = adata.X.toarray()
    query = spoil(query)
    calls = {
        "latents": lambda: model.get_latent_representation(query),
        "load": lambda: IndiSeek.load(folder, query, accelerator="cpu"),
    }
    before = state_of(model), fingerprint(query) if isinstance(query, MuData) else None
    refused(calls[entrance], error, [piece for piece in pieces if entrance == "load" or "MuData({" not in piece])
    assert (state_of(model), fingerprint(query) if isinstance(query, MuData) else None) == before


# --- tools and figures ------------------------------------------------------------------------------------------------


def without_latents(mdata: MuData) -> MuData:
    return draw_cells(40)


def labelled(values: Any) -> Spoil:
    def change(mdata: MuData) -> MuData:
        mdata.obs["cell_type"] = values
        return mdata

    return change


def dropped(attribute: str, key: str) -> Spoil:
    def change(mdata: MuData) -> MuData:
        del getattr(mdata, attribute)[key]
        return mdata

    return change


def with_nan(key: str, first: int = 0, modality: str | None = None, *, whole: bool = False) -> Spoil:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obsm[key][first:, slice(None if whole else 1)] = np.nan
        return mdata

    return change


def one_embedding(mdata: MuData) -> MuData:
    for adata in mdata.mod.values():
        del adata.obsm["X_pca"]
    mdata.obsm["X_pca"] = np.ones((mdata.n_obs, 2))
    return mdata


def with_weights(values: Any) -> Spoil:
    def change(mdata: MuData) -> MuData:
        mdata.obs["RNA.weight"] = np.resize(values, mdata.n_obs)
        return mdata

    return change


def only_training(mdata: MuData) -> MuData:
    mdata.obs[_keys.SPLIT] = pd.Categorical(["train"] * mdata.n_obs)
    return mdata


def narrow_latent(mdata: MuData) -> MuData:
    mdata = mdata.copy()
    mdata.obsm[_keys.JOINT] = mdata.obsm[_keys.JOINT][:, :2]
    return mdata


def narrow(mdata: MuData) -> MuData:
    mdata.obsm["X_umap"] = mdata.obsm["X_umap"][:, :1]
    return mdata


def own_varm(mdata: MuData) -> MuData:
    mdata["adt"].varm["indiseek_specific"] = np.ones((8, 2))
    return mdata


def importance(label_key: Any = "cell_type", **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.modality_importance(mdata, label_key, **arguments)


def ranks(label_key: Any = "cell_type", **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.rank_correlation(mdata, label_key, **arguments)


def clusters(label_key: Any = "cell_type", **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.compare_clusters(mdata, label_key, **arguments)


def retrieve(**arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.retrieval(mdata, **arguments)


def weigh(**arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.wnn_weights(mdata, **arguments)


def transfer(query: Spoil = MuData.copy, label_key: str = "cell_type", **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.transfer_labels(mdata, query(mdata), label_key, **arguments)


def maps(**arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: pl.umap(mdata, show=False, **arguments)


ATTRIBUTIONS = pd.DataFrame(
    {
        "modality": "adt",
        "kind": "specific",
        "method": "decoder_jacobian",
        "dimension": np.repeat([0, 1], 8),
        "group": "all",
        "n_cells": 9,
        "feature": [f"adt{i}" for i in range(8)] * 2,
        "attribution": np.linspace(-1, 1, 16),
        "standard_error": 0.1,
        "magnitude": np.linspace(0, 1, 16),
    }
)
TWO_KINDS = pd.concat([ATTRIBUTIONS, ATTRIBUTIONS.assign(kind="shared")])
TWO_GROUPS = pd.concat([ATTRIBUTIONS, ATTRIBUTIONS.assign(group="B")])
AUDIT = SimpleNamespace(table=pd.DataFrame({name: [1.0] for name in pl._audit.AUDIT_AIMS}, index=["rna"]))


def write_loadings(table: Any = ATTRIBUTIONS, **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.write_attribution(mdata, table, **arguments)


def draw(figure: Callable, *given: Any, **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: figure(*(given or (mdata,)), show=False, **arguments)


# name: (what is wrong with coded cells, what is asked of them, error, what the message says)
TOOLS: dict[str, tuple[Spoil, Callable[[MuData], Any], type[Exception], list[str]]] = {
    # Modality importance
    "theta of an AnnData": (lambda m: m["rna"], importance(), TypeError, ["mdata must be a MuData, but is AnnData"]),
    "theta without representations": (without_latents, importance(), KeyError, ["does not say which modality is which", "model.write_latents(mdata)"]),
    "theta of a representation that is gone": (dropped("obsm", "X_indiseek_specific_adt"), importance(), KeyError, ["X_indiseek_specific_adt", "of modality 'adt'", "model.write_latents(mdata)"]),
    "labels misspelt": (same, importance("celltype"), KeyError, ["label_key='celltype' is not a column of any obs", "mdata.obs: donor", "Did you mean 'cell_type'?"]),
    "two columns of labels": (same, importance(["cell_type", "donor"]), ValueError, ["label_key must be the name of one column", "mdata.obs['cell_type_donor'] = ", "label_key='cell_type_donor'"]),
    "no labels": (labelled(np.nan), importance(), ValueError, ["label_key='cell_type' must have at least 2 labels among the 240 cells looked at; it has 0", "Name another column"]),
    "one label": (labelled("B"), importance(), ValueError, ["label_key='cell_type' must have at least 2 labels among the 240 cells looked at; it has 1"]),
    "an unknown code": (same, importance(latent="specifc"), ValueError, ["latent='specifc' is not known", "Did you mean 'specific'?"]),
    "theta of the joint representation": (same, importance(latent="joint"), ValueError, ["latent='joint' is the one representation of both", "Name 'both'"]),
    "theta of an embedding that is not there": (same, importance(latent="raw", rna_obsm_key="pca"), KeyError, ["rna_obsm_key='pca'", "scanpy.pp.pca(mdata['rna'])"]),
    "unknown cells": (same, importance(cells="test"), ValueError, ["cells='test' is not known. There is: 'all', 'held_out'"]),
    "no split": (dropped("obs", _keys.SPLIT), importance(cells="held_out"), KeyError, ["cells='held_out' needs", "use cells='all'"]),
    "a split that holds nothing out": (only_training, importance(cells="held_out"), ValueError, ["has neither test nor validation cells", "Use cells='all'"]),
    "one modality of two": (same, importance(modalities={"rna": "rna"}), ValueError, ["modalities must map 'rna' and 'adt'"]),
    "one modality for two": (same, weigh(modalities={"rna": "rna", "adt": "rna"}), ValueError, ["modalities must name two different modalities; got 'rna' twice"]),
    "a modality that is not there": (same, importance(modalities={"rna": "gex", "adt": "adt"}), KeyError, ["modalities['rna']='gex' is not a modality of mdata", "'rna', 'adt'"]),
    "no neighbours": (same, importance(n_neighbors=0), ValueError, ["n_neighbors must be at least 1, but is 0"]),
    "more neighbours than cells": (same, importance(n_neighbors=240), ValueError, ["n_neighbors=240 needs more cells", "there are 240", "Lower n_neighbors"]),
    "representations of few cells": (with_nan("X_indiseek_specific_adt", 5), importance(), ValueError, ["n_neighbors=10 needs more cells", "there are 5"]),
    "no smoothing": (same, importance(smoothing=0), ValueError, ["smoothing must be above 0, but is 0.0"]),
    "smoothing of NaN": (same, importance(smoothing=np.float64("nan")), ValueError, ["smoothing must be"]),
    "confidence of all": (same, importance(confidence=1), ValueError, ["confidence=1 must lie between 0 and 1"]),
    "confidence in words": (same, importance(confidence="high"), ValueError, ["confidence must be a number, but is 'high'"]),
    "true draws": (same, importance(n_bootstrap=True), ValueError, ["n_bootstrap must be a whole number, but is True"]),
    "a seed of theta": (same, importance(seed=-1), ValueError, ["seed must not be negative, but is -1"]),
    # Ranks
    "representations that are one text": (same, ranks(latents="shared"), ValueError, ["latents='shared' must be a sequence of representations"]),
    "representations that are none": (with_weights([0.5]), ranks(latents=["private"]), ValueError, ["latents='private' is not known"]),
    "no weights": (same, ranks(), KeyError, ["looked for 'rna:wnn_weight'", "tl.wnn_weights(mdata)", "weight_key"]),
    "weights misspelt": (with_weights([0.5]), ranks(weight_key="rna.weight"), KeyError, ["weight_key='rna.weight'", "Did you mean 'RNA.weight'?"]),
    "weights beyond 1": (with_weights([0.5, 2.0]), ranks(), ValueError, ["'RNA.weight' does not hold weights between 0 and 1", "cell1"]),
    "weights in words": (with_weights(["high"]), lambda m: tl.find_wnn_weights(m), ValueError, ["'RNA.weight' does not hold weights between 0 and 1 in cells cell0, cell1", "Name another column by key"]),
    "an audit that is none": (with_weights([0.5]), ranks(audit=0.5), TypeError, ["audit must be what model.audit() returned, but is float"]),
    "labels of too few cells": (with_weights([0.2, 0.4, 0.6]), ranks(minimum_cells=61), ValueError, ["at least 3 labels of minimum_cells=61"]),
    # Clusters
    "clusters without the joint representation": (dropped("obsm", _keys.JOINT), clusters(), KeyError, ["X_indiseek", "the joint representation, is missing", "model.write_latents(mdata)"]),
    "clusters of one label": (labelled("B"), clusters(), ValueError, ["label_key='cell_type' must have at least 2 labels", "it has 1"]),
    "an unknown reference": (same, clusters(reference="shared_gex"), ValueError, ["reference='shared_gex' is not among what is compared"]),
    "only the reference": (same, clusters(latents=["joint"]), ValueError, ["latents=['joint'] are but the reference", "Name more"]),
    "one repeat": (same, clusters(n_repeats=1), ValueError, ["n_repeats=1 must be at least 2"]),
    "one cluster": (same, clusters(n_clusters=1), ValueError, ["n_clusters=1 must be at least 2"]),
    "a share of all cells": (same, clusters(minimum_share=1.0), ValueError, ["minimum_share=1.0 must lie between 0 and 1"]),
    # Retrieval
    "no candidates": (same, retrieve(ks=()), ValueError, ["ks=() must be whole numbers of at least 1, and at least one"]),
    "one number of candidates": (same, retrieve(ks=5), ValueError, ["ks=5 must be whole numbers"]),
    "candidates by number": (same, retrieve(ks=[1.0]), ValueError, ["ks=[1.0] must be whole numbers"]),
    "no candidate": (same, retrieve(ks=(0,)), ValueError, ["ks=(0,) must be whole numbers of at least 1"]),
    "retrieval of one cell": (with_nan("X_indiseek_shared_rna", 1), retrieve(cells="all"), ValueError, ["needs at least 2 cells with both shared representations", "there are 1"]),
    # Weights
    "no embedding": (without_latents, weigh(), KeyError, ["rna_obsm_key='X_pca': neither mdata['rna'].obsm nor mdata.obsm", "scanpy.pp.pca(mdata['rna'])"]),
    "an embedding with NaN": (with_nan("X_pca", 238, "adt"), weigh(), ValueError, ["adt_obsm_key='X_pca'", "modality 'adt' that are not finite in cells cell238, cell239"]),
    "one embedding for both": (one_embedding, weigh(), ValueError, ["are both mdata.obsm['X_pca']", "Name an embedding of each"]),
    "more dimensions than there are": (same, weigh(rna_dimensions=9), ValueError, ["rna_dimensions=9 must be between 1 and the 4 columns"]),
    "no dimensions": (same, weigh(adt_dimensions=0), ValueError, ["adt_dimensions=0 must be between 1 and the 4 columns"]),
    "an embedding of words": (with_obsm(np.full((240, 2), "a", dtype=object), "rna"), weigh(rna_obsm_key="other"), ValueError, ["rna_obsm_key='other': mdata['rna'].obsm['other'] must be numbers", "got object of shape (240, 2)"]),
    "cells without a partner": (with_nan("X_pca", 1, "rna", whole=True), weigh(), ValueError, ["at least 2 cells with both modalities ['rna', 'adt']", "there are 1"]),
    "a flag of weights": (same, weigh(normalize="no"), ValueError, ["normalize must be True or False, but is 'no'"]),
    "the cell itself alone": (same, weigh(n_neighbors=1), ValueError, ["n_neighbors=1 must be at least 2"]),
    "weights that are none": (with_weights([np.nan]), lambda m: tl.find_wnn_weights(m), ValueError, ["'RNA.weight' is missing in all cells"]),
    # Transfer
    "a reference that is an AnnData": (lambda m: m["rna"], lambda m: tl.transfer_labels(m, m, "cell_type"), TypeError, ["reference must be a MuData, but is AnnData"]),
    "a query that is an AnnData": (same, transfer(lambda m: m["rna"]), TypeError, ["query must be a MuData, but is AnnData"]),
    "a query without representations": (same, transfer(without_latents), KeyError, ["use_rep='X_indiseek': query.obsm has nothing", "model.write_latents(query)"]),
    "representations of another model": (same, transfer(narrow_latent), ValueError, ["use_rep='X_indiseek': it has", "and 2 in query", "of different models", "model.write_latents(query)"]),
    "a reference without labels": (labelled(np.nan), transfer(), ValueError, ["label_key='cell_type': no cell of reference has both"]),
    "no votes": (same, transfer(n_neighbors=0), ValueError, ["n_neighbors must be at least 1, but is 0"]),
    "representations by number": (same, transfer(use_rep=3), ValueError, ["use_rep must be one name, but is 3"]),
    # Tables of attributions
    "attributions of nothing": (same, write_loadings("table"), TypeError, ["table must be that of model.feature_attribution, but is str"]),
    "attributions without a column": (same, write_loadings(ATTRIBUTIONS.drop(columns="magnitude")), KeyError, ["table lacks the columns ['magnitude']"]),
    "attributions of two kinds": (same, write_loadings(TWO_KINDS), ValueError, ["several of kind: ['specific', 'shared']", "Choose one"]),
    "attributions of two groups": (same, write_loadings(TWO_GROUPS), ValueError, ["group: the table holds 2 groups of cells; name one of ['all', 'B']"]),
    "attributions of a group that is not there": (same, write_loadings(group="NK"), ValueError, ["group='NK' is not in the table"]),
    "attributions of a modality that is not there": (lambda m: MuData({"rna": m["rna"].copy()}), write_loadings(), KeyError, ["mdata has no modality 'adt'"]),
    "attributions of other features": (lambda m: MuData({"adt": m["adt"][:, :3].copy()}), write_loadings(), KeyError, ["mdata['adt'] lacks 5 of the 8 features", "'adt3'"]),
    "loadings of somebody else": (own_varm, write_loadings(), ValueError, ["mdata['adt'].varm['indiseek_specific'] is there already", "Rename or delete"]),
    # Figures
    "a map of an AnnData": (lambda m: m["rna"], maps(), TypeError, ["mdata must be a MuData, but is AnnData"]),
    "no map": (without_latents, maps(), KeyError, ["no embedding of a representation", "sc.tl.umap(mdata)"]),
    "no map of a representation": (same, maps(latents=["shared_rna"]), KeyError, ["mdata.obsm['X_indiseek_shared_rna_umap'] is missing", "neighbors_key='X_indiseek_shared_rna'"]),
    "a map of one column": (narrow, maps(), ValueError, ["mdata.obsm['X_umap'] has shape (240, 1)", "needs two columns"]),
    "a map of an unknown code": (same, maps(latents="shared"), ValueError, ["latents='shared' is not known", "'shared_rna'"]),
    "a colour misspelt": (same, maps(color="celltype"), KeyError, ["color='celltype' is not a column of any obs", "Did you mean 'cell_type'?"]),
    "no colour": (same, maps(color=[]), ValueError, ["color=[] names no column"]),
    "colour by theta": (same, maps(color=_keys.THETA), KeyError, ["mdata.obs['indiseek_theta'] is missing", "tl.modality_importance(mdata, label_key=...)"]),
    "a palette misspelt": (same, maps(color="cell_type", palette="tab21"), ValueError, ["palette='tab21' is not the name of a colormap", "Did you mean 'tab20"]),
    "a colour that is none": (same, maps(color="cell_type", palette=["red", "rad"]), ValueError, ["palette: 'rad', for 'CD4 T', is no colour"]),
    "a colour by number": (same, maps(color="cell_type", palette={"B": 3}), ValueError, ["palette: 3, for 'B', is no colour", "'#rrggbb'"]),
    "a palette by number": (same, maps(color="cell_type", palette=5), ValueError, ["palette must be the name of a colormap, a list of colours or a dictionary", "but is 5"]),
    "an empty palette": (same, maps(color="cell_type", palette=[]), ValueError, ["palette must be the name of a colormap", "but is []"]),
    "points of no size": (same, maps(size=0), ValueError, ["size must be above 0, but is 0.0"]),
    "no columns of panels": (same, maps(ncols=0), ValueError, ["ncols must be at least 1, but is 0"]),
    "a legend somewhere": (same, maps(legend_loc="top"), ValueError, ["legend_loc='top' is not known"]),
    "no ranking": (same, draw(pl.importance_ranking), KeyError, ["mdata.uns['indiseek_importance'] is missing", "tl.modality_importance(mdata, label_key=...)"]),
    "no retrieval": (same, draw(pl.retrieval), KeyError, ["mdata.uns['indiseek_retrieval'] is missing", "tl.retrieval(mdata)"]),
    "no agreement": (same, draw(pl.cluster_agreement), KeyError, ["mdata.uns['indiseek_clusters'] is missing", "tl.compare_clusters(mdata, ...)"]),
    "no splits": (same, draw(pl.cluster_splits), KeyError, ["tl.compare_clusters(mdata, ...)"]),
    "no ranks": (same, draw(pl.rank_correlation), KeyError, ["mdata.uns['indiseek_rank_correlation'] is missing", "tl.rank_correlation(mdata, label_key=...)"]),
    "a ranking of other things": (same, draw(pl.importance_ranking, pd.DataFrame({"label": ["B"]})), KeyError, ["lacks the columns ['n_cells', 'theta'"]),
    "a ranking without rows": (same, draw(pl.importance_ranking, pd.DataFrame(columns=["label", "n_cells", "theta", "lower", "upper", "reliable"])), ValueError, ["The table has no row", "tl.modality_importance"]),
    "recalls without k": (same, draw(pl.retrieval, pd.DataFrame({"direction": ["a to b"]})), KeyError, ["lacks a column 'recall@<k>'"]),
    "an audit of nothing": (same, draw(pl.audit, {"gain": 1}), TypeError, ["report must be what model.audit() returns, or its table", "dict"]),
    "an audit without rows": (same, draw(pl.audit, AUDIT.table[:0]), ValueError, ["The table of report has no row"]),
    "an audit without a figure": (same, draw(pl.audit, AUDIT.table.drop(columns="gain")), KeyError, ["The table of report lacks ['gain']", "model.audit()"]),
    "a prediction of nothing": (same, draw(pl.prediction, 3), TypeError, ["report must be what model.audit_prediction(source, target) returned, but is int"]),
    "no history": (same, draw(pl.history, 3), TypeError, ["model must be a trained model or its history", "model.train()"]),
    "a curve that is not there": (same, draw(pl.history, {"shared/loss": pd.Series([1.0])}, keys="shared/los"), KeyError, ["keys=['shared/los'] are not in the history", "shared/loss"]),
    "no curves": (same, draw(pl.history, {}), ValueError, ["The history has no curves", "model.train()"]),
    "no path": (same, draw(pl.lambda_path, 3), TypeError, ["path must be what model.lambda_path() returns"]),
    "no features": (same, draw(pl.attribution, ATTRIBUTIONS, n_top=0), ValueError, ["n_top must be at least 1, but is 0"]),
    "a dimension that is not there": (same, draw(pl.attribution, ATTRIBUTIONS, dimensions=[7]), ValueError, ["dimensions: the table has no dimension 7, only [0, 1]"]),
    "a group that is not there": (same, draw(pl.attribution, ATTRIBUTIONS, groups=["NK"]), ValueError, ["groups: the table has no group 'NK', only ['all']"]),
    "a figure of two kinds": (same, draw(pl.attribution, TWO_KINDS), ValueError, ["table holds several of kind: ['specific', 'shared']", "Draw one at a time"]),
    "a figure of no attributions": (same, draw(pl.attribution, ATTRIBUTIONS[:0]), ValueError, ["table has no row", "model.feature_attribution"]),
    "a figure without a column": (same, draw(pl.attribution, ATTRIBUTIONS.drop(columns="magnitude")), KeyError, ["table lacks the columns ['magnitude']"]),
    "an unknown measure": (same, draw(pl.attribution, ATTRIBUTIONS, measure="mean"), ValueError, ["measure='mean' is not known"]),
    "a panel that is none": (same, draw(pl.audit, AUDIT, ax="left"), TypeError, ["ax must be axes of matplotlib, but is str"]),
    "a figure of no format": (same, draw(pl.audit, AUDIT, save="audit.loom"), ValueError, ["save: audit.loom must end in a format that matplotlib writes", "pdf"]),
    "a figure in no folder": (same, draw(pl.audit, AUDIT, save="/nowhere/audit.png"), FileNotFoundError, ["save: /nowhere/audit.png: there is no folder /nowhere"]),
    "a figure that is no path": (same, draw(pl.audit, AUDIT, save=3), ValueError, ["save must be a path, but is 3"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def coded(model: IndiSeek) -> MuData:
    """The cells of the model with a map and principal components."""
    mdata = model.adata.copy()
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2].copy()
    for adata in mdata.mod.values():
        adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(240, 4))
    return mdata


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_or_a_figure(name: str, coded: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, call, error, pieces = TOOLS[name]
    monkeypatch.chdir(tmp_path)
    mdata = spoil(coded.copy())
    before = fingerprint(mdata) if isinstance(mdata, MuData) else None
    refused(lambda: call(mdata), error, pieces)
    assert before is None or fingerprint(mdata) == before
    assert list(tmp_path.iterdir()) == []
    plt.close("all")


# --- files ------------------------------------------------------------------------------------------------------------


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
    """A saved model of which one file is another one, or not there."""

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


def cells_of(name: str, spoil: Spoil = same) -> Callable[[Path, Path], Path]:
    def make_file(path: Path, _: Path) -> Path:
        spoil(draw_cells(40)).write_h5mu(path / name)
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


class Rival(IndiSeek):
    """Another class."""


# name: (what is there, what is asked, error, what the message says)
FILES: dict[str, tuple[Callable[[Path, Path], Path], Callable[[Path], Any], type[Exception], list[str]]] = {
    "no file": (nothing, indiseek_sc.read, FileNotFoundError, ["nowhere: there is no such file"]),
    "no path": (nothing, lambda _: indiseek_sc.read(None), ValueError, ["path must be a path, but is None"]),
    "a table": (file_of("cells.csv"), indiseek_sc.read, ValueError, ["cells.csv cannot be read as csv", "What can be read: Cell Ranger"]),
    "a file of R": (file_of("cells.rds"), indiseek_sc.read, ValueError, ["cells.rds cannot be read as rds", "docs/reading.md"]),
    "half a file": (half_of("cells.h5mu"), indiseek_sc.read, ValueError, ["cells.h5mu cannot be read as h5mu", "Is it complete?"]),
    "a folder of something else": (lambda path, _: file_of("inner/notes.txt")(path, _).parent, indiseek_sc.read, ValueError, ["is a folder with neither matrix.mtx nor zarr", "It holds: 'notes.txt'"]),
    "a modality misspelt": (cells_of("cells.h5mu"), lambda path: indiseek_sc.read(path, adt="adts"), ValueError, ["cells.h5mu: adt='adts' is no modality of it", "Did you mean 'adt'?"]),
    "a modality by number": (cells_of("cells.h5mu"), lambda path: indiseek_sc.read(path, adt=2), ValueError, ["adt must be one name, but is 2"]),
    "no proteins": (cells_of("cells.h5mu", lambda m: MuData({"rna": m["rna"]})), indiseek_sc.read, ValueError, ["no modality of proteins among 'rna'", "read(path, adt='NAME')"]),
    "no model": (nothing, load(), FileNotFoundError, ["model.pt: there is no such file", "Check the folder"]),
    "a model in a file": (file_of("model.txt"), load(), FileNotFoundError, ["model.txt/model.pt: there is no such file"]),
    "a model of no path": (nothing, lambda _: IndiSeek.load(3), ValueError, ["dir_path must be a path, but is 3"]),
    "another prefix": (saved, load(prefix="b-"), FileNotFoundError, ["b-model.pt: there is no such file", "prefix"]),
    "a prefix with a folder": (saved, load(prefix="folder/x-"), ValueError, ["prefix must be the beginning of names of files, without folders"]),
    "a model beside an AnnData": (saved, load(adata=AnnData(np.ones((3, 2)))), TypeError, ["adata must be a MuData with both modalities, but is AnnData", "adata" ]),
    "a model beside a view": (saved, load(adata=draw_cells()[:99]), ValueError, ["adata: it is a view", "mdata = mdata.copy()"]),
    "a model on a GPU": (saved, load(device=3), ValueError, ["device=3: with accelerator='cpu' training is on the CPU"]),
    "a model on a device by name": (saved, load(device="first"), ValueError, ["device must be the number of one GPU or 'auto', but is 'first'"]),
    "a model of another class": (saved, lambda path: Rival.load(path, adata=False), ValueError, ["holds a model of the class IndiSeek: call IndiSeek.load"]),
    "weights cut off": (change_file("model.pt", lambda x: x[:-1000]), load(), ValueError, ["model.pt is damaged: its checksum is not the one in model.json", "Copy the folder again"]),
    "weights changed": (change_file("model.pt", lambda x: x[:5000] + b"\0" + x[5001:]), load(), ValueError, ["model.pt is damaged: its checksum"]),
    "no weights in the file": (change_file("model.pt", lambda x: b""), load(), ValueError, ["model.pt is damaged: its checksum"]),
    "settings cut off": (change_file("model.json", lambda x: x[:-100]), load(), ValueError, ["model.json is damaged", "Copy the folder again"]),
    "no settings": (change_file("model.json", lambda x: None), load(), ValueError, ["has no model.json beside it", "a pickle, which could run any code", "train again and save"]),
    "a newer format": (change_settings(format=2, version="9.0"), load(), ValueError, ["model.json is of indiseek_sc 9.0, whose format 2", "pip install -U indiseek_sc"]),
    "code of a stranger": (change_settings(independence="os:system"), load(), ValueError, ["independence: ", "made with code of its own, 'os:system'", "give it again by load(..., independence=...)"]),
    "another critic": (saved, load(independence="hsic"), ValueError, ["independence: ", "but 'hsic' was given"]),
    "half of the data": (change_file("mdata.h5mu", lambda x: b"x"), load(adata=None), ValueError, ["mdata.h5mu cannot be read", "adata=mdata", "adata=False"]),
    "a reference that is not there": (nothing, lambda path: IndiSeek.load_query_data(draw_cells(40), path), FileNotFoundError, ["model.pt: there is no such file"]),
    "set-up of no model": (nothing, IndiSeek.view_setup_args, FileNotFoundError, ["model.pt: there is no such file"]),
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FILES)
def test_a_file(name: str, folder: Path, tmp_path: Path) -> None:
    make_file, call, error, pieces = FILES[name]
    path = make_file(tmp_path, folder)
    before = contents(tmp_path)
    refused(lambda: call(path), error, pieces)
    assert contents(tmp_path) == before


# --- commands ---------------------------------------------------------------------------------------------------------

FIT, ENCODE, PREDICT = (
    ("fit", "{cells}", "out.h5mu"),
    ("encode", "model", "{cells}", "out.h5mu"),
    ("predict", "model", "{cells}", "out.h5ad"),
)
REPORT = ("report", "{cells}", "--output", "out.html")


def labelled_as(values: Any) -> Spoil:
    return partial(_add_column, "cell_type", values)


def _add_column(name: str, values: Any, mdata: MuData) -> MuData:
    mdata.obs[name] = values
    return mdata


def dense(spoil: Spoil) -> Spoil:
    def change(mdata: MuData) -> MuData:
        for adata in mdata.mod.values():
            adata.X = adata.X.toarray()
        return spoil(mdata)

    return change


# name: (what is wrong with the cells, the command, exit code, what is said, what is not said since it is of Python)
COMMANDS: dict[str, tuple[Spoil, tuple[str, ...], int, list[str]]] = {
    "a file that is not there": (same, ("fit", "nowhere.h5mu", "out.h5mu"), 1, ["nowhere.h5mu: there is no such file"]),
    "the ending of the output": (same, ("fit", "{cells}", "out.loom"), 1, ["out.loom must end in .h5mu, .zarr or .h5ad", "For instance: out.h5mu"]),
    "the input itself": (same, ("fit", "{cells}", "{cells}", "--force"), 1, ["cells.h5mu is the input itself", "another name"]),
    "an output that is there": (same, ("fit", "{cells}", "model.h5ad"), 1, ["model.h5ad is there already", "--force"]),
    "an output in no folder": (same, ("fit", "{cells}", "no/out.h5mu"), 1, ["there is no folder no. Make it first"]),
    "a report over a file": (same, (*FIT, "--report", "model.h5ad"), 1, ["model.h5ad is a file; the output is a folder"]),
    "an unknown modality": (same, (*FIT, "--adt", "adts"), 1, ["--adt='adts' is no modality", "Did you mean 'adt'?"]),
    "no modality of proteins": (with_adt(name="second"), FIT, 1, ["no modality of proteins among 'rna', 'second'", "Say which: --adt NAME"]),
    "modalities swapped": (same, (*FIT, "--adt", "rna", "--rna", "adt"), 1, ["seem swapped", "--rna 'rna' --adt 'adt'"]),
    "an unknown layer": (same, (*FIT, "--rna-layer", "counts"), 1, ["--rna-layer='counts': mdata['rna'] has no such layer"]),
    "an unknown column of batches": (same, (*FIT, "--batch-key", "doner"), 1, ["--batch-key='doner' is not a column", "Did you mean 'donor'?"]),
    "cells without a batch": (of_donors([None, *["b"] * 39]), (*FIT, "--batch-key", "donor"), 1, ["--batch-key: 1 cells have no batch in mdata.obs['donor']: 'cell0'"]),
    "an unknown column of labels": (same, (*FIT, "--label-key", "type"), 1, ["--label-key='type' is not a column"]),
    "one label alone": (labelled_as("B"), (*FIT, "--label-key", "cell_type"), 1, ["--label-key: 'cell_type' has one label alone, 'B'", "leave --label-key out"]),
    "a protein that is not there": (same, (*FIT, "--exclude", "CD3"), 1, ["--exclude: there is no 'CD3'"]),
    "NaN in a protein": (dense(put(np.nan, modality="adt")), FIT, 1, ["--adt-layer: mdata['adt'].X", "nan in cell 'cell4', 'adt2'", "Leave these out: --exclude 'adt2'"]),
    "fractions as counts": (dense(take_logarithms), (*FIT, "--rna-input", "counts"), 1, ["--rna-layer: mdata['rna'].X", "fractional", "--rna-input='normalized'"]),
    "cells without counts": (dense(empty_cells), FIT, 1, ["--rna-layer: mdata['rna'].X: 2 cells have no counts", "'cell3', 'cell8'"]),
    "genes twice": (rename_features("rna", lambda names: [names[1], *names[1:]]), FIT, 1, ["names of genes occur more than once: 'rna1'"]),
    "too few cells": (same, FIT, 1, ["Too few cells: ", "At least 32 and 2 are needed."]),
    "no GPU": (same, (*FIT, "--accelerator", "gpu"), 1, ["--accelerator gpu: torch finds no CUDA GPU here", "Use --accelerator cpu"]),
    "a lambda that is none": (same, (*FIT, "--lambda", "best"), 2, ["'best' is neither a number of at least 0 nor"]),
    "epochs below 1": (same, (*FIT, "--max-epochs", "0"), 2, ["'--max-epochs'"]),
    "a seed in words": (same, (*FIT, "--seed", "x"), 2, ["'--seed'"]),
    "an unknown accelerator": (same, (*FIT, "--accelerator", "abacus"), 2, ["'--accelerator'"]),
    "representations by no model": (same, ("encode", "nowhere", "{cells}", "out.h5mu"), 1, ["nowhere is not the folder of a saved model", "fit wrote by --save-model"]),
    "representations by half a model": (same, ("encode", "half", "{cells}", "out.h5mu"), 1, ["half cannot be loaded as a model", "model.pt is damaged", "Copy the folder again"]),
    "representations without genes": (rename_features("rna", lambda names: [*names[:20], *names[20:] + "b"]), ENCODE, 1, ["of the 30 genes that the model uses 10 are missing", "'rna20'"]),
    "representations of another batch": (of_donors("c"), ENCODE, 1, ["--batch-key: 40 cells of mdata.obs['donor']", "does not know: 'c'", "Have what they add estimated: encode with --new-batches"]),
    "representations without proteins": (lambda m: MuData({"rna": m["rna"].copy()}), ENCODE, 1, ["no modality of proteins among 'rna'", "--adt NAME"]),
    "a prediction that was not learnt": (same, PREDICT, 1, ["has not learnt to predict", "run fit again, with --predict and --save-model"]),
    "a prediction from what is not there": (lambda m: MuData({"rna": m["rna"].copy()}), (*PREDICT, "--from", "adt"), 1, ["no modality of proteins among 'rna'"]),
    "a prediction from something else": (same, (*PREDICT, "--from", "atac"), 2, ["'--from'"]),
    "a report without representations": (same, REPORT, 1, ["cells.h5mu lacks the representations X_indiseek", "Run indiseek-sc fit first"]),
    "a report by no model": (same, ("report", "coded.h5mu", "--output", "out.html", "--model", "nowhere"), 1, ["--model nowhere is not the folder of a saved model"]),
    "a report of unknown labels": (same, ("report", "coded.h5mu", "--output", "out.html", "--label-key", "celltype"), 1, ["--label-key='celltype' is not a column", "Did you mean 'cell_type'?"]),
    "a report of a file of something else": (same, ("report", "model.h5ad", "--output", "out.html"), 1, ["model.h5ad cannot be read"]),
    "a demo over files": (same, ("demo", "model"), 1, ["model is there already", "--force"]),
}  # fmt: skip

OF_PYTHON = re.compile(
    r"(?<![-\w])(rna|adt)_(layer|input)\b|\b(max_missing|checkpoint_dir|train_size|accelerator|exclude|check_sizes)=|\blambda_\b"
)
"""Arguments of functions, which nobody gave to a command."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command(name: str, folder: Path, coded: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, arguments, latent, pieces = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    cells_of("cells.h5mu", spoil)(tmp_path, folder)
    shutil.copytree(folder, "model")
    shutil.copytree(folder, "half")
    Path("half/model.pt").write_bytes(b"")
    Path("model.h5ad").write_text("precious")
    if "coded.h5mu" in arguments:
        coded.write_h5mu("coded.h5mu")
    before = contents(tmp_path)
    result = CliRunner().invoke(app, [word.format(cells="cells.h5mu") for word in arguments])
    assert result.exit_code == latent, result.output
    *_, message = result.output.splitlines() if latent == 1 else [" ".join(result.output.replace("│", " ").split())]
    assert message.startswith("error: ") or latent == 2
    assert [piece for piece in pieces if piece not in message] == [], message
    assert latent == 2 or not OF_PYTHON.search(message), message
    assert contents(tmp_path) == before
