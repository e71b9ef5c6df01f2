from __future__ import annotations

import logging

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, metrics, tl

TYPES = np.repeat(["a", "b", "c", "d", "few"], [40, 40, 40, 40, 5])
ROLES = {"rna": "gex", "adt": "prot"}


@pytest.fixture
def mdata():
    """Cell types that RNA tells apart ever worse and proteins ever better, in their shared and specific codes."""
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(len(TYPES))]
    order = np.unique(TYPES, return_inverse=True)[1][:, None]
    parts = {}
    for name, spread in (("gex", 1 + order), ("prot", 5 - order)):
        parts[name] = AnnData(np.ones((len(TYPES), 2)), obs=pd.DataFrame(index=names))
        parts[name].var_names = [f"{name}{i}" for i in range(2)]
        parts[name].obsm["X_pca"] = 3.0 * order + spread * rng.normal(size=(len(TYPES), 2))
    mdata = MuData(parts)
    mdata.obs = pd.DataFrame({"cell_type": TYPES}, index=names)
    mdata.obs["RNA.weight"] = 0.9 - order[:, 0] / 5 + 0.01 * rng.random(len(TYPES))
    for name in ROLES.values():
        mdata.obsm[_keys.shared(name)] = parts[name].obsm["X_pca"]
        mdata.obsm[_keys.specific(name)] = rng.normal(size=(len(TYPES), 3))
    mdata.uns[_keys.SETTINGS] = {"modalities": ROLES}
    return mdata


class Report:
    table = pd.DataFrame({"leak_ratio": [0.01, 0.3]}, index=["gex", "prot"])


def test_rows_are_what_theta_and_weights_say(mdata):
    table = tl.rank_correlation(mdata, "cell_type", codes=("raw", "specific"), n_bootstrap=20, n_neighbors=7, seed=4)
    assert table["code"].tolist() == ["raw", "raw", "specific", "specific"]
    for code in ("raw", "specific"):
        tl.modality_importance(mdata, "cell_type", code=code, n_neighbors=7)
        theta = mdata.obs[_keys.of_code(_keys.THETA, code)]
        expected = metrics.rank_correlation(theta, mdata.obs["RNA.weight"], TYPES, n_bootstrap=20, seed=4).table
        found = table[table["code"] == code].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[list(expected)], expected)
    assert table["estimate"][0] > 0.7
    assert (table["left_out"] == "few").all()
    assert table["weights"].str.contains("RNA.weight.*Seurat").all()
    pd.testing.assert_frame_equal(mdata.uns[_keys.RANK_CORRELATION], table)
    by_label = mdata.uns[f"{_keys.RANK_CORRELATION}_labels"]
    assert by_label["code"].value_counts().to_dict() == {"raw": 5, "specific": 5}
    for _, row in by_label.iterrows():
        of_label = mdata.obs["cell_type"] == row["label"]
        assert row["n_cells"] == of_label.sum()
        assert row["ranked"] == (row["label"] != "few")
        assert row["theta"] == pytest.approx(mdata.obs.loc[of_label, _keys.of_code(_keys.THETA, row["code"])].mean())
        assert row["weight"] == pytest.approx(mdata.obs.loc[of_label, "RNA.weight"].mean())
        for figure in ("theta", "weight"):
            assert row[f"{figure}_lower"] <= row[figure] <= row[f"{figure}_upper"]


def test_the_leak_stands_beside_the_specific_code_and_words_say_why(mdata, caplog):
    caplog.set_level(logging.WARNING)
    logging.getLogger("scvi").propagate = True
    table = tl.rank_correlation(mdata, "cell_type", audit=Report(), n_bootstrap=2).set_index("code")
    assert table.loc["specific", "leak_ratio_rna"].tolist() == [0.01, 0.01]
    assert table.loc["specific", "leak_ratio_adt"].tolist() == [0.3, 0.3]
    assert table.loc[["shared", "joint"], "leak_ratio_rna"].isna().all()
    assert "can reward leakage" in caplog.text


def test_cells_without_a_weight_take_no_part(mdata):
    mdata.obs["known"] = mdata.obs["RNA.weight"].where(np.arange(len(TYPES)) % 2 == 0)
    table = tl.rank_correlation(mdata, "cell_type", codes=["shared"], weight_key="known", n_bootstrap=2)
    tl.modality_importance(mdata, "cell_type", code="shared")
    even = mdata.obs["known"].notna().to_numpy()
    theta = mdata.obs[_keys.of_code(_keys.THETA, "shared")][even]
    expected = metrics.rank_correlation(theta, mdata.obs["known"][even], TYPES[even], n_bootstrap=2).table
    np.testing.assert_allclose(table["estimate"], expected["estimate"])
    assert table["weights"].str.contains("as given by key").all()


def test_survives_h5mu(mdata, tmp_path):
    table = tl.rank_correlation(mdata, "cell_type", n_bootstrap=2)
    mdata.write(tmp_path / "codes.h5mu")
    back = mudata.read(tmp_path / "codes.h5mu")
    pd.testing.assert_frame_equal(back.uns[_keys.RANK_CORRELATION], table)
    assert back.uns[f"{_keys.RANK_CORRELATION}_params"]["label_key"] == "cell_type"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"codes": "shared"}, ValueError, "codes='shared' must be a sequence"),
        ({"codes": ["private"]}, ValueError, "code='private' must be one of"),
        ({"weight_key": "other"}, KeyError, "key='other'"),
        ({"label_key": "type"}, KeyError, "label_key='type'"),
        ({"minimum_cells": 41}, ValueError, "at least 3 labels of minimum_cells=41"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap=0"),
    ],
)
def test_a_failure_is_explained_and_changes_nothing(mdata, arguments, error, message):
    before = mdata.obs.to_csv(), repr(mdata.uns), sorted(mdata.obsm)
    with pytest.raises(error, match=message):
        tl.rank_correlation(mdata, **{"label_key": "cell_type", **arguments})
    assert (mdata.obs.to_csv(), repr(mdata.uns), sorted(mdata.obsm)) == before
