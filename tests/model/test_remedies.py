"""Following the remedy of an error message resolves the error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy
import scanpy as sc
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek, _keys, pl, tl

N = 80


def make_cells(names: list[str] | None = None, seed: int = 0) -> MuData:
    rng = np.random.default_rng(seed)
    names = [f"cell{i}" for i in range(N)] if names is None else names
    mods = {}
    for name, width in (("rna", 30), ("adt", 8)):
        x = rng.poisson(3.0, size=(len(names), width)).astype(np.float32) + 1
        mods[name] = AnnData(x, pd.DataFrame(index=names), pd.DataFrame(index=[f"{name}{j}" for j in range(width)]))
    mdata = MuData(mods)
    mdata.obs["cell_type"] = pd.Categorical(np.array(list("ABC"))[np.arange(len(names)) % 3])
    mdata.obs["run"] = np.arange(len(names)) % 2
    mdata.obs["donor"] = np.array(["x", "y"])[np.arange(len(names)) % 2]
    return mdata


def filtered(mdata: MuData) -> MuData:
    mdata.mod["adt"] = mdata["adt"][::2].copy()
    return mdata


def chains(mdata: MuData) -> MuData:
    names = [f"cell{i // 2}" for i in range(20)]
    airr = AnnData(np.zeros((20, 1), np.float32), pd.DataFrame(index=names), pd.DataFrame(index=["chain"]))
    return with_obs(MuData({**mdata.mod, "airr": airr}), mdata)


def more_of_atac(mdata: MuData) -> MuData:
    names = [f"cell{i}" for i in range(10, N + 7)]
    atac = AnnData(np.ones((len(names), 2), np.float32), pd.DataFrame(index=names), pd.DataFrame(index=["a", "b"]))
    return with_obs(MuData({**mdata.mod, "atac": atac}), mdata)


def with_obs(mdata: MuData, other: MuData) -> MuData:
    mdata.obs["cell_type"] = other.obs["cell_type"]
    return mdata


def with_different_batches(mdata: MuData) -> MuData:
    mdata["rna"].obs["batch"] = np.array(["x", "y"])[np.arange(N) % 2]
    mdata["adt"].obs["batch"] = np.array(["x", "y"])[np.arange(N) % 3 // 2]
    return mdata


def cube(mdata: MuData) -> MuData:
    mdata["adt"].obsm["cube"] = np.random.default_rng(0).normal(size=(N, 2, 3))
    return mdata


def objects(mdata: MuData) -> MuData:
    mdata["adt"].layers["objects"] = mdata["adt"].X.astype(object)
    return mdata


# name: (change of the data, arguments, text of the message before the remedy, cells left)
SETUPS: dict[str, tuple[Callable[[MuData], MuData], dict[str, Any], str, int]] = {
    "two chains per cell": (chains, {}, "remove it: ", N),
    "two batch columns": (lambda m: m, {"batch_key": ["run", "donor"]}, "Combine them into one: ", N),
    "three-dimensional array": (cube, {"adt_obsm_key": "cube"}, "Reshape it: ", N),
    "array of objects": (objects, {"adt_layer": "objects"}, "Convert them: ", N),
}


@pytest.mark.parametrize("name", SETUPS)
def test_set_up_succeeds_after_the_suggested_remedy(name: str) -> None:
    change, arguments, introduction, n_cells = SETUPS[name]
    variables = {"mdata": change(make_cells()), "mudata": mudata, "numpy": np}
    with pytest.raises((TypeError, ValueError)) as error:
        IndiSeek.setup_mudata(variables["mdata"], **arguments)
    remedy, _, then = str(error.value).partition(introduction)[2].partition("; then ")
    exec(remedy.removesuffix("."), variables)
    if then:
        key, value = then.partition(". ")[0].removesuffix(".").split("=")
        arguments = {key: value.strip("'")}
    mdata = variables["mdata"]
    IndiSeek.setup_mudata(mdata, **arguments)
    assert mdata["rna"].n_obs == mdata["adt"].n_obs == mdata.n_obs == n_cells
    assert mdata.obs["cell_type"].notna().all()


@pytest.mark.parametrize(("change", "n_paired"), [(filtered, N // 2), (more_of_atac, N)])
def test_cells_may_lack_a_modality(change: Callable, n_paired: int) -> None:
    """Filtered data need no update, and another modality may have additional cells."""
    mdata = change(make_cells())
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    model.train(1, enable_progress_bar=False, plan_kwargs={"n_critic_warmup_steps": 2}, train_size=0.9)
    model.write_latents()
    assert np.isfinite(mdata.obsm[_keys.JOINT]).all(axis=1).sum() == model.split.n_cells == n_paired


@pytest.mark.parametrize("remedy", ["'rna:batch'", "'adt:batch'", "mdata.obs['batch']"])
def test_remedies_if_modalities_disagree_about_the_batch(remedy: str) -> None:
    mdata = with_different_batches(make_cells())
    with pytest.raises(ValueError, match="disagree about") as error:
        IndiSeek.setup_mudata(mdata, batch_key="batch")
    assert remedy in str(error.value)
    if remedy.startswith("mdata"):
        mdata.obs["batch"] = mdata["rna"].obs["batch"]
    IndiSeek.setup_mudata(mdata, batch_key="batch" if remedy.startswith("mdata") else remedy.strip("'"))
    assert IndiSeek(mdata).summary_stats["n_batch"] == 2


def test_renamed_cells_require_an_update() -> None:
    mdata = make_cells()
    mdata["adt"].obs_names = [f"other{i}" for i in range(N)]
    with pytest.raises(ValueError, match=r"Remedy: mdata\.update\(\)"):
        IndiSeek.setup_mudata(mdata)
    mdata.update()
    with pytest.raises(ValueError, match="no cell has both modalities"):
        IndiSeek.setup_mudata(mdata)


def test_protein_layer_is_accepted_as_in_totalvi() -> None:
    mdata = MuData({"gex": make_cells()["rna"], "second": make_cells()["adt"]})
    IndiSeek.setup_mudata(mdata, modalities={"rna_layer": "gex", "protein_layer": "second"})
    assert IndiSeek(mdata).modalities == {"rna": "gex", "adt": "second"}
    with pytest.raises(ValueError, match="'protein_layer' means 'adt_layer'"):
        IndiSeek.setup_mudata(mdata, modalities={"adt_layer": "gex", "protein_layer": "second"})


def test_values_beyond_single_precision_are_rejected() -> None:
    mdata = make_cells()
    mdata["adt"].layers["norm"] = mdata["adt"].X.astype(np.float64) / 3
    mdata["adt"].layers["norm"][3, 2] = 1e39
    with pytest.raises(
        ValueError, match=r"adt_layer: mdata\['adt'\]\.layers\['norm'\] has 1 values .* 1e\+39 in cell 'cell3', 'adt2'"
    ):
        IndiSeek.setup_mudata(mdata, adt_layer="norm")


def test_text_among_values_is_rejected() -> None:
    mdata = objects(make_cells())
    mdata["adt"].layers["objects"][3, 2] = "none"
    with pytest.raises(TypeError, match="'none' in cell 'cell3', 'adt2'"):
        IndiSeek.setup_mudata(mdata, adt_layer="objects")


def test_batches_of_mixed_numbers_and_text() -> None:
    mdata = make_cells()
    mdata.obs["batch"] = pd.Series(np.array([1, "2b"], dtype=object)[np.arange(N) % 2], index=mdata.obs_names)
    IndiSeek.setup_mudata(mdata, batch_key="batch")
    model = IndiSeek(mdata)
    assert model.summary_stats["n_batch"] == 2
    query = make_cells(seed=1)
    query.obs["batch"] = pd.Categorical(np.array(["2b", "1"])[np.arange(N) % 2])
    model._validate_anndata(query)
    assert list(query.obs["_scvi_batch"][:2]) == [1, 0]
    query = make_cells(seed=2)
    query.obs["batch"] = 1.0  # whole numbers become floats in columns with missing values
    model._validate_anndata(query)
    assert (query.obs["_scvi_batch"] == 0).all()


def train(mdata: MuData, **setup: Any) -> IndiSeek:
    IndiSeek.setup_mudata(mdata, **setup)
    model = IndiSeek(mdata)
    model.train(1, enable_progress_bar=False, plan_kwargs={"n_critic_warmup_steps": 2})
    model.train_prediction(1, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def model() -> IndiSeek:
    mdata = make_cells()
    mdata["adt"].obs["batch"] = np.array(["x", "y"])[np.arange(N) % 2]
    return train(mdata, batch_key="batch")


def test_remedy_for_an_untrained_stage() -> None:
    mdata = make_cells()
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    model.train(1, stages="shared", enable_progress_bar=False)
    with pytest.raises(RuntimeError) as error:
        model.get_latent_representation()
    call = re.search(r"model\.train\(stages=.*\)", str(error.value)).group(0)
    exec(call.removesuffix(")") + ", max_epochs=1, enable_progress_bar=False)", {"model": model})
    assert len(model.get_latent_representation()) == N


def test_the_batch_may_be_in_the_other_modality(model: IndiSeek) -> None:
    predicted = model.predict_modality("rna", "adt").mean
    assert np.isfinite(predicted).all(axis=None)
    query = MuData({"rna": make_cells(seed=3)["rna"]})
    with pytest.raises(ValueError, match="set up with a batch, but batch_key='batch' is not a column"):
        model.predict_modality("rna", "adt", query)
    query.obs["batch"] = "x"
    assert len(model.predict_modality("rna", "adt", query).mean) == N


def test_the_batch_of_the_named_modality_is_used() -> None:
    mdata = with_different_batches(make_cells())
    model = train(mdata, batch_key="batch", modalities={"batch_key": "rna"})
    latents = mdata.obs["_scvi_batch"].to_numpy()
    np.testing.assert_array_equal(latents, np.arange(N) % 2)
    before = model.predict_modality("adt", "rna").mean
    mdata["adt"].obs["batch"] = mdata["rna"].obs["batch"]
    pd.testing.assert_frame_equal(model.predict_modality("adt", "rna").mean, before)
    model.write_latents()
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2]
    assert mdata.uns[_keys.SETTINGS]["batch_key"] == "rna:batch"


def test_the_copy_of_a_column_kept_by_mudata_is_ignored() -> None:
    mdata = with_different_batches(make_cells())
    mdata.obs["rna:batch"] = "x"
    IndiSeek.setup_mudata(mdata, batch_key="rna:batch")
    np.testing.assert_array_equal(mdata.obs["_scvi_batch"], np.arange(N) % 2)


def test_views_are_read(model: IndiSeek, tmp_path) -> None:
    mdata, names = model.adata, model.adata.obs_names[[7, 2, 30]]
    latent = model.get_latent_representation()
    np.testing.assert_allclose(model.get_latent_representation(mdata[:10]), latent[:10], atol=1e-6)
    np.testing.assert_allclose(model.get_latent_representation(mdata[names]), latent[[7, 2, 30]], atol=1e-6)
    np.testing.assert_allclose(model.get_latent_representation(mdata[10:30], indices=names[:0]), latent[:0])
    assert mdata.is_view is False
    np.testing.assert_allclose(model.get_latent_representation(), latent)
    assert len(model.predict_modality("rna", "adt", mdata[:10]).mean) == 10
    assert len(IndiSeek._per_instance_manager_store[model.id]) <= 2  # copies are released
    with pytest.raises(ValueError, match=r"view of other data.* mdata = mdata\.copy\(\)"):
        model.write_latents(mdata[:10])


def test_cells_are_selected_by_name_mask_or_number(model: IndiSeek) -> None:
    latent, names = model.get_latent_representation(), model.adata.obs_names
    mask = pd.Series(np.arange(N) < 2, index=names)
    for form in ([1, 0], list(names[[1, 0]]), names[[1, 0]], np.array(names[[1, 0]])):
        np.testing.assert_allclose(model.get_latent_representation(indices=form), latent[[1, 0]], atol=1e-6)
    for form in (mask, mask[::-1], mask.to_numpy(), mask.tolist()):
        np.testing.assert_allclose(
            np.sort(model.get_latent_representation(indices=form), 0), np.sort(latent[:2], 0), atol=1e-6
        )
    assert list(model.predict_modality("rna", "adt", indices=["cell7", "cell3"]).mean.index) == ["cell7", "cell3"]
    with pytest.raises(ValueError, match="indices: 2 names are not names of cells: 'nobody', 'no one'"):
        model.get_features(modality="rna", indices=["cell1", "nobody", "no one"])


def test_cells_without_the_target_can_be_left_out(model: IndiSeek) -> None:
    query = make_cells([f"new{i}" for i in range(20)], seed=4)
    query.mod["adt"] = query["adt"][:15].copy()
    query.update()
    query.obs["batch"] = "x"
    with pytest.raises(ValueError, match="Leave them out by indices"):
        model.audit_prediction("rna", "adt", query)
    assert len(model.audit_prediction("rna", "adt", query, indices=query["adt"].obs_names).measured) == 15


@pytest.mark.parametrize("latent", ["joint", "shared_rna"])
def test_remedy_for_a_missing_umap(model: IndiSeek, latent: str) -> None:
    mdata = model.adata
    mdata.obsm.pop("X_umap", None)
    with pytest.raises(KeyError) as error:
        pl.umap(mdata, latents=latent, show=False)
    calls = re.search(r"Call (.*), (sc\.pp.*\)) and (sc\.tl.*\)) first", error.value.args[0]).groups()
    for call in calls:
        exec(call, {"model": model, "mdata": mdata, "sc": sc})
    pl.umap(mdata, latents=latent, show=False)
    plt.close("all")


def test_remedies_for_missing_wnn_weights() -> None:
    mdata = make_cells()
    for _ in range(4):
        try:
            tl.find_wnn_weights(mdata)
            break
        except KeyError as missing:
            assert "tl.wnn_weights(mdata)" in missing.args[0]
        try:
            tl.wnn_weights(mdata)
        except KeyError as missing:
            exec(re.search(r"scanpy\.pp\.pca\(.*\)", missing.args[0]).group(0), {"mdata": mdata, "scanpy": scanpy})
    assert tl.find_wnn_weights(mdata).weights.notna().all()
