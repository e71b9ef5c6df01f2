"""Property-based test: a matrix is set up, or rejected with a message that names its argument."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mudata import MuData

from indiseek_sc import IndiSeek

from ..model.cells import fingerprint

KINDS = ["int8", "int64", "uint8", "uint32", "bool", "float16", "float32", "float64", "complex64", "object", "U3"]
FORMATS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "masked": np.ma.masked_array,
    "table": pd.DataFrame,
    "csr": sp.csr_matrix,
    "csc": sp.csc_array,
}
"""anndata rejects other sparse formats itself."""

NAMES = st.lists(st.text("aB1-é ", min_size=1, max_size=3), min_size=6, max_size=6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.data(),
    st.sampled_from(["rna", "adt"]),
    st.sampled_from(["X", "layers", "obsm"]),
    st.sampled_from(KINDS),
    st.sampled_from(list(FORMATS)),
)
def test_any_matrix_is_set_up_or_rejected_by_argument(
    data: st.DataObject, modality: str, place: str, kind: str, form: str
) -> None:
    shape = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 3))
    values = data.draw(st.lists(st.sampled_from([0, 1, 2, 7, -1, 0.5, np.nan, np.inf, 1e30]), min_size=1, max_size=6))
    cells, features = (data.draw(st.one_of(st.just([f"x{i}" for i in range(6)]), NAMES)) for _ in range(2))
    assume(form not in ("csr", "csc") or kind not in ("float16", "object", "U3"))  # not supported by scipy
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
