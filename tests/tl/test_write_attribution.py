from __future__ import annotations

from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, tl

KEY = _keys.loadings("specific")


@pytest.fixture
def mdata() -> MuData:
    """Genes and proteins of the table in reverse order, and two genes that the model does not use."""
    parts = {}
    for modality, n in (("gex", 42), ("prot", 6)):
        parts[modality] = AnnData(np.ones((5, n), dtype=np.float32))
        parts[modality].var_names = [f"{modality}{j}" for j in reversed(range(n))]
    return MuData(parts)


def test_loadings_lie_beside_their_features(mdata: MuData, attributions: pd.DataFrame) -> None:
    tl.write_attribution(mdata, attributions, group="T")
    for modality, gene in (("gex", "gex7"), ("prot", "prot2")):
        loadings = mdata[modality].varm[KEY]
        rows = attributions[(attributions["feature"] == gene) & (attributions["group"] == "T")]
        assert loadings.shape == (mdata[modality].n_vars, 2)
        np.testing.assert_array_equal(loadings[mdata[modality].var_names.get_loc(gene)], rows["attribution"])
    assert np.isnan(mdata["gex"].varm[KEY][:2]).all()
    assert np.isfinite(mdata["gex"].varm[KEY][2:]).all()
    note = {"specific": {"method": "decoder_jacobian", "group": "T"}}
    assert mdata.uns[_keys.ATTRIBUTION] == {"gex": note, "prot": note}


def test_a_file_keeps_them(mdata: MuData, attributions: pd.DataFrame, tmp_path: Path) -> None:
    tl.write_attribution(mdata, attributions, group="B")
    mdata.write(tmp_path / "cells.h5mu")
    read = mudata.read_h5mu(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(read["gex"].varm[KEY], mdata["gex"].varm[KEY])
    tl.write_attribution(read, attributions, group="T")  # what is ours may be replaced
    assert not np.array_equal(read["prot"].varm[KEY], mdata["prot"].varm[KEY])


def test_what_others_wrote_is_left_alone(mdata: MuData, attributions: pd.DataFrame) -> None:
    mdata["prot"].varm[KEY] = np.ones((6, 3))
    with pytest.raises(ValueError, match=r"mdata\['prot'\].varm\['indiseek_specific'\] is there already"):
        tl.write_attribution(mdata, attributions, group="B")
    np.testing.assert_array_equal(mdata["prot"].varm[KEY], np.ones((6, 3)))
    assert KEY not in mdata["gex"].varm
    assert _keys.ATTRIBUTION not in mdata.uns


def test_one_modality_after_the_other(mdata: MuData, attributions: pd.DataFrame) -> None:
    for modality in ("gex", "prot"):
        tl.write_attribution(mdata, attributions[attributions["modality"] == modality], group="B")
    shared = attributions.assign(kind="shared")
    tl.write_attribution(mdata, shared[shared["group"] == "B"])
    assert sorted(mdata.uns[_keys.ATTRIBUTION]["gex"]) == ["shared", "specific"]
    assert set(mdata["prot"].varm) == {KEY, _keys.loadings("shared")}


def test_errors(mdata: MuData, attributions: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"the table holds 2 groups of cells; name one of \['B', 'T'\]"):
        tl.write_attribution(mdata, attributions)
    with pytest.raises(ValueError, match="group='NK' is not in the table"):
        tl.write_attribution(mdata, attributions, group="NK")
    with pytest.raises(KeyError, match="mdata has no modality 'prot'"):
        tl.write_attribution(MuData({"gex": mdata["gex"]}), attributions, group="B")
    few = MuData({name: mdata[name][:, :4].copy() for name in mdata.mod})
    with pytest.raises(KeyError, match=r"mdata\['gex'\] lacks 38 of the 40 features of the table, such as 'gex0'"):
        tl.write_attribution(few, attributions, group="B")
    two = pd.concat([attributions, attributions.assign(kind="shared")])
    with pytest.raises(ValueError, match=r"several of kind: \['specific', 'shared'\]. Choose one: table\[table"):
        tl.write_attribution(mdata, two, group="B")
    assert not mdata["gex"].varm
