from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from mudata import MuData
from scvi.model.base import BaseModelClass
from scvi.module.base import BaseModuleClass, LossOutput

from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES
from indiseek_sc.data import iterate_rows, read_input
from indiseek_sc.nn import build_transform

from .cells import N_CELLS, N_GENES, N_PROTEINS, fingerprint, make_mdata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class TinyModule(BaseModuleClass):
    """A module with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def _get_inference_input(self, tensors: dict) -> dict:
        return {}

    def _get_generative_input(self, tensors: dict, inference_outputs: dict) -> dict:
        return {}

    def inference(self) -> dict:
        return {}

    def generative(self) -> dict:
        return {}

    def loss(self, *args: Any) -> LossOutput:
        raise NotImplementedError


class TinyModel(IndiSeek):
    """The input side of the model with a minimal module."""

    def __init__(self, mdata: MuData | None = None, registry: dict | None = None) -> None:
        BaseModelClass.__init__(self, mdata, registry)
        self.modalities = {role: read_input(self.registry_, role)[0].modality for role in ROLES}
        self.module = TinyModule()
        inputs = {role: read_input(self.registry_, role)[1] for role in ROLES}
        self.module.transforms = {
            role: build_transform(role, state["kind"], len(state["column_names"]), n_cells=N_CELLS)
            for role, state in inputs.items()
        }
        self.init_params_ = self._get_init_params({})

    def train(self) -> None:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _forget_data() -> Iterator[None]:
    yield
    TinyModel._setup_adata_manager_store.clear()
    TinyModel._per_instance_manager_store.clear()


def call_peaks(mdata: MuData) -> MuData:
    atac = mdata["adt"].copy()
    atac.var_names = [f"chr1-{1000 * i}-{1000 * i + 500}" for i in range(1, N_PROTEINS + 1)]
    return MuData({"rna": mdata["rna"], "atac": atac})


def batch_column(values: Any, modality: str | None = "rna") -> Callable[[MuData], MuData]:
    def change(mdata: MuData) -> MuData:
        (mdata if modality is None else mdata[modality]).obs["batch"] = values
        return mdata

    return change


def same(mdata: MuData) -> MuData:
    return mdata


SWAPPED = {"rna_layer": "adt", "adt_layer": "rna"}


def test_the_check_of_sizes_can_be_disabled():
    TinyModel.setup_mudata(make_mdata(), modalities=SWAPPED, check_sizes=False)


def test_setup_anndata_names_the_alternative():
    with pytest.raises(NotImplementedError, match=r"MuData\(.*TinyModel\.setup_mudata"):
        TinyModel.setup_anndata(make_mdata()["rna"])


# --- accepted data --------------------------------------------------------------------------------

FORMATS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float64": lambda x: x.astype(np.float64),
    "int32": lambda x: x.astype(np.int32),
    "uint16": lambda x: x.astype(np.uint16),
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "int_csr": lambda x: sp.csr_matrix(x.astype(np.int64)),
}


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("name", FORMATS)
def test_any_matrix_format_is_registered_without_other_changes(name: str, layer: str | None):
    mdata = make_mdata()
    for adata in mdata.mod.values():
        adata.X, adata.layers["counts"] = FORMATS[name](adata.X), FORMATS[name](adata.layers["counts"])
    before, columns = fingerprint(mdata), set(mdata.obs.columns)
    TinyModel.setup_mudata(mdata, rna_layer=layer, adt_layer=layer)
    after = fingerprint(mdata)
    assert {key for key in after if before.get(key) != after[key]} == {
        "mdata/uns/_scvi_uuid",
        "mdata/uns/_scvi_manager_uuid",
        "mdata/obs",
    }
    assert set(mdata.obs.columns) == {*columns, "_scvi_batch"}
    model = TinyModel(mdata)
    assert dict(model.summary_stats) == {"n_vars": N_GENES, "n_cells": N_CELLS, "n_adt": N_PROTEINS, "n_batch": 1}
    assert model.registry_["setup_args"]["rna_input"] == model.registry_["setup_args"]["adt_input"] == "counts"
    minibatch = next(iter(model._make_data_loader(mdata, indices=[7, 2], batch_size=2)))
    for key, modality in (("X", "rna"), ("adt", "adt")):
        expected = next(iterate_rows(mdata[modality].X, np.array([2, 7])))[::-1]
        np.testing.assert_array_equal(minibatch[key], expected)


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_a_backed_file_is_read(tmp_path: Path, convert: Callable[[np.ndarray], Any]):
    mdata = make_mdata()
    for adata in mdata.mod.values():
        adata.X = convert(adata.X)
    mdata.write_h5mu(tmp_path / "data.h5mu")
    backed = mudata.read_h5mu(tmp_path / "data.h5mu", backed="r")
    assert backed["rna"].isbacked
    TinyModel.setup_mudata(backed, batch_key="batch")
    model = TinyModel(backed)
    assert model._validate_anndata() is backed
    assert model.registry_["setup_args"]["rna_input"] == "counts"


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({}, ("counts", "counts")),
        ({"rna_layer": "logs"}, ("normalized", "counts")),
        ({"rna_obsm_key": "X_pca", "adt_layer": "logs"}, ("representation", "normalized")),
        ({"rna_input": "normalized", "adt_input": "representation"}, ("normalized", "representation")),
    ],
)
def test_the_recognised_kind_is_recorded(arguments: dict[str, Any], kinds: tuple[str, str]):
    mdata = make_mdata()
    TinyModel.setup_mudata(mdata, **arguments)
    registry = TinyModel(mdata).registry_
    assert (registry["setup_args"]["rna_input"], registry["setup_args"]["adt_input"]) == kinds
    states = [registry["field_registries"][key]["state_registry"] for key in ("X", "adt")]
    assert tuple(state["kind"] for state in states) == kinds


def test_set_up_logs_the_recognised_inputs(messages: pytest.LogCaptureFixture):
    mdata = make_mdata("gex", "prot")
    mdata["gex"].X[:, 3] = 0
    mdata["prot"].X[6] = 0
    TinyModel.setup_mudata(mdata, adt_layer="logs", modalities={"rna_layer": "gex", "adt_layer": "prot"})
    lines = [record.message for record in messages.records]
    assert (
        "rna: counts in mdata['gex'].X (40 cells, 12 genes; whole numbers, none negative): library size, log1p, centring, weighting by signal, PCA."
        in lines
    )
    assert (
        "adt: normalised values in mdata['prot'].layers['logs'] (40 cells, 5 proteins; fractional, none negative, and at most 1.95: "
        "logarithms, such as log1p or Seurat's centred log-ratios): centring, one scale for all." in lines
    )
    assert "adt: there are counts in mdata['prot'].X; to use them, leave out adt_layer." in lines
    assert "rna: 1 genes are 0 in all cells: 'g3'." in lines
    messages.clear()
    TinyModel.setup_mudata(mdata, modalities={"rna_layer": "gex", "adt_layer": "prot"})
    assert "adt: 1 cells are 0 in all proteins: 'cell6'." in messages.text


@pytest.mark.parametrize("place", ["modality", "top", "both"])
def test_a_representation_may_be_in_the_modality_or_in_mdata(place: str):
    mdata, latents = make_mdata(), {"modality": np.ones((N_CELLS, 2)), "top": np.full((N_CELLS, 4), 2.0)}
    if place != "top":
        mdata["adt"].obsm["latents"] = latents["modality"]
    if place != "modality":
        mdata.obsm["latents"] = latents["top"]
    TinyModel.setup_mudata(mdata, adt_obsm_key="latents")
    model = TinyModel(mdata)
    expected = latents["top" if place == "top" else "modality"]
    assert model.summary_stats.n_adt == expected.shape[1]
    minibatch = next(iter(model._make_data_loader(mdata, batch_size=N_CELLS)))
    np.testing.assert_array_equal(minibatch["adt"], expected)
    assert list(model.get_var_names()) == ["rna"]


def test_a_third_modality_may_have_fewer_cells():
    mdata = make_mdata()
    mdata = MuData({**{name: adata.copy() for name, adata in mdata.mod.items()}, "atac": mdata["adt"][:9].copy()})
    TinyModel.setup_mudata(mdata)
    assert TinyModel(mdata).summary_stats.n_vars == N_GENES


BATCH_PLACES = {
    "modality": (same, "batch", {}),
    "modality with prefix": (same, "rna:batch", {}),
    "modality named": (same, "batch", {"modalities": {"batch_key": "rna"}}),
    "modality named twice": (same, "rna:batch", {"modalities": {"batch_key": "rna"}}),
    "top": (batch_column(["b", *["a"] * 39], None), "batch", {}),
    "numbers": (batch_column([3, *[1] * 39]), "batch", {}),
    "other modality": (batch_column(["b", *["a"] * 39], "adt"), "adt:batch", {}),
    "pulled by mudata 0.3": (
        lambda mdata: mdata.obs.__setitem__("rna:batch", mdata["rna"].obs["batch"]) or mdata,
        "rna:batch",
        {},
    ),
}


@pytest.mark.filterwarnings("ignore:Category .* has fewer than 3 cells")
@pytest.mark.parametrize("name", BATCH_PLACES)
def test_the_batch_is_found(name: str):
    change, key, arguments = BATCH_PLACES[name]
    mdata = change(make_mdata())
    TinyModel.setup_mudata(mdata, batch_key=key, **arguments)
    model = TinyModel(mdata)
    assert model.summary_stats.n_batch == 2
    latents = model.adata_manager.get_from_registry("batch").ravel()
    assert latents[0] != latents[1]


# --- later data -----------------------------------------------------------------------------------


@pytest.fixture
def model() -> TinyModel:
    mdata = make_mdata()
    TinyModel.setup_mudata(mdata, batch_key="batch")
    return TinyModel(mdata)


def other_genes(mdata: MuData) -> MuData:
    mdata["rna"].var_names = ["g0", "new", "newer", "newest", *mdata["rna"].var_names[4:]]
    mdata.update()
    return mdata


def more_proteins(mdata: MuData) -> MuData:
    extra = ad.AnnData(np.ones((N_CELLS, 1), np.float32), mdata["adt"].obs, pd.DataFrame(index=["IgG"]))
    return MuData({"rna": mdata["rna"].copy(), "adt": ad.concat([mdata["adt"], extra], axis=1)})


def reversed_genes(mdata: MuData) -> MuData:
    return MuData({"rna": mdata["rna"][:, ::-1].copy(), "adt": mdata["adt"].copy()})


@pytest.mark.parametrize("entrance", ["validate", "load", "without data"])
@pytest.mark.parametrize("change", [more_proteins, reversed_genes])
def test_new_data_are_matched_by_name(
    change: Callable, entrance: str, model: TinyModel, tmp_path: Path, messages: pytest.LogCaptureFixture
):
    mdata = change(make_mdata(seed=1))
    model.save(tmp_path / "model")
    messages.clear()
    if entrance == "load":
        model = TinyModel.load(tmp_path / "model", adata=mdata)
    elif entrance == "without data":
        model = TinyModel.load(tmp_path / "model", adata=False)
    assert model._validate_anndata(mdata) is mdata
    for role, expected in make_mdata(seed=1).mod.items():
        source = read_input(model.registry_, role)[0]
        np.testing.assert_array_equal(source.get_values(mdata)[:], expected.X)
    logged = [record.message for record in messages.records if "by name" in record.message]
    among = "5 proteins of the model are found by name among 6; not read: 'IgG'"
    assert len(logged) == 1
    assert (among if change is more_proteins else "12 genes of the model are found by name among 12") in logged[0]


def test_rejected_data_are_not_changed(model: TinyModel):
    copy = other_genes(model.adata.copy())
    copy.uns.update(model.adata.uns)
    before = fingerprint(copy)
    with pytest.raises(ValueError, match="3 are missing"):
        model._validate_anndata(copy)
    assert fingerprint(copy) == before


def test_data_normalised_in_place_after_set_up_are_rejected(model: TinyModel):
    assert model._validate_anndata() is model.adata
    model.adata["rna"].X[:] = np.log1p(model.adata["rna"].X)
    with pytest.raises(ValueError, match=r"rna_input='counts'.*fractional"):
        model._validate_anndata()


def test_new_data_are_read_with_the_batch_codes_of_the_model(model: TinyModel):
    mdata = batch_column(["b"] * 20)(make_mdata(n_cells=20, seed=1))
    assert model._validate_anndata(mdata) is mdata
    minibatch = next(iter(model._make_data_loader(mdata, batch_size=20)))
    assert (minibatch["batch"] == 1).all()
    np.testing.assert_array_equal(minibatch["adt"], mdata["adt"].X)


@pytest.mark.parametrize("make", [lambda mdata: mdata.copy(), lambda mdata: make_mdata(seed=1)])
def test_a_model_with_other_data_can_be_saved_and_loaded(
    model: TinyModel, make: Callable[[MuData], MuData], tmp_path: Path
):
    model.adata = make(model.adata)
    assert model.registry_["setup_method_name"] == "setup_mudata"
    model.save(tmp_path / "model")
    assert TinyModel.load(tmp_path / "model", adata=make_mdata(seed=2)).summary_stats.n_vars == N_GENES


def test_a_loaded_model_keeps_its_registry(model: TinyModel, tmp_path: Path, messages: pytest.LogCaptureFixture):
    mdata = make_mdata()
    TinyModel.setup_mudata(mdata, adt_input="normalized", batch_key="batch")
    TinyModel(mdata).save(tmp_path / "model")
    messages.clear()
    loaded = TinyModel.load(tmp_path / "model", adata=make_mdata(n_cells=30, seed=1))
    assert loaded.registry_["setup_args"]["adt_input"] == "normalized"
    assert loaded.summary_stats.n_cells == N_CELLS
    assert loaded.adata.n_obs == 30
    assert not [record for record in messages.records if "adt:" in record.message]


def test_a_model_without_data_returns_feature_names(model: TinyModel, tmp_path: Path):
    model.save(tmp_path / "model")
    loaded = TinyModel.load(tmp_path / "model", adata=False)
    names = loaded.get_var_names()
    assert names["rna"].tolist() == [f"g{i}" for i in range(N_GENES)]
    assert names["adt"].tolist() == [f"p{i}" for i in range(N_PROTEINS)]
    with pytest.raises(ValueError, match="loaded without data"):
        loaded._validate_anndata()
    loaded.save(tmp_path / "again")
    assert TinyModel.load(tmp_path / "again", adata=make_mdata(seed=1)).summary_stats.n_adt == N_PROTEINS


def test_a_representation_of_another_width_is_rejected():
    mdata = make_mdata()
    TinyModel.setup_mudata(mdata, rna_obsm_key="X_pca")
    other = make_mdata(seed=1)
    other["rna"].obsm["X_pca"] = np.ones((N_CELLS, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"obsm\['X_pca'\]: the dimensions .* there are 4, and the model reads 3. Compute"
    ):
        TinyModel(mdata)._validate_anndata(other)


def test_a_representation_in_another_place_is_rejected():
    mdata = make_mdata()
    TinyModel.setup_mudata(mdata, rna_obsm_key="X_pca")
    other = make_mdata(seed=1)
    other.obsm["X_pca"] = other["rna"].obsm.pop("X_pca")
    with pytest.raises(ValueError, match=r"it must be in mdata\['rna'\]\.obsm\['X_pca'\].*but is in mdata\.obsm"):
        TinyModel(mdata)._validate_anndata(other)


@pytest.mark.parametrize(
    "names", [("rna", "prot"), ("GEX", "Protein"), ("Gene Expression", "Antibody Capture"), ("x", "AB")]
)
def test_modalities_are_found_by_name_or_type(names: tuple[str, str]):
    mdata = make_mdata(*names)
    if names[0] == "x":
        mdata["x"].var["feature_types"] = "Gene Expression"
    TinyModel.setup_mudata(mdata)
    assert TinyModel(mdata).modalities == {"rna": names[0], "adt": names[1]}


def correct_counts(counts: np.ndarray) -> np.ndarray:
    """Return counts as after a correction for ambient RNA."""
    return counts * 20 * np.random.default_rng(1).uniform(0.9, 1.0, counts.shape).astype(np.float32)


@pytest.mark.parametrize("modality", ["rna", "adt"])
def test_corrected_counts_are_counts_with_a_warning(modality: str, tmp_path: Path):
    mdata = make_mdata()
    mdata[modality].X = correct_counts(mdata[modality].X)
    with pytest.warns(
        UserWarning,
        match=rf"{modality}_layer: .* fractional counts, such as those of SoupX.*{modality}_input='normalized'",
    ):
        TinyModel.setup_mudata(mdata)
    model = TinyModel(mdata)
    assert model.registry_["setup_args"][f"{modality}_input"] == "counts"
    model.save(tmp_path / "model")
    with warnings.catch_warnings():  # warnings are not repeated for queries
        warnings.filterwarnings("error", message=".*fractional counts")
        TinyModel.load(tmp_path / "model", adata=mdata.copy())
        TinyModel.setup_mudata(mdata, **{f"{modality}_input": "counts"})
    TinyModel.setup_mudata(mdata, **{f"{modality}_input": "normalized"})
    assert TinyModel(mdata).registry_["setup_args"][f"{modality}_input"] == "normalized"


def normalize(counts: np.ndarray) -> np.ndarray:
    return 1e4 * counts / counts.sum(axis=1, keepdims=True)


def center_logs(counts: np.ndarray, axis: int) -> np.ndarray:
    logs = np.log1p(counts)
    return logs - logs.mean(axis=axis, keepdims=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda counts: np.log1p(normalize(counts)), "none negative, and at most"),
        (lambda counts: center_logs(counts, 1), "centred log-ratios within cells"),
        (lambda counts: center_logs(counts, 0), "all proteins have mean 0"),
        (lambda counts: np.log1p(counts) - 1.3, "values are negative, such as after dsb"),
    ],
)
def test_normalised_values_are_recognised(
    change: Callable[[np.ndarray], np.ndarray], reason: str, messages: pytest.LogCaptureFixture
):
    mdata = make_mdata()
    mdata["adt"].raw = mdata["adt"].copy()
    mdata["adt"].X = change(mdata["adt"].X)
    TinyModel.setup_mudata(mdata)
    (line,) = [record.message for record in messages.records if record.message.startswith("adt: normalised")]
    assert reason in line
    assert "there are counts in mdata['adt'].layers['counts']; to use them, give adt_layer='counts'" in messages.text
    assert "there are counts in mdata['adt'].raw" in messages.text


def test_equal_totals_without_logarithms_cause_a_warning():
    mdata = make_mdata()
    mdata["rna"].X = normalize(mdata["rna"].X)
    with pytest.warns(UserWarning, match="all cells have the same total, 10000, .* take logarithms"):
        TinyModel.setup_mudata(mdata)


def test_chromatin_accessibility_is_not_called_proteins(messages: pytest.LogCaptureFixture):
    mdata = call_peaks(make_mdata())
    with messages.at_level(logging.INFO):
        TinyModel.setup_mudata(mdata, modalities={"adt_layer": "atac"})
    assert "5 features" in messages.text
    assert "proteins" not in messages.text


def test_real_data(pbmc_covid: MuData):
    TinyModel.setup_mudata(pbmc_covid, batch_key="Batch")
    model = TinyModel(pbmc_covid)
    assert model.registry_["setup_args"]["rna_input"] == model.registry_["setup_args"]["adt_input"] == "counts"
    assert model._validate_anndata() is pbmc_covid


def test_a_copy_is_set_up_beside_the_original(pbmc_small):
    IndiSeek.setup_mudata(pbmc_small, batch_key="batch")
    copy = pbmc_small[:300].copy()
    IndiSeek.setup_mudata(copy)
    assert IndiSeek(pbmc_small).registry_["setup_args"]["batch_key"] == "batch"
    assert IndiSeek(copy).registry_["setup_args"]["batch_key"] is None


def test_batches_of_single_cells_are_rejected_and_small_batches_warned_of(pbmc_small):
    pbmc_small.obs["barcode"] = pbmc_small.obs_names.to_numpy()
    with pytest.raises(
        ValueError, match="batch_key='barcode' has 600 batches for 600 cells, most of them with a single"
    ):
        IndiSeek.setup_mudata(pbmc_small, batch_key="barcode")
    pbmc_small.obs["small"] = [f"s{row // 5}" for row in range(600)]
    with pytest.warns(
        UserWarning, match="batch_key='small' has 120 batches for 600 cells, half of them with at most 5"
    ):
        IndiSeek.setup_mudata(pbmc_small, batch_key="small")
