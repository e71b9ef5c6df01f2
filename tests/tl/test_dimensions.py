from __future__ import annotations

import sys
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek, _keys, tl
from indiseek_sc._fingerprint import Place, find_changed
from indiseek_sc.datasets import synthetic

N = 600

needs_decoupler = pytest.mark.usefixtures("_decoupler")


@pytest.fixture
def _decoupler() -> None:
    pytest.importorskip("decoupler", reason='decoupler is not installed: pip install "indiseek_sc[enrichment]"')


@pytest.fixture(scope="module")
def _drawn() -> MuData:
    """Return synthetic counts with known technical dimensions.

    Genes that rise with the private RNA factor 1 have names of ribosomal genes. The RNA-specific
    representation consists of library size, the private factors 0 and 1, and noise; the
    protein-specific one of its private factor 0 and noise. Two labels differ in the first shared
    factor, and so do library sizes.
    """
    drawn = synthetic.make("S6", N, seed=0)
    private, shared = drawn.obsm[_keys.factor_private("rna")], drawn.obsm[_keys.FACTOR_SHARED]
    counts = drawn["rna"].X.toarray()
    shares = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 4000)
    factor = drawn.uns[_keys.SYNTHETIC]["coordinates"].set_index("coordinate")["factors"]
    names = []
    for number, name in enumerate(drawn["rna"].var_names):
        rises = np.corrcoef(shares[:, number], private[:, 1])[0, 1] > 0
        names.append(f"RPL{number}" if rises and factor[name] == "private_rna_1" else f"{factor[name]}_{number}")
    rng = np.random.default_rng(0)
    rna = AnnData(drawn["rna"].X, obs=drawn["rna"].obs, var=pd.DataFrame(index=names))
    mdata = MuData({"rna": rna, "adt": drawn["adt"].copy()})
    mdata.obs["cell_type"] = pd.Categorical(np.where(shared[:, 0] > 0, "high", "low"))
    mdata.obs["batch"] = drawn.obs["batch"].to_numpy()
    size = np.log(counts.sum(axis=1))
    size = (size - size.mean()) / size.std() + 0.3 * rng.normal(size=N)
    adt = drawn.obsm[_keys.factor_private("adt")][:, 0]
    mdata.obsm[_keys.specific("rna")] = np.column_stack([size, private, rng.normal(size=N)]).astype(np.float32)
    mdata.obsm[_keys.specific("adt")] = np.column_stack([adt, rng.normal(size=N)]).astype(np.float32)
    for name in ("rna", "adt"):
        mdata.obsm[_keys.shared(name)] = shared[:, :2].astype(np.float32)
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "rna", "adt": "adt"}, "batch_key": "batch"}
    return mdata


@pytest.fixture
def mdata(_drawn: MuData) -> MuData:
    return _drawn.copy()


def test_only_technical_dimensions_are_flagged(mdata):
    table = tl.describe_dimensions(mdata, "cell_type")
    assert table["modality"].tolist() == ["rna"] * 4 + ["adt"] * 2
    assert table["dimension"].tolist() == [0, 1, 2, 3, 0, 1]
    assert table["is_technical"].tolist() == [True, False, True, False, False, False]
    assert table.loc[0, "covariates"].split(", ")[0] == "library size of rna"
    assert table.loc[2, "covariates"].split(", ")[0] == "ribosomal protein genes"
    assert (table.loc[[0, 2], "r2_beyond_labels"] > 0.5).all()
    assert (table.loc[[1, 3, 4, 5], "r2_beyond_labels"] < 0.1).all()


def test_features_at_both_ends_belong_to_the_factor(mdata):
    table = tl.describe_dimensions(mdata, n_features=4)
    named = table.loc[1, ["lower", "upper"]].str.split(", ").explode()
    assert len(named) == 8
    assert named.str.startswith("private_rna_0").all()
    assert table.loc[2, "upper"].count("RPL") == 4
    assert table.loc[1, "explained_variance"] > 5 * table.loc[3, "explained_variance"]


def test_a_shared_dimension_that_separates_types_is_not_technical(mdata):
    high = (mdata.obs["cell_type"] == "high").to_numpy()
    counts = mdata["rna"].X.toarray()
    mdata["rna"].X = np.where(high[:, None], np.round(2 * counts), counts).astype(np.float32)
    without = tl.describe_dimensions(mdata, kind="shared")
    table = tl.describe_dimensions(mdata, "cell_type", kind="shared")
    assert without["is_technical"].tolist() == [True, False, True, False]
    assert not table["is_technical"].any()
    assert table.loc[0, "r2_labels"] > 0.5
    assert table.loc[0, "labels"] == ""  # both types are equally far from the mean
    assert f"{_keys.DIMENSIONS}_shared" in mdata.uns
    assert _keys.DIMENSIONS not in mdata.uns


def test_labels_that_use_a_dimension_are_named(mdata):
    latent = mdata.obsm[_keys.specific("rna")]
    rare = np.arange(N) < 40
    mdata.obs["cell_type"] = pd.Categorical(np.where(rare, "rare", mdata.obs["cell_type"].astype(str)))
    mdata.obs.loc[mdata.obs_names[:10], "cell_type"] = np.nan
    latent[rare, 3] *= 3
    table = tl.describe_dimensions(mdata, "cell_type")
    assert table["labels"].tolist() == ["", "", "", "rare", "", ""]
    use = mdata.uns[f"{_keys.DIMENSIONS}_labels"].set_index(["modality", "dimension", "label"])
    assert use.loc[("rna", 3, "rare"), "n_cells"] == 30
    assert use.loc[("rna", 3, "rare"), "variance_ratio"] > 4


@needs_decoupler
def test_sets_are_scored_where_decoupler_is_installed(mdata):
    table = tl.describe_dimensions(mdata)
    assert table.loc[2, "sets_upper"] == "ribosomal protein genes"
    assert table.loc[[1, 3, 4, 5], ["sets_lower", "sets_upper"]].eq("").all(axis=None)
    private = [name for name in mdata["rna"].var_names if name.startswith("private_rna_0")]
    rising = mdata["rna"].to_df()[private].corrwith(pd.Series(mdata.obsm[_keys.specific("rna")][:, 1], mdata.obs_names))
    network = pd.DataFrame({"source": "mine", "target": rising.index[rising > 0]})
    table = tl.describe_dimensions(mdata, network=network)
    assert table["sets_upper"].tolist() == ["", "mine", "", "", "", ""]
    assert (mdata.uns[f"{_keys.DIMENSIONS}_sets"]["source"] == "mine").all()


def test_without_decoupler_only_sets_are_missing(mdata, monkeypatch):
    with_it = tl.describe_dimensions(mdata, "cell_type")
    monkeypatch.setitem(sys.modules, "decoupler", None)
    without = tl.describe_dimensions(mdata, "cell_type")
    same = [column for column in with_it if not column.startswith("sets")]
    pd.testing.assert_frame_equal(without[same], with_it[same])
    assert without[["sets_lower", "sets_upper"]].eq("").all(axis=None)
    assert f"{_keys.DIMENSIONS}_sets" not in mdata.uns
    with pytest.raises(ImportError, match=r"indiseek_sc\[enrichment\]"):
        tl.describe_dimensions(mdata, network=pd.DataFrame({"source": ["a"], "target": ["b"]}))


def test_covariates_of_the_model_and_of_the_user_are_used(mdata):
    mdata["rna"].obs["handling"] = mdata.obsm[_keys.specific("rna")][:, 3]
    mdata.obsm[_keys.specific("rna")][:, 1] += 4 * (mdata.obs["batch"] == "batch_1")
    table = tl.describe_dimensions(mdata, covariates="rna:handling")
    assert table.loc[3, "covariates"] == "rna:handling"
    assert table.loc[1, "covariates"] == "batch"
    assert table.loc[[1, 3], "is_technical"].all()


def test_cells_without_a_covariate_are_excluded_from_regressions(mdata):
    mdata.obs["handling"] = mdata.obsm[_keys.specific("rna")][:, 3]
    mdata.obs.loc[mdata.obs_names[:100], "handling"] = np.nan
    assert tl.describe_dimensions(mdata, covariates=["handling"]).loc[3, "r2_technical"] > 0.9
    mdata.obs["handling"] = np.nan
    with pytest.raises(ValueError, match=r"covariates: 'handling' is missing in cells .* only 0 cells have all"):
        tl.describe_dimensions(mdata, covariates=["handling"])


def test_cells_without_a_modality_are_excluded(mdata):
    whole = tl.describe_dimensions(mdata[:500].copy(), "cell_type")
    for name in ("rna", "adt"):
        mdata.obsm[_keys.specific(name)][500:] = np.nan
    mdata.mod["rna"] = mdata["rna"][np.random.default_rng(0).permutation(500)].copy()  # in another order
    pd.testing.assert_frame_equal(tl.describe_dimensions(mdata, "cell_type"), whole)


def test_technical_covariates_require_counts(mdata, caplog):
    for name in ("rna", "adt"):
        mdata[name].layers["counts"] = mdata[name].X
        mdata[name].X = np.log1p(mdata[name].X.toarray())
    del mdata.uns[_keys.SETTINGS]["batch_key"]
    table = tl.describe_dimensions(mdata)
    assert table["r2_technical"].isna().all()
    assert not table["is_technical"].any()
    assert table["upper"].ne("").all()
    assert "No technical covariates are available" in caplog.text
    of_layers = tl.describe_dimensions(mdata, rna_layer="counts", adt_layer="counts")
    assert of_layers["is_technical"].tolist() == [True, False, True, False, False, False]
    noted = {"attribute": "layers", "key": "counts", "kind": "counts"}
    mdata.uns[_keys.SETTINGS]["inputs"] = {"rna": noted, "adt": noted}
    pd.testing.assert_frame_equal(tl.describe_dimensions(mdata), of_layers)


def test_corrected_counts_are_recognised_and_normalised_ones_are_not(mdata):
    counts = tl.describe_dimensions(mdata)
    mdata.uns[_keys.SETTINGS]["inputs"] = {"rna": {"attribute": "X", "key": "", "kind": "counts"}}
    corrected = mdata.copy()
    corrected["rna"].X = corrected["rna"].X * 0.9  # as after removal of ambient RNA
    assert tl.describe_dimensions(corrected)["is_technical"].equals(counts["is_technical"])
    mdata["rna"].X = np.log1p(mdata["rna"].X.toarray())
    tl.describe_dimensions(mdata)
    known = set(mdata.uns[f"{_keys.DIMENSIONS}_covariates"]["covariate"])
    assert "library size of adt" in known
    assert "library size of rna" not in known


def test_backed_data_are_read(mdata, tmp_path):
    whole = tl.dimension_markers(mdata, 1, modality="rna")
    mdata["adt"].X = mdata["adt"].X.toarray()
    mdata.write(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    pd.testing.assert_frame_equal(tl.dimension_markers(backed, 1, modality="rna"), whole)


def test_table_survives_a_file_and_is_outdated_by_new_representations(mdata, tmp_path):
    table = tl.describe_dimensions(mdata, "cell_type")
    assert find_changed(mdata, _keys.DIMENSIONS) == []
    mdata.write(tmp_path / "cells.h5mu")
    read = mudata.read_h5mu(tmp_path / "cells.h5mu")
    pd.testing.assert_frame_equal(read.uns[_keys.DIMENSIONS], table, check_dtype=False)
    assert find_changed(read, _keys.DIMENSIONS) == []
    read.obsm[_keys.specific("rna")] = read.obsm[_keys.specific("rna")] + 1
    assert find_changed(read, _keys.DIMENSIONS) == [Place("obsm", _keys.specific("rna"))]


def test_table_of_labels_is_removed_without_labels(mdata):
    tl.describe_dimensions(mdata, "cell_type")
    table = tl.describe_dimensions(mdata)
    assert f"{_keys.DIMENSIONS}_labels" not in mdata.uns
    assert table["r2_beyond_labels"].isna().all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "joint"}, ValueError, "kind='joint' is not known"),
        ({"threshold": 0}, ValueError, "threshold must be above 0"),
        ({"n_features": 0}, ValueError, "n_features must be at least 1"),
        ({"label_key": "type"}, KeyError, "label_key='type'"),
        ({"covariates": ["depth"]}, KeyError, "covariates='depth'"),
        ({"rna_layer": "counts"}, ValueError, "rna_layer='counts' is not known"),
        ({"cells": "held_out"}, KeyError, "cells='held_out' needs"),
    ],
)
def test_invalid_arguments_change_nothing(mdata, arguments, error, message):
    before = set(mdata.uns)
    with pytest.raises(error, match=message):
        tl.describe_dimensions(mdata, **arguments)
    assert set(mdata.uns) == before


def test_too_few_cells_are_rejected(mdata):
    with pytest.raises(
        ValueError,
        match="10 of the selected cells .* have the specific representations of both modalities; at least 20",
    ):
        tl.describe_dimensions(mdata[:10].copy())


def test_markers_are_features_of_the_factor(mdata):
    table = tl.dimension_markers(mdata, 1, modality="rna")
    assert table["modality"].drop_duplicates().tolist() == ["rna", "adt"]  # its own features first
    assert len(table) == mdata.n_vars
    assert table.attrs["n_cells"] == N // 10
    rna, adt = (table[table["modality"] == name] for name in ("rna", "adt"))
    assert rna["score"].is_monotonic_decreasing
    strongest = rna.loc[rna["p_adjusted"].nsmallest(20).index, "feature"]
    assert strongest.str.startswith("private_rna_0").all()
    assert (adt["p_adjusted"] > 0.05).all()  # independent of the dimension
    assert ((rna["log2_fold_change"] > 0) == (rna["end"] == "upper")).mean() > 0.9
    first = rna.iloc[0]
    assert (first["end"], rna.iloc[-1]["end"]) == ("upper", "lower")
    assert first["fraction_upper"] > first["fraction_lower"]
    by_t = tl.dimension_markers(mdata, 1, modality="rna", share=0.3, method="t-test")
    assert by_t.attrs["n_cells"] == 3 * N // 10
    assert by_t.iloc[0]["feature"].startswith("private_rna_0")


def test_markers_within_labels_ignore_differences_between_types(mdata):
    high = (mdata.obs["cell_type"] == "high").to_numpy()
    mdata.obsm[_keys.specific("rna")][:, 3] += 3 * high  # separates the two types
    apart = tl.dimension_markers(mdata, 3, modality="rna")
    within = tl.dimension_markers(mdata, 3, modality="rna", label_key="cell_type")
    of_types = apart["feature"].str.startswith("shared_0")
    assert (apart.loc[of_types, "p_adjusted"] < 0.01).mean() > 0.5
    assert (within["p_adjusted"] < 0.01).mean() < 0.01
    assert within.attrs["n_cells"] == high.sum() // 10 + (~high).sum() // 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "gex"}, "modality='gex' is not known"),
        ({"dimension": 4}, "dimension=4: the specific representation of 'rna' has the dimensions 0 to 3"),
        ({"dimension": -1}, "dimension must not be negative"),
        ({"share": 0.6}, r"share=0.6 must not exceed .5"),
        ({"share": 0.001}, "leaves 0 at each end; at least 3 are needed. Raise share"),
        ({"method": "logreg"}, "method='logreg' is not known"),
    ],
)
def test_invalid_arguments_of_markers_are_rejected(mdata, arguments, message):
    with pytest.raises(ValueError, match=message):
        tl.dimension_markers(mdata, **{"dimension": 0, "modality": "rna"} | arguments)


@pytest.mark.slow
def test_the_rna_specific_representation_of_the_bundled_data_is_mostly_technical(pbmc_covid):
    half = pbmc_covid[::2].copy()
    IndiSeek.setup_mudata(half, batch_key="batch")
    model = IndiSeek(half)
    model.train(held_out=range(0, 3000, 5), accelerator="cpu", enable_progress_bar=False)
    model.write_latents()
    table = tl.describe_dimensions(half, "cell_type")
    rna = table[table["modality"] == "rna"]
    technical = rna[rna["is_technical"]]
    assert 3 <= len(technical) <= 6
    assert technical["explained_variance"].sum() > 0.5 * rna["explained_variance"].sum()
    named = ", ".join(technical["covariates"])
    assert {"mitochondrial genes", "ribosomal protein genes", "dissociation stress"} <= set(named.split(", "))
    proteins = table[(table["modality"] == "adt") & table["is_technical"]]
    assert proteins["covariates"].str.contains("platelet proteins").all()
    shared = tl.describe_dimensions(half, "cell_type", kind="shared")
    assert not shared["is_technical"].any()
    assert (shared["r2_labels"] > 0.5).all()


def make_panel(genes: list[str], proteins: list[str]) -> MuData:
    """Return three cells with these features."""
    parts = {
        name: AnnData(np.ones((3, len(names)), np.float32), var=pd.DataFrame(index=names))
        for name, names in (("rna", genes), ("adt", proteins))
    }
    return MuData(parts)


def test_sets_match_names_and_patterns():
    inside = {
        "ribosomal protein genes": ["RPL3", "RPL10A", "RPL36AL", "RPLP0", "RPS4Y1", "RPSA", "Rps27a", "RPL7L1"],
        "mitochondrial genes": ["MT-CO1", "mt-Nd2"],
        "haemoglobin genes": ["HBA1", "HBB"],
        "dissociation stress": ["FOS", "JUN", "Hspa1a"],
        "MHC class II": ["HLA-DRB1", "HLA-DQA2", "CD74"],
        "immunoglobulin genes": ["IGHG1", "IGKV3-20", "IGLC2", "JCHAIN"],
        "interferon response": ["ISG15", "IFI44L"],
        "isotype controls": ["IgG1_control"],
        "platelet proteins": ["CD41", "CD62P_TotalSeq"],
    }
    outside = ["RPS6KA1", "RPL23AP42", "MTOR", "MTRNR2L8", "HBEGF", "HBP1", "HLA-A", "IGF1", "IGLON5", "CD410"]
    proteins = inside["isotype controls"] + inside["platelet proteins"] + ["CD62L", "CD4", "CD41BB"]
    genes = [gene for name, names in inside.items() for gene in names if gene not in proteins] + outside
    sets = tl.feature_sets(make_panel(genes, proteins))
    assert sets.columns.tolist() == ["source", "target", "modality", "is_technical", "reference"]
    found = sets.groupby("source")["target"].agg(list).to_dict()
    assert {name: sorted(names) for name, names in found.items()} == {
        name: sorted(names) for name, names in inside.items()
    }


def test_every_set_has_a_reference():
    every = Path(tl.__file__).with_name("feature_sets.toml").read_text()
    assert every.count("\nreference = ") == every.count("\nrole = ") == every.count("\n[") >= 10
    table = tl.feature_sets(make_panel(["MT-CO1", "MCM5", "CDK1"], ["CD41"]))
    assert table["reference"].str.contains(r"\d{4}").all()
    assert table.set_index("source")["is_technical"].to_dict() == {
        "mitochondrial genes": True,
        "cell cycle S": False,
        "cell cycle G2/M": False,
        "platelet proteins": True,
    }
