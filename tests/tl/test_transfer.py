"""Transferred labels are accurate and their confidence is calibrated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek, _keys, metrics, tl

LABEL, SHARE = "indiseek_cell_type", "indiseek_cell_type_confidence"


@pytest.fixture(scope="module")
def encoded(_pbmc_covid_once) -> tuple[IndiSeek, MuData, MuData]:
    """Return a model, its training cells, and other cells without labels."""
    reference, query = _pbmc_covid_once[::4].copy(), _pbmc_covid_once[2::4].copy()
    IndiSeek.setup_mudata(reference)
    model = IndiSeek(reference)
    model.train({"shared": 20, "specific": 2, "decoder": 5}, enable_progress_bar=False)
    model.write_latents()
    del query.obs["cell_type"]
    for adata in query.mod.values():
        adata.obs.drop(columns="cell_type", errors="ignore", inplace=True)
    model.write_latents(query)
    return model, reference, query


@pytest.fixture(scope="module")
def truth(_pbmc_covid_once) -> np.ndarray:
    return _pbmc_covid_once[2::4].obs["cell_type"].astype(str).to_numpy()


def test_labels_are_accurate_and_calibrated(encoded, truth):
    _, reference, query = encoded
    table = tl.transfer_labels(reference, query, "cell_type")
    assert list(table.index) == list(query.obs_names)
    np.testing.assert_array_equal(table["label"].astype(str), query.obs[LABEL].astype(str))
    np.testing.assert_array_equal(table["confidence"], query.obs[SHARE])
    assert list(query.obs[LABEL].cat.categories) == list(reference.obs["cell_type"].astype("category").cat.categories)
    is_right = (table["label"].astype(str) == truth).to_numpy()
    assert is_right.mean() > 0.85
    share = table["confidence"].to_numpy()
    assert ((share > 0) & (share <= 1 + 1e-9)).all()
    bins = np.digitize(share, [0.5, 0.7, 0.9])
    gaps = [abs(is_right[bins == b].mean() - share[bins == b].mean()) for b in range(4)]
    sizes = [np.mean(bins == b) for b in range(4)]
    assert np.dot(gaps, sizes) < 0.05  # expected calibration error
    assert is_right[share > 0.9].mean() > 0.95 > is_right[share < 0.6].mean() + 0.2


@pytest.mark.parametrize("name", ["rna", "adt"])
def test_cells_with_one_modality_are_labelled(encoded, truth, name):
    model, reference, query = encoded
    alone = MuData({name: query[name].copy()})
    model.write_latents(alone)
    table = tl.transfer_labels(reference, alone, "cell_type", use_rep=_keys.shared(name))
    assert (table["label"].astype(str) == truth).mean() > 0.7
    with pytest.raises(
        KeyError, match=r"use_rep='X_indiseek': query.obsm has .*Call model.write_latents\(query\) first"
    ):
        tl.transfer_labels(reference, alone, "cell_type")


def test_cells_without_representation_or_label_are_excluded(encoded):
    _, reference, query = (x.copy() if isinstance(x, MuData) else x for x in encoded)
    query.obsm[_keys.JOINT][:3] = np.nan
    reference.obs["cell_type"] = reference.obs["cell_type"].astype(str).where(np.arange(reference.n_obs) % 2 == 0)
    reference.obsm[_keys.JOINT][0] = np.nan
    table = tl.transfer_labels(reference, query, "cell_type", n_neighbors=10**6)
    assert table["label"].isna().tolist() == [True] * 3 + [False] * (query.n_obs - 3)
    assert table["confidence"].isna().sum() == 3
    reference.obs["cell_type"] = pd.Series(np.nan, reference.obs_names)
    with pytest.raises(ValueError, match="no cell of reference has both a label and"):
        tl.transfer_labels(reference, query, "cell_type")


def test_votes_equal_a_manual_calculation():
    reference = np.array([[0.0], [1.0], [3.0], [10.0]])
    labels, shares = metrics.transfer_labels(reference, ["a", "b", "b", "a"], [[0.25], [1.0], [9.0]], n_neighbors=2)
    assert labels.tolist() == ["a", "b", "a"]
    np.testing.assert_allclose(shares, [0.75, 1.0, 6 / 7])
    with pytest.raises(ValueError, match="query has 2 dimensions, but reference has 1"):
        metrics.transfer_labels(reference, list("abba"), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="labels must have one entry"):
        metrics.transfer_labels(reference, list("ab"), reference)
