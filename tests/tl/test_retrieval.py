from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, metrics, tl


@pytest.fixture
def mdata():
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(60)]
    parts = {name: AnnData(np.ones((60, 2)), obs=pd.DataFrame(index=names)) for name in ("gex", "prot")}
    for name, part in parts.items():
        part.var_names = [f"{name}0", f"{name}1"]
    mdata = MuData(parts)
    mdata.obs[_keys.SPLIT] = pd.Categorical(np.resize(["train", "test"], 60))
    latent = rng.normal(size=(60, 3))
    mdata.obsm[_keys.shared("gex")] = latent
    mdata.obsm[_keys.shared("prot")] = latent + rng.normal(size=latent.shape)
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "gex", "adt": "prot"}}
    return mdata


@pytest.mark.parametrize("cells", ["held_out", "all"])
def test_result_equals_the_metric(mdata, cells):
    mdata.obsm[_keys.shared("prot")][3] = np.nan
    used = np.arange(60) != 3
    if cells == "held_out":
        used &= mdata.obs[_keys.SPLIT] == "test"
    table = tl.retrieval(mdata, cells=cells, ks=(1, 5, 1000))
    expected = metrics.retrieval(*(mdata.obsm[_keys.shared(name)][used] for name in ("gex", "prot")), ks=(1, 5))
    assert table.pop("direction").tolist() == ["gex to prot", "prot to gex"]
    pd.testing.assert_frame_equal(table, expected.drop(columns="direction"))


def test_result_survives_h5mu(mdata, tmp_path):
    table = tl.retrieval(mdata)
    mdata.write(tmp_path / "latents.h5mu")
    pd.testing.assert_frame_equal(mudata.read(tmp_path / "latents.h5mu").uns[_keys.RETRIEVAL], table)
