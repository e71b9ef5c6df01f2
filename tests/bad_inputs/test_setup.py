"""Errors raised by the set-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek

from ..model.cells import N_CELLS, N_PROTEINS, fingerprint, make_mdata
from .cases import Change, assert_rejected, empty_cells, put, reorder, same, with_adt, with_obsm, without_x


def with_other_cell_names(mdata: MuData) -> MuData:
    adt = mdata["adt"].copy()
    adt.obs_names = adt.obs_names.str.upper()
    return MuData({"rna": mdata["rna"].copy(), "adt": adt})


def outdated(mdata: MuData) -> MuData:
    mdata.mod["adt"] = ad.concat([mdata["adt"], make_mdata(n_cells=43)["adt"][40:]])
    return mdata


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


def with_values(convert: Callable[[np.ndarray], Any], modality: str = "rna") -> Change:
    """Add converted values as the layer ``"other"``."""

    def change(mdata: MuData) -> MuData:
        mdata[modality].layers["other"] = convert(mdata[modality].X.copy())
        return mdata

    return change


def mask(x: np.ndarray) -> np.ndarray:
    return np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) == 14)


def without(what: str) -> Change:
    """Remove all cells, or all proteins."""
    rows, columns = slice(0 if what == "cells" else None), slice(0 if what == "proteins" else None)
    return lambda mdata: MuData({"rna": mdata["rna"][rows].copy(), "adt": mdata["adt"][rows, columns].copy()})


def with_batch(values: Any, modality: str | None = "rna") -> Change:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obs["batch"] = values
        return mdata

    return change


PEAKS = [f"chr1-{1000 * i}-{1000 * i + 500}" for i in range(1, N_PROTEINS + 1)]
SWAPPED = {"rna_layer": "adt", "adt_layer": "rna"}
NAN_BATCH = pd.Categorical([None, "a", None, *["b"] * 37])
OTHER_BATCH = ["b", "b", "b", *["a"] * 37]
TEXT = np.full((N_CELLS, 2), "a", dtype=object)

# name: (the change, arguments, error, parts of the message, remedy in the message, which is
# executed)
CASES: dict[str, tuple[Change, dict[str, Any], type[Exception], list[str], str | None]] = {
    "an AnnData": (lambda m: m["rna"], {}, TypeError, ["must be a MuData, but is AnnData", "MuData({'rna'"], None),
    "a path": (lambda m: "cells.h5mu", {}, TypeError, ["mdata must be a MuData, but is str"], None),
    "cells in another order": (
        reorder,
        {},
        ValueError,
        ["mdata['adt'].obs_names", "40 cells are in another order", "row 0: 'cell0' against 'cell39'"],
        "mdata = mdata[mdata.obs_names].copy()",
    ),
    "no cell in common": (
        with_other_cell_names,
        {},
        ValueError,
        ["no cell has both modalities", "in mdata['rna'] 'cell0', 'cell1'; in mdata['adt'] 'CELL0', 'CELL1'"],
        None,
    ),
    "an outdated MuData": (
        outdated,
        {},
        ValueError,
        ["mdata['adt'] has 43 cells", "updated with 40", "mdata.update()"],
        None,
    ),
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
        ["modalities['adt_layer']", "no modality 'Prot'", "Available: 'rna', 'prot'.", "Did you mean 'prot'?"],
        None,
    ),
    "no recognised protein modality": (
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
    "a numeric key in modalities": (same, {"modalities": {3: "rna"}}, ValueError, ["modalities: unknown key 3"], None),
    "modalities as a list": (same, {"modalities": ["rna"]}, ValueError, ["modalities must map arguments"], None),
    "one modality for both roles": (
        same,
        {"modalities": {"adt_layer": "rna"}},
        ValueError,
        ["'rna' is given as both"],
        None,
    ),
    "a modality named like a written entry": (
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
    "check_sizes as text": (
        same,
        {"check_sizes": "no"},
        ValueError,
        ["check_sizes must be True or False, but is 'no'"],
        None,
    ),
    "an unknown layer": (
        same,
        {"rna_layer": "count"},
        ValueError,
        ["rna_layer='count'", "mdata['rna'] has no such layer", "Did you mean 'counts'?"],
        None,
    ),
    "an unknown entry of obsm": (
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
        ["adt_obsm_key='adt'", "None is available."],
        None,
    ),
    "both a layer and an entry of obsm": (
        same,
        {"rna_layer": "counts", "rna_obsm_key": "X_pca"},
        ValueError,
        ["rna_layer and rna_obsm_key are both given"],
        None,
    ),
    "no X": (without_x, {}, ValueError, ["rna_layer: mdata['rna'].X is empty", "'counts'"], None),
    "an entry that the model writes": (
        with_obsm(np.ones((N_CELLS, 2)), None, "X_indiseek"),
        {"rna_obsm_key": "X_indiseek"},
        ValueError,
        ["rna_obsm_key='X_indiseek'", "would be overwritten", "mdata.obsm['my_latents']"],
        None,
    ),
    "a three-dimensional array": (
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
    "an infinite value": (
        put(np.inf, modality="adt"),
        {},
        ValueError,
        ["adt_layer: mdata['adt'].X", "inf in cell 'cell4', 'p2'"],
        None,
    ),
    "a value too large": (
        put(1e30),
        {},
        ValueError,
        ["rna_layer: mdata['rna'].X", "1e+30 in cell 'cell4', 'g2'"],
        None,
    ),
    "a masked array": (
        with_values(mask),
        {"rna_layer": "other"},
        ValueError,
        ["rna_layer: mdata['rna'].layers['other']", "nan in cell 'cell1', 'g2'", "masked values"],
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
    "an unknown rna_input": (
        same,
        {"rna_input": "count"},
        ValueError,
        ["rna_input='count' is not known", "Did you mean 'counts'?"],
        None,
    ),
    "an unknown column of batches": (
        same,
        {"batch_key": "Batch"},
        ValueError,
        ["batch_key='Batch' is not a column of any obs", "mdata['rna'].obs: batch", "Did you mean 'rna:batch'?"],
        None,
    ),
    "an unknown modality of batches": (
        same,
        {"batch_key": "batch", "modalities": {"batch_key": "gex"}},
        ValueError,
        ["modalities['batch_key']: no modality 'gex'"],
        None,
    ),
    "batches only in the other modality": (
        same,
        {"batch_key": "batch", "modalities": {"batch_key": "adt"}},
        ValueError,
        ["there is no such column (mdata['adt'].obs['batch'])"],
        None,
    ),
    "cells without a batch": (
        with_batch(NAN_BATCH),
        {"batch_key": "batch"},
        ValueError,
        ["batch_key: 2 cells have no batch in mdata['rna'].obs['batch']: 'cell0', 'cell2'", "Fill it in"],
        None,
    ),
    "conflicting batches": (
        with_batch(OTHER_BATCH, "adt"),
        {"batch_key": "batch"},
        ValueError,
        ["modalities 'rna' and 'adt' disagree about cell0", "Name one of them: 'rna:batch' or 'adt:batch'"],
        None,
    ),
    "batch_key as list": (
        same,
        {"batch_key": ["rna:batch"]},
        ValueError,
        ["batch_key must be the name of one column", "Give the name alone: batch_key='rna:batch'"],
        None,
    ),
    "an unknown protein": (same, {"exclude": ["P1"]}, ValueError, ["exclude: there is no 'P1'", "'p1'"], None),
    "exclude as text": (same, {"exclude": "p1"}, TypeError, ["exclude='p1'", "exclude=['p1']"], None),
    "exclude as number": (same, {"exclude": 2}, ValueError, ["exclude must be a list, but is 2"], None),
    "all proteins excluded": (
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


@pytest.mark.parametrize("name", CASES)
def test_setup(name: str) -> None:
    corrupt, arguments, error, parts, remedy = CASES[name]
    mdata = corrupt(make_mdata())
    before = fingerprint(mdata) if isinstance(mdata, MuData) else None
    message = assert_rejected(lambda: IndiSeek.setup_mudata(mdata, **arguments), error, parts)
    assert before is None or fingerprint(mdata) == before
    if remedy is not None:
        assert remedy in message
        names = {"mdata": mdata, "numpy": np}
        exec(remedy, names)
        IndiSeek.setup_mudata(names["mdata"], **arguments)
