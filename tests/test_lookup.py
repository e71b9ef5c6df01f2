from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc._lookup import as_categories, find_labels, find_obs


@pytest.fixture
def mdata():
    """Cells 0-5; the first modality lacks cell 5, the second lacks cell 0 and has reverse order."""
    names = [f"cell{i}" for i in range(6)]
    gex = AnnData(np.ones((5, 2)), obs=pd.DataFrame({"type": list("aabbb"), "own": range(5)}, index=names[:5]))
    prot = AnnData(np.ones((5, 3)), obs=pd.DataFrame({"type": list("cbbba")}, index=names[:0:-1]))
    gex.obs["type"] = gex.obs["type"].astype("category")
    prot.obs["type"] = prot.obs["type"].astype("category")
    gex.var_names, prot.var_names = ["g1", "g2"], ["p1", "p2", "p3"]
    mdata = MuData({"gex": gex, "prot": prot})
    mdata.obs = pd.DataFrame({"sample": pd.Categorical(list("xxyyyy"))}, index=mdata.obs_names)
    return mdata[names].copy()


def test_columns_of_mdata_take_precedence(mdata):
    mdata.obs["own"] = 7
    assert (find_obs(mdata, "own", "key") == 7).all()
    assert list(find_obs(mdata, "sample", "key")) == list("xxyyyy")


def test_values_of_modalities_are_merged_in_the_order_of_cells(mdata):
    found = find_obs(mdata, "type", "key")
    assert list(found.index) == list(mdata.obs_names)
    assert list(found) == list("aabbbc")


@pytest.mark.parametrize(("key", "expected"), [("gex:type", "aabbb-"), ("prot:type", "-abbbc")])
def test_modality_as_prefix(mdata, key, expected):
    assert list(find_obs(mdata, key, "key").astype(object).fillna("-")) == list(expected)


def test_column_of_one_modality(mdata):
    found = find_obs(mdata, "own", "key")
    np.testing.assert_array_equal(found, [0, 1, 2, 3, 4, np.nan])


def test_conflicting_values_raise_and_a_prefix_resolves_them(mdata):
    mdata["prot"].obs["type"] = list("cbbbb")
    with pytest.raises(ValueError, match=r"label_key='type'.*'gex' and 'prot' disagree about cell1\. .*'gex:type'"):
        find_obs(mdata, "type", "label_key")
    assert find_obs(mdata, "gex:type", "label_key")["cell1"] == "a"


def test_error_lists_existing_columns(mdata):
    with pytest.raises(KeyError) as error:
        find_obs(mdata, "cell_type", "label_key")
    message = error.value.args[0]
    assert message.startswith("label_key='cell_type' is not a column of any obs")
    assert "sample; mdata['gex'].obs: type, own; mdata['prot'].obs: type." in message


def test_long_lists_are_truncated(mdata):
    mdata.obs = pd.DataFrame({f"column{i}": 0 for i in range(50)}, index=mdata.obs_names)
    with pytest.raises(KeyError, match=r"column19, \.\.\. \(50 in all\);"):
        find_obs(mdata, "cell_type", "label_key")


def test_lookup_does_not_change_the_data(mdata):
    before = mdata.obs.copy(), mdata["gex"].obs.copy()
    merged, whole = find_obs(mdata, "type", "key"), find_obs(mdata, "sample", "key")
    merged.iloc[0], whole.iloc[0] = "b", "y"
    pd.testing.assert_frame_equal(mdata.obs, before[0])
    pd.testing.assert_frame_equal(mdata["gex"].obs, before[1])


def test_outdated_copies_in_mdata_obs_are_ignored(mdata):
    mdata.obs["gex:type"] = "old"
    assert list(find_obs(mdata, "gex:type", "key").astype(object).fillna("-")) == list("aabbb-")
    mdata.obs["gex:other"] = "kept"  # the modality has no such column
    assert (find_obs(mdata, "gex:other", "key") == "kept").all()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([2, 10, 1], ["1", "2", "10"]),
        ([2.0, np.nan, 1.0], ["1", "2"]),
        ([1, "2b", None], ["1", "2b"]),
        ([1, "1", 1.0], ["1"]),
        ([True, False, True], ["False", "True"]),
        (["", "b", "a"], ["", "a", "b"]),
        (pd.Categorical(["b", "a", None], categories=["c", "b", "a"]), ["b", "a"]),
        (pd.array([2, None, 1], dtype="Int64"), ["1", "2"]),
    ],
)
def test_categories_are_text_in_the_original_order(values, names):
    series = pd.Series(values, index=list("xyz"), dtype=None if hasattr(values, "dtype") else object)
    if isinstance(values, list) and all(isinstance(value, int | float) for value in values):
        series = series.infer_objects()
    found = as_categories(series)
    assert list(found.cat.categories) == names
    assert list(found.isna()) == list(pd.isna(series))
    assert list(found.index) == list("xyz")


def test_integers_stay_integers_with_missing_cells(mdata):
    assert list(find_labels(mdata, "own", "key").astype(object).fillna("-")) == ["0", "1", "2", "3", "4", "-"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "label_key must be the name of one column, but is None. Available columns: mdata.obs: .*sample"),
        (5, "label_key must be the name of one column, but is 5. Available columns"),
        (["type"], "Give the name alone: label_key='type'"),
        (["type", "nothing"], "label_key='nothing' is not a column of any obs"),
    ],
)
def test_invalid_names_raise(mdata, key, message):
    with pytest.raises(ValueError, match=message):
        find_obs(mdata, key, "label_key")


def test_remedy_for_two_columns_works(mdata):
    with pytest.raises(ValueError) as error:
        find_obs(mdata, ["sample", "gex:own"], "batch_key")
    remedy = str(error.value).partition("Combine them into one: ")[2].partition(";")[0]
    exec(remedy, {"mdata": mdata})
    assert find_obs(mdata, "sample_own", "batch_key")["cell1"] == "x_1"


def test_error_suggests_a_similar_column(mdata):
    with pytest.raises(KeyError, match="Did you mean 'gex:own'"):
        find_obs(mdata, "Own", "label_key")
