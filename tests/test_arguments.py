"""Arguments of the wrong type raise an error that names the argument, in all functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from indiseek_sc import IndiSeek, _keys, pl, tl
from indiseek_sc._checks import check_flag, check_name, check_number, check_share, check_whole


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_numpy_are_accepted(value: Any) -> None:
    found = check_whole("n", value, 1)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.array([3]), [3]])
def test_invalid_integers_raise(value: Any) -> None:
    with pytest.raises(ValueError, match="^n must be a whole number, but is "):
        check_whole("n", value, 1)


def test_ranges_of_numbers() -> None:
    assert check_whole("n", 0, 0) == 0
    assert check_number("x", np.float32(0.5)) == 0.5
    assert check_share("x", 0.5) == 0.5
    assert check_flag("x", np.True_) is True
    for check, value, message in [
        (lambda x: check_whole("n", x, 2), 1, "n must be at least 2, but is 1"),
        (lambda x: check_whole("n", x, 0), -1, "n must not be negative"),
        (lambda x: check_number("x", x), "1", "x must be a number, but is '1'"),
        (lambda x: check_number("x", x), np.inf, "x must be a finite number"),
        (lambda x: check_number("x", x, above_zero=True), 0, "x must be above 0"),
        (lambda x: check_share("x", x), 1.0, "x=1.0 must lie between 0 and 1"),
        (lambda x: check_flag("x", x), "no", "x must be True or False, but is 'no'"),
    ]:
        with pytest.raises(ValueError, match=message):
            check(value)


def test_names() -> None:
    assert type(check_name("kind", np.str_("rna"), ["rna", "adt"])) is str
    for value in (None, ["rna"], np.array(["rna"]), 3):
        with pytest.raises(ValueError, match=r"^kind must be one name, but is .*\. Available: 'rna', 'adt'\.$"):
            check_name("kind", value, {"rna": 1, "adt": 2})
    with pytest.raises(ValueError, match="kind='Rna' is not known. Available: 'rna'. Did you mean 'rna'?"):
        check_name("kind", "Rna", ["rna"])


@pytest.fixture(scope="module")
def model(_pbmc_covid_once) -> IndiSeek:
    mdata = _pbmc_covid_once[::20].copy()
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    model.train(1, enable_progress_bar=False, plan_kwargs={"n_critic_warmup_steps": 2})
    model.write_latents()
    model.train_prediction(1, enable_progress_bar=False)
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2]
    rng = np.random.default_rng(0)
    for name in ("rna", "adt"):
        mdata[name].obsm["X_pca"] = rng.normal(size=(mdata.n_obs, 5))
    tl.wnn_weights(mdata)
    tl.modality_importance(mdata, "cell_type", n_bootstrap=5)
    return model


NAMES: dict[str, Callable[[IndiSeek, Any], Any]] = {
    "label_key of theta": lambda m, v: tl.modality_importance(m.adata, v),
    "label_key of ranks": lambda m, v: tl.rank_correlation(m.adata, v),
    "label_key of a report": lambda m, v: m.report("/nowhere/report.html", label_key=v or []),
    "latent": lambda m, v: tl.modality_importance(m.adata, "cell_type", latent=v),
    "cells": lambda m, v: tl.modality_importance(m.adata, "cell_type", cells=v),
    "label_key of dimensions": lambda m, v: tl.describe_dimensions(m.adata, v or []),
    "kind of dimensions": lambda m, v: tl.describe_dimensions(m.adata, kind=v),
    "modality of markers": lambda m, v: tl.dimension_markers(m.adata, 0, modality=v),
    "rna_obsm_key": lambda m, v: tl.modality_importance(m.adata, "cell_type", latent="raw", rna_obsm_key=v),
    "search": lambda m, v: tl.wnn_weights(m.adata, search=v),
    "key_added": lambda m, v: tl.wnn_neighbors(m.adata, key_added=v if isinstance(v, list) else []),
    "latents of ranks": lambda m, v: tl.rank_correlation(m.adata, "cell_type", latents=[v]),
    "latents of clusters": lambda m, v: tl.compare_clusters(m.adata, latents=[v]),
    "reference": lambda m, v: tl.compare_clusters(m.adata, latents=("joint", "shared"), reference=v),
    "legend_loc": lambda m, v: pl.umap(m.adata, legend_loc=v or [], show=False),
    "measure": lambda m, v: pl.cluster_agreement(m.adata, measure=v, show=False),
    "of": lambda m, v: pl.rank_correlation(m.adata, of=v, show=False),
    "kind": lambda m, v: m.get_latent_representation(kind=v),
    "modality": lambda m, v: m.get_latent_representation(kind="shared", modality=v),
    "modality of features": lambda m, v: m.get_features(modality=v),
    "source": lambda m, v: m.predict_modality(v, "adt"),
    "target": lambda m, v: m.predict_modality("rna", v),
    "units": lambda m, v: m.predict_modality("rna", "adt", units=v),
    "method": lambda m, v: m.feature_attribution(modality="rna", method=v),
    "values": lambda m, v: m.feature_attribution(modality="rna", values=v),
    "preset": lambda m, v: IndiSeek(m.adata, preset=v),
    "rna_layer": lambda m, v: IndiSeek.setup_mudata(m.adata, rna_layer=v or []),
    "adt_obsm_key": lambda m, v: IndiSeek.setup_mudata(m.adata, adt_obsm_key=v or []),
    "batch_key": lambda m, v: IndiSeek.setup_mudata(m.adata, batch_key=v or []),
    "rna_input": lambda m, v: IndiSeek.setup_mudata(m.adata, rna_input=v),
}

NUMBERS: dict[str, Callable[[IndiSeek, Any], Any]] = {
    "n_neighbors of theta": lambda m, v: tl.modality_importance(m.adata, "cell_type", n_neighbors=v),
    "n_neighbors of weights": lambda m, v: tl.wnn_weights(m.adata, n_neighbors=v),
    "n_candidates": lambda m, v: tl.wnn_neighbors(m.adata, n_candidates=v),
    "prune": lambda m, v: tl.wnn_neighbors(m.adata, prune=v),
    "n_neighbors of clusters": lambda m, v: tl.compare_clusters(m.adata, latents=("joint", "shared"), n_neighbors=v),
    "n_bootstrap": lambda m, v: tl.modality_importance(m.adata, "cell_type", n_bootstrap=v),
    "confidence": lambda m, v: tl.modality_importance(m.adata, "cell_type", confidence=v),
    "smoothing": lambda m, v: tl.modality_importance(m.adata, "cell_type", smoothing=v),
    "minimum_cells": lambda m, v: tl.modality_importance(m.adata, "cell_type", minimum_cells=v),
    "seed": lambda m, v: tl.modality_importance(m.adata, "cell_type", seed=v),
    "seed of the audit": lambda m, v: m.audit(seed=v),
    "n_features": lambda m, v: tl.describe_dimensions(m.adata, n_features=v),
    "threshold": lambda m, v: tl.describe_dimensions(m.adata, threshold=v),
    "seed of dimensions": lambda m, v: tl.describe_dimensions(m.adata, seed=v),
    "dimension": lambda m, v: tl.dimension_markers(m.adata, v, modality="rna"),
    "share": lambda m, v: tl.dimension_markers(m.adata, 0, modality="rna", share=v),
    "n_repeats": lambda m, v: tl.compare_clusters(m.adata, latents=("joint", "shared"), n_repeats=v),
    "ks": lambda m, v: tl.retrieval(m.adata, cells="all", ks=[v]),
    "ncols": lambda m, v: pl.umap(m.adata, ncols=v, show=False),
    "max_cells": lambda m, v: m.feature_attribution(modality="rna", max_cells=v),
    "seed of a model": lambda m, v: IndiSeek(m.adata, seed=v),
    "n_shared": lambda m, v: IndiSeek(m.adata, n_shared=v),
    "n_top_genes": lambda m, v: IndiSeek(m.adata, n_top_genes=v),
    "dropout": lambda m, v: IndiSeek(m.adata, dropout=v),
}

MDATA: list[Callable[[Any], Any]] = [
    lambda v: tl.modality_importance(v, "cell_type"),
    lambda v: tl.rank_correlation(v, "cell_type"),
    lambda v: tl.compare_clusters(v),
    lambda v: tl.retrieval(v),
    lambda v: tl.describe_dimensions(v),
    lambda v: tl.dimension_markers(v, 0, modality="rna"),
    lambda v: tl.feature_sets(v),
    lambda v: tl.wnn_weights(v),
    lambda v: tl.wnn_neighbors(v),
    lambda v: tl.find_wnn_weights(v, "weight"),
    lambda v: pl.umap(v, show=False),
    lambda v: pl.importance_ranking(v, show=False),
    lambda v: pl.retrieval(v, show=False),
    lambda v: pl.dimensions(v, show=False),
    lambda v: pl.cluster_agreement(v, show=False),
    lambda v: pl.cluster_splits(v, show=False),
    lambda v: pl.rank_correlation(v, show=False),
    lambda v: IndiSeek(v),
]


@pytest.mark.parametrize("value", [None, ["cell_type"], 5, np.array(["a", "b"])], ids=str)
@pytest.mark.parametrize("argument", NAMES)
def test_invalid_names_raise(model: IndiSeek, argument: str, value: Any) -> None:
    before = model.adata.uns.keys()
    with pytest.raises((ValueError, KeyError), match=f"{argument.split()[0]}\\b"):
        NAMES[argument](model, list(value) if isinstance(value, np.ndarray) else value)
    assert model.adata.uns.keys() == before
    plt.close("all")


@pytest.mark.parametrize("value", ["5", [5], {}], ids=str)
@pytest.mark.parametrize("argument", NUMBERS)
def test_invalid_numbers_raise(model: IndiSeek, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{argument.split()[0]}(=.*)? must be"):
        NUMBERS[argument](model, value)


@pytest.mark.parametrize("value", [None, "mdata", 5, pd.Series([1])], ids=["None", "text", "number", "series"])
@pytest.mark.parametrize("call", MDATA)
def test_other_objects_than_mudata_raise(call: Callable, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^mdata"):
        call(value)


def test_numpy_scalars_are_accepted(model: IndiSeek) -> None:
    table = tl.modality_importance(
        model.adata, np.str_("cell_type"), latent=np.str_("shared"), n_neighbors=np.int64(5), n_bootstrap=np.int32(5)
    )
    assert len(table)
    latent = model.get_latent_representation(kind=np.str_("shared"), modality=np.str_("rna"))
    assert len(latent) == model.adata.n_obs
