"""Errors raised by tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import _keys, tl

from ..model.cells import fingerprint
from .attributions import ATTRIBUTIONS, TWO_GROUPS, TWO_KINDS
from .cases import Change, assert_rejected, same, with_obsm, without_latents


def labelled(values: Any) -> Change:
    def change(mdata: MuData) -> MuData:
        mdata.obs["cell_type"] = values
        return mdata

    return change


def without_entry(attribute: str, key: str) -> Change:
    def change(mdata: MuData) -> MuData:
        del getattr(mdata, attribute)[key]
        return mdata

    return change


def with_nan(key: str, first: int = 0, modality: str | None = None, *, whole: bool = False) -> Change:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obsm[key][first:, slice(None if whole else 1)] = np.nan
        return mdata

    return change


def one_embedding(mdata: MuData) -> MuData:
    for adata in mdata.mod.values():
        del adata.obsm["X_pca"]
    mdata.obsm["X_pca"] = np.ones((mdata.n_obs, 2))
    return mdata


def with_weights(values: Any) -> Change:
    def change(mdata: MuData) -> MuData:
        mdata.obs["RNA.weight"] = np.resize(values, mdata.n_obs)
        return mdata

    return change


def only_training(mdata: MuData) -> MuData:
    mdata.obs[_keys.SPLIT] = pd.Categorical(["train"] * mdata.n_obs)
    return mdata


def with_two_joint_dimensions(mdata: MuData) -> MuData:
    mdata = mdata.copy()
    mdata.obsm[_keys.JOINT] = mdata.obsm[_keys.JOINT][:, :2]
    return mdata


def with_loadings_of_the_user(mdata: MuData) -> MuData:
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


def transfer(query: Change = MuData.copy, label_key: str = "cell_type", **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.transfer_labels(mdata, query(mdata), label_key, **arguments)


def write_loadings(table: Any = ATTRIBUTIONS, **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: tl.write_attribution(mdata, table, **arguments)


# name: (the change, the call, error, parts of the message)
CASES: dict[str, tuple[Change, Callable[[MuData], Any], type[Exception], list[str]]] = {
    # Modality importance
    "theta of an AnnData": (lambda m: m["rna"], importance(), TypeError, ["mdata must be a MuData, but is AnnData"]),
    "theta without representations": (without_latents, importance(), KeyError, ["does not record the roles of the modalities", "model.write_latents(mdata)"]),
    "theta with one representation deleted": (without_entry("obsm", "X_indiseek_specific_adt"), importance(), KeyError, ["X_indiseek_specific_adt", "of modality 'adt'", "model.write_latents(mdata)"]),
    "labels misspelt": (same, importance("celltype"), KeyError, ["label_key='celltype' is not a column of any obs", "mdata.obs: donor", "Did you mean 'cell_type'?"]),
    "two columns of labels": (same, importance(["cell_type", "donor"]), ValueError, ["label_key must be the name of one column", "mdata.obs['cell_type_donor'] = ", "label_key='cell_type_donor'"]),
    "all labels missing": (labelled(np.nan), importance(), ValueError, ["label_key='cell_type' must have at least 2 labels among the 240 selected cells; it has 0", "Name another column"]),
    "one label": (labelled("B"), importance(), ValueError, ["label_key='cell_type' must have at least 2 labels among the 240 selected cells; it has 1"]),
    "an unknown representation": (same, importance(latent="specifc"), ValueError, ["latent='specifc' is not known", "Did you mean 'specific'?"]),
    "theta of the joint representation": (same, importance(latent="joint"), ValueError, ["latent='joint' is a single representation of both", "Use 'both'"]),
    "theta of an unknown embedding": (same, importance(latent="raw", rna_obsm_key="pca"), KeyError, ["rna_obsm_key='pca'", "scanpy.pp.pca(mdata['rna'])"]),
    "an unknown value of cells": (same, importance(cells="test"), ValueError, ["cells='test' is not known. Available: 'all', 'held_out'"]),
    "no split": (without_entry("obs", _keys.SPLIT), importance(cells="held_out"), KeyError, ["cells='held_out' needs", "use cells='all'"]),
    "a split without held-out cells": (only_training, importance(cells="held_out"), ValueError, ["has neither test nor validation cells", "Use cells='all'"]),
    "one modality of two": (same, importance(modalities={"rna": "rna"}), ValueError, ["modalities must map 'rna' and 'adt'"]),
    "one modality for two": (same, weigh(modalities={"rna": "rna", "adt": "rna"}), ValueError, ["modalities must name two different modalities; got 'rna' twice"]),
    "an unknown modality": (same, importance(modalities={"rna": "gex", "adt": "adt"}), KeyError, ["modalities['rna']='gex' is not a modality of mdata", "'rna', 'adt'"]),
    "n_neighbors of 0": (same, importance(n_neighbors=0), ValueError, ["n_neighbors must be at least 1, but is 0"]),
    "n_neighbors of all cells": (same, importance(n_neighbors=240), ValueError, ["n_neighbors=240 requires more cells", "240 of the 240 selected cells", "Lower n_neighbors"]),
    "representations missing in most cells": (with_nan("X_indiseek_specific_adt", 5), importance(), ValueError, ["n_neighbors=10 requires more cells", "5 of the 240 selected cells"]),
    "smoothing of 0": (same, importance(smoothing=0), ValueError, ["smoothing must be above 0, but is 0.0"]),
    "smoothing of NaN": (same, importance(smoothing=np.float64("nan")), ValueError, ["smoothing must be"]),
    "confidence of 1": (same, importance(confidence=1), ValueError, ["confidence=1 must lie between 0 and 1"]),
    "confidence as text": (same, importance(confidence="high"), ValueError, ["confidence must be a number, but is 'high'"]),
    "n_bootstrap as boolean": (same, importance(n_bootstrap=True), ValueError, ["n_bootstrap must be a whole number, but is True"]),
    "a negative seed": (same, importance(seed=-1), ValueError, ["seed must not be negative, but is -1"]),
    # Ranks
    "latents as text": (same, ranks(latents="shared"), ValueError, ["latents='shared' must be a sequence of representations"]),
    "unknown latents": (with_weights([0.5]), ranks(latents=["private"]), ValueError, ["latents='private' is not known"]),
    "weights missing": (same, ranks(), KeyError, ["searched for 'rna:wnn_weight'", "tl.wnn_weights(mdata)", "weight_key"]),
    "weights misspelt": (with_weights([0.5]), ranks(weight_key="rna.weight"), KeyError, ["weight_key='rna.weight'", "Did you mean 'RNA.weight'?"]),
    "weights above 1": (with_weights([0.5, 2.0]), ranks(), ValueError, ["'RNA.weight' contains values that are not weights between 0 and 1", "cell1"]),
    "weights as text": (with_weights(["high"]), lambda m: tl.find_wnn_weights(m), ValueError, ["'RNA.weight' contains values that are not weights between 0 and 1 in cells cell0, cell1", "Name another column with key"]),
    "audit as number": (with_weights([0.5]), ranks(audit=0.5), TypeError, ["audit must be a report returned by model.audit(), but is float"]),
    "too few cells per label": (with_weights([0.2, 0.4, 0.6]), ranks(minimum_cells=61), ValueError, ["at least 3 labels of minimum_cells=61"]),
    # Clusters
    "clusters without the joint representation": (without_entry("obsm", _keys.JOINT), clusters(), KeyError, ["X_indiseek", "the joint representation, is missing", "model.write_latents(mdata)"]),
    "clusters of one label": (labelled("B"), clusters(), ValueError, ["label_key='cell_type' must have at least 2 labels", "it has 1"]),
    "an unknown reference": (same, clusters(reference="shared_gex"), ValueError, ["reference='shared_gex' is not among the compared clusterings"]),
    "the reference alone": (same, clusters(latents=["joint"]), ValueError, ["latents=['joint'] contains only the reference", "Name more"]),
    "n_repeats of 1": (same, clusters(n_repeats=1), ValueError, ["n_repeats=1 must be at least 2"]),
    "n_clusters of 1": (same, clusters(n_clusters=1), ValueError, ["n_clusters=1 must be at least 2"]),
    "minimum_share of 1": (same, clusters(minimum_share=1.0), ValueError, ["minimum_share=1.0 must lie between 0 and 1"]),
    # Retrieval
    "ks empty": (same, retrieve(ks=()), ValueError, ["ks=() must be whole numbers of at least 1, and at least one"]),
    "ks as number": (same, retrieve(ks=5), ValueError, ["ks=5 must be whole numbers"]),
    "ks as floats": (same, retrieve(ks=[1.0]), ValueError, ["ks=[1.0] must be whole numbers"]),
    "ks with 0": (same, retrieve(ks=(0,)), ValueError, ["ks=(0,) must be whole numbers of at least 1"]),
    "retrieval of one cell": (with_nan("X_indiseek_shared_rna", 1), retrieve(cells="all"), ValueError, ["needs at least 2 cells with both shared representations", "there are 1"]),
    # Weights
    "embedding missing": (without_latents, weigh(), KeyError, ["rna_obsm_key='X_pca': neither mdata['rna'].obsm nor mdata.obsm", "scanpy.pp.pca(mdata['rna'])"]),
    "an embedding with NaN": (with_nan("X_pca", 238, "adt"), weigh(), ValueError, ["adt_obsm_key='X_pca'", "modality 'adt' that are not finite in cells cell238, cell239"]),
    "one embedding for both": (one_embedding, weigh(), ValueError, ["are both mdata.obsm['X_pca']", "Name an embedding of each"]),
    "rna_dimensions too large": (same, weigh(rna_dimensions=9), ValueError, ["rna_dimensions=9 must be between 1 and the 4 columns"]),
    "adt_dimensions of 0": (same, weigh(adt_dimensions=0), ValueError, ["adt_dimensions=0 must be between 1 and the 4 columns"]),
    "an embedding of text": (with_obsm(np.full((240, 2), "a", dtype=object), "rna"), weigh(rna_obsm_key="other"), ValueError, ["rna_obsm_key='other': mdata['rna'].obsm['other'] must be numbers", "got object of shape (240, 2)"]),
    "cells without a partner": (with_nan("X_pca", 1, "rna", whole=True), weigh(), ValueError, ["at least 2 cells with both modalities ['rna', 'adt']", "there are 1"]),
    "normalize as text": (same, weigh(normalize="no"), ValueError, ["normalize must be True or False, but is 'no'"]),
    "n_neighbors of 1": (same, weigh(n_neighbors=1), ValueError, ["n_neighbors=1 must be at least 2"]),
    "weights all missing": (with_weights([np.nan]), lambda m: tl.find_wnn_weights(m), ValueError, ["'RNA.weight' is missing in all cells"]),
    # Transfer
    "a reference that is an AnnData": (lambda m: m["rna"], lambda m: tl.transfer_labels(m, m, "cell_type"), TypeError, ["reference must be a MuData, but is AnnData"]),
    "a query that is an AnnData": (same, transfer(lambda m: m["rna"]), TypeError, ["query must be a MuData, but is AnnData"]),
    "a query without representations": (same, transfer(without_latents), KeyError, ["use_rep='X_indiseek': query.obsm has no entries", "model.write_latents(query)"]),
    "representations of another model": (same, transfer(with_two_joint_dimensions), ValueError, ["use_rep='X_indiseek' has", "and 2 in query", "belong to different models", "model.write_latents(query)"]),
    "a reference without labels": (labelled(np.nan), transfer(), ValueError, ["label_key='cell_type': no cell of reference has both"]),
    "n_neighbors of transfer_labels of 0": (same, transfer(n_neighbors=0), ValueError, ["n_neighbors must be at least 1, but is 0"]),
    "use_rep as number": (same, transfer(use_rep=3), ValueError, ["use_rep must be one name, but is 3"]),
    # Tables of attributions
    "attributions as text": (same, write_loadings("table"), TypeError, ["table must be a DataFrame returned by model.feature_attribution, but is str"]),
    "attributions without a column": (same, write_loadings(ATTRIBUTIONS.drop(columns="magnitude")), KeyError, ["table lacks the columns ['magnitude']"]),
    "attributions of two kinds": (same, write_loadings(TWO_KINDS), ValueError, ["several values of kind: ['specific', 'shared']", "Select one"]),
    "attributions of two groups": (same, write_loadings(TWO_GROUPS), ValueError, ["group: the table contains 2 groups of cells; name one of ['all', 'B']"]),
    "an unknown group": (same, write_loadings(group="NK"), ValueError, ["group='NK' is not in the table"]),
    "attributions of a missing modality": (lambda m: MuData({"rna": m["rna"].copy()}), write_loadings(), KeyError, ["mdata lacks the modality 'adt'"]),
    "attributions of other features": (lambda m: MuData({"adt": m["adt"][:, :3].copy()}), write_loadings(), KeyError, ["mdata['adt'] lacks 5 of the 8 features", "'adt3'"]),
    "loadings that the package did not write": (with_loadings_of_the_user, write_loadings(), ValueError, ["mdata['adt'].varm['indiseek_specific'] already exists", "Rename or delete"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_tools(name: str, encoded: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrupt, call, error, parts = CASES[name]
    monkeypatch.chdir(tmp_path)
    mdata = corrupt(encoded.copy())
    before = fingerprint(mdata) if isinstance(mdata, MuData) else None
    assert_rejected(lambda: call(mdata), error, parts)
    assert before is None or fingerprint(mdata) == before
    assert list(tmp_path.iterdir()) == []
