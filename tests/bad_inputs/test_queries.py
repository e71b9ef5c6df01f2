"""Errors raised for new cells that a trained model reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek

from ..model.cells import fingerprint
from ..model.make_saved_model import draw_cells
from .cases import (
    Change,
    assert_rejected,
    empty_cells,
    put,
    rename_features,
    reorder,
    state_of,
    take_logarithms,
    with_adt,
    with_donors,
    without_x,
)

# name: (the change, error, parts of the message)
CASES: dict[str, tuple[Change, type[Exception], list[str]]] = {
    "an AnnData": (lambda m: m["rna"], TypeError, ["must be a MuData", "but is AnnData", "mudata.MuData({'rna': rna, 'adt': adt})"]),
    "other genes": (
        rename_features("rna", lambda names: ["new", *names[1:20], *names[20:] + "b"]),
        ValueError,
        ["mdata['rna'].X: of the 30 genes that the model uses 11 are missing (37%, more than max_missing=0.2): 'rna0', 'rna20'",
         "as model.get_var_names() does", "such as 'new', 'rna20b'", "max_missing=0.37"],
    ),
    "no known gene": (
        rename_features("rna", lambda names: names.str.upper()),
        ValueError,
        ["30 are missing (100%", "names such as 'RNA0', 'RNA1'", "names of model.get_var_names()['rna'] to mdata['rna'].var_names"],
    ),
    "repeated genes": (rename_features("rna", lambda names: [names[1], *names[1:]]), ValueError, ["names of genes occur more than once: 'rna1'", "var_names_make_unique()"]),
    "an unknown batch": (
        with_donors(["a", "c", "c", *["b"] * 37]),
        ValueError,
        ["batch_key: 2 cells of mdata.obs['donor']", "unknown to the model: 'c'", "Known: 'a', 'b'", "IndiSeek.load_query_data(mdata, model)"],
    ),
    "batches as numbers": (with_donors(0), ValueError, ["unknown to the model: '0'", "Known: 'a', 'b'"]),
    "cells without a batch": (with_donors([np.nan, *["b"] * 39]), ValueError, ["batch_key: 1 cells have no batch in mdata.obs['donor']: 'cell0'"]),
    "no column of batches": (lambda m: m.obs.pop("donor") is None or m, ValueError, ["batch_key='donor' is not a column of any obs", "Add the column"]),
    "cells in another order": (reorder, ValueError, ["mdata['adt'].obs_names: 40 cells are in another order", "mdata = mdata[mdata.obs_names].copy()"]),
    "logarithms": (take_logarithms, ValueError, ["rna_layer: mdata['rna'].X is taken as counts (rna_input='counts')", "fractional", "'cell0', 'rna"]),
    "NaN": (put(np.nan), ValueError, ["rna_layer: mdata['rna'].X has 1 values that are not finite: nan in cell 'cell4', 'rna2'"]),
    "cells without counts": (empty_cells, ValueError, ["rna_layer: mdata['rna'].X: 2 cells have no counts", "'cell3', 'cell8'"]),
    "no proteins": (with_adt(name="prot"), ValueError, ["no modality 'adt'", "Available: 'rna', 'prot'"]),
    "no X": (without_x, ValueError, ["rna_layer: mdata['rna'].X is empty"]),
}  # fmt: skip


@pytest.mark.parametrize("entrance", ["latents", "load"])
@pytest.mark.parametrize("name", CASES)
def test_queries(name: str, entrance: str, model: IndiSeek, folder: Path) -> None:
    corrupt, error, parts = CASES[name]
    query = draw_cells(40)
    for adata in query.mod.values():
        adata.X = adata.X.toarray()
    query = corrupt(query)
    calls = {
        "latents": lambda: model.get_latent_representation(query),
        "load": lambda: IndiSeek.load(folder, query, accelerator="cpu"),
    }
    before = state_of(model), fingerprint(query) if isinstance(query, MuData) else None
    assert_rejected(calls[entrance], error, [part for part in parts if entrance == "load" or "MuData({" not in part])
    assert (state_of(model), fingerprint(query) if isinstance(query, MuData) else None) == before
