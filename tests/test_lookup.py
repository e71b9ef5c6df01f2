from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc._lookup import find_obs


@pytest.fixture
def mdata():
    """Cells 0-5; the first modality lacks cell 5, the second lacks cell 0 and is in reverse."""
    names = [f"cell{i}" for i in range(6)]
    gex = AnnData(np.ones((5, 2)), obs=pd.DataFrame({"type": list("aabbb"), "own": range(5)}, index=names[:5]))
    prot = AnnData(np.ones((5, 3)), obs=pd.DataFrame({"type": list("cbbba")}, index=names[:0:-1]))
    gex.obs["type"] = gex.obs["type"].astype("category")
    prot.obs["type"] = prot.obs["type"].astype("category")
    gex.var_names, prot.var_names = ["g1", "g2"], ["p1", "p2", "p3"]
    mdata = MuData({"gex": gex, "prot": prot})
    mdata.obs = pd.DataFrame({"sample": pd.Categorical(list("xxyyyy"))}, index=mdata.obs_names)
    return mdata[names].copy()


def test_a_column_of_the_whole_comes_first(mdata):
    mdata.obs["own"] = 7
    assert (find_obs(mdata, "own", "key") == 7).all()
    assert list(find_obs(mdata, "sample", "key")) == list("xxyyyy")


def test_modalities_complete_each_other_in_the_order_of_cells(mdata):
    found = find_obs(mdata, "type", "key")
    assert list(found.index) == list(mdata.obs_names)
    assert list(found) == list("aabbbc")


@pytest.mark.parametrize(("key", "expected"), [("gex:type", "aabbb-"), ("prot:type", "-abbbc")])
def test_a_modality_may_be_named(mdata, key, expected):
    assert list(find_obs(mdata, key, "key").astype(object).fillna("-")) == list(expected)


def test_a_column_of_one_modality(mdata):
    found = find_obs(mdata, "own", "key")
    np.testing.assert_array_equal(found, [0, 1, 2, 3, 4, np.nan])


def test_disagreement_is_named_and_can_be_settled(mdata):
    mdata["prot"].obs["type"] = list("cbbbb")
    with pytest.raises(ValueError, match=r"label_key='type'.*'gex' and 'prot' disagree about cell1\. .*'gex:type'"):
        find_obs(mdata, "type", "label_key")
    assert find_obs(mdata, "gex:type", "label_key")["cell1"] == "a"


def test_what_is_there_is_listed(mdata):
    with pytest.raises(KeyError) as error:
        find_obs(mdata, "cell_type", "label_key")
    message = error.value.args[0]
    assert message.startswith("label_key='cell_type' is not a column of any obs")
    assert "sample; mdata['gex'].obs: type, own; mdata['prot'].obs: type." in message


def test_a_long_list_is_cut(mdata):
    mdata.obs = pd.DataFrame({f"column{i}": 0 for i in range(50)}, index=mdata.obs_names)
    with pytest.raises(KeyError, match=r"column19, \.\.\. \(50 in all\);"):
        find_obs(mdata, "cell_type", "label_key")


def test_nothing_is_changed(mdata):
    before = mdata.obs.copy(), mdata["gex"].obs.copy()
    merged, whole = find_obs(mdata, "type", "key"), find_obs(mdata, "sample", "key")
    merged.iloc[0], whole.iloc[0] = "b", "y"
    pd.testing.assert_frame_equal(mdata.obs, before[0])
    pd.testing.assert_frame_equal(mdata["gex"].obs, before[1])
