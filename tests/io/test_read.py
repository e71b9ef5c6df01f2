from __future__ import annotations

import gzip
import re
import subprocess
import sys
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from mudata import MuData

import indiseek_sc as isk
from indiseek_sc import IndiSeek

GENES = ["CD4", "ACTB", "TBCE", "TBCE", "CD19", "GAPDH"]
ANTIBODIES = ["CD4", "CD19", "IgG1_control"]
TYPES = ["Gene Expression"] * len(GENES) + ["Antibody Capture"] * len(ANTIBODIES)
CELLS = [f"cell{i}" for i in range(7)]
COUNTS = np.random.default_rng(0).poisson(3.0, size=(len(CELLS), len(TYPES))).astype(np.float32) + 1


@pytest.fixture(autouse=True)
def _no_noise() -> None:
    """Ignore warnings of other packages about repeated names."""
    warnings.filterwarnings("ignore", message="Variable names are not unique")


def write_folder(folder: Path, *, packed: bool, types: bool = True) -> Path:
    """Write a folder as Cell Ranger or `DropletUtils::write10xCounts` in R does."""
    folder.mkdir()
    columns = [f"ENS{i}" for i in range(len(TYPES))], GENES + ANTIBODIES, *([TYPES] if types else [])
    features = "".join("\t".join(row) + "\n" for row in zip(*columns, strict=True))
    (folder / ("features.tsv" if types else "genes.tsv")).write_text(features)
    (folder / "barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    scipy.io.mmwrite(folder / "matrix.mtx", sp.csc_matrix(COUNTS.T.astype(int)))
    for file in list(folder.iterdir()) if packed else []:
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return folder


def write_10x(path: Path) -> Path:
    matrix = sp.csr_matrix(COUNTS)  # equals features by cells in compressed columns
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name, values in (("data", matrix.data.astype(int)), ("indices", matrix.indices), ("indptr", matrix.indptr)):
            group[name] = values
        group["shape"] = [len(TYPES), len(CELLS)]
        group["barcodes"] = np.array(CELLS, "S")
        texts = {
            "id": [f"ENS{i}" for i in range(9)],
            "name": GENES + ANTIBODIES,
            "feature_type": TYPES,
            "genome": ["hg"] * 9,
        }
        for name, text in texts.items():
            group[f"features/{name}"] = np.array(text, "S")
    return path


def make_adata(*, in_obsm: bool) -> ad.AnnData:
    obs = pd.DataFrame({"donor": list("aabbabb")}, index=CELLS)
    if not in_obsm:
        return ad.AnnData(COUNTS.copy(), obs, pd.DataFrame({"feature_types": TYPES}, index=GENES + ANTIBODIES))
    adata = ad.AnnData(COUNTS[:, :6].copy(), obs, pd.DataFrame(index=GENES))
    adata.obsm["protein_expression"] = pd.DataFrame(COUNTS[:, 6:], index=CELLS, columns=ANTIBODIES)
    adata.obsm["X_protein_umap"] = np.zeros((7, 2))
    return adata


FORMS = {
    "10x h5": lambda folder: write_10x(folder / "cells.h5"),
    "folder": lambda folder: write_folder(folder / "cells", packed=False),
    "packed folder": lambda folder: write_folder(folder / "cells", packed=True),
    "h5ad, obsm": lambda folder: _write(make_adata(in_obsm=True), folder / "cells.h5ad"),
    "h5ad, types": lambda folder: _write(make_adata(in_obsm=False), folder / "cells.h5ad"),
    "zarr, obsm": lambda folder: _write(make_adata(in_obsm=True), folder / "cells.zarr"),
}


def _write(data: ad.AnnData | MuData, path: Path) -> Path:
    getattr(data, f"write_{path.suffix[1:]}")(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_all_formats_give_the_same_modalities(form: str, tmp_path: Path):
    with pytest.warns(UserWarning, match="rna: 1 names occur more than once, such as 'TBCE'"):
        mdata = isk.read(FORMS[form](tmp_path))
    assert list(mdata.mod) == ["rna", "adt"]
    np.testing.assert_array_equal(_dense(mdata["rna"].X), COUNTS[:, :6])
    np.testing.assert_array_equal(_dense(mdata["adt"].X), COUNTS[:, 6:])
    assert list(mdata["adt"].var_names) == ANTIBODIES  # two are also names of genes
    assert list(mdata["rna"].var_names) == ["CD4", "ACTB", "TBCE", "TBCE-1", "CD19", "GAPDH"]
    assert list(mdata["rna"].var["name_in_file"]) == GENES
    assert list(mdata.obs_names) == CELLS
    if form not in ("10x h5", "folder", "packed folder"):
        assert list(mdata["rna"].obs["donor"]) == list("aabbabb")
    IndiSeek.setup_mudata(mdata)


def test_cell_ranger_file_is_read_as_by_muon(tmp_path: Path):
    """The counts are equal, and a model finds the modalities under the names that muon gives them."""
    muon = pytest.importorskip("muon", reason="muon (extra 'test') is not installed")
    path = write_10x(tmp_path / "cells.h5")
    theirs, ours = muon.read_10x_h5(path), isk.read(path)
    assert list(theirs.mod) == ["rna", "prot"]
    for mine, name in (("rna", "rna"), ("adt", "prot")):
        np.testing.assert_array_equal(_dense(ours[mine].X), _dense(theirs[name].X))
        assert list(ours[mine].obs_names) == list(theirs[name].obs_names)
    theirs.var_names_make_unique()
    IndiSeek.setup_mudata(theirs)


def _dense(values):
    return values.toarray() if sp.issparse(values) else np.asarray(values)


@pytest.mark.parametrize("ending", [".h5mu", ".zarr"])
def test_a_mudata_is_returned_unchanged(ending: str, tmp_path: Path):
    mdata = MuData({"GEX": ad.AnnData(COUNTS[:, :6]), "prot": ad.AnnData(COUNTS[:, 6:])})
    mdata["prot"].var_names = [f"p{i}" for i in range(3)]
    read = isk.read(_write(mdata, tmp_path / f"cells{ending}"))
    assert list(read.mod) == ["GEX", "prot"]
    IndiSeek.setup_mudata(read)


def test_other_feature_types_become_separate_modalities(tmp_path: Path):
    adata = make_adata(in_obsm=False)
    adata.var["feature_types"] = [*TYPES[:-1], "Multiplexing Capture"]
    with pytest.warns(UserWarning, match="more than once"):
        mdata = isk.read(_write(adata, tmp_path / "cells.h5ad"))
    assert {name: mod.n_vars for name, mod in mdata.mod.items()} == {"rna": 6, "adt": 2, "hto": 1}


def test_names_of_proteins_in_an_array_come_from_uns_or_are_numbered(tmp_path: Path):
    adata = make_adata(in_obsm=True)
    adata.var_names_make_unique()
    adata.obsm["protein_expression"] = sp.csr_matrix(adata.obsm["protein_expression"].to_numpy())
    with pytest.warns(UserWarning, match="no names of proteins"):
        mdata = isk.read(_write(adata, tmp_path / "cells.h5ad"))
    assert list(mdata["adt"].var_names) == ["protein_0", "protein_1", "protein_2"]
    adata.uns["protein_names"] = np.array(ANTIBODIES)
    assert list(isk.read(_write(adata, tmp_path / "named.h5ad"))["adt"].var_names) == ANTIBODIES


def without_proteins(adata: ad.AnnData) -> ad.AnnData:
    del adata.obsm["protein_expression"]
    return adata


def with_two_candidates(adata: ad.AnnData) -> ad.AnnData:
    adata.obsm["adt_clr"] = adata.obsm["protein_expression"].to_numpy()
    return adata


def with_peaks(adata: ad.AnnData) -> ad.AnnData:
    adata = without_proteins(adata)
    adata.var["feature_types"] = ["Gene Expression"] * 3 + ["Peaks"] * 3
    return adata


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (without_proteins, ["no proteins were found", "obsm: 'X_protein_umap'", "adt='NAME'"]),
        (with_two_candidates, ["several entries of obsm", "'protein_expression'", "'adt_clr'", "adt='NAME'"]),
        (with_peaks, ["accessible chromatin and RNA", "no proteins"]),
    ],
)
def test_missing_or_ambiguous_proteins_are_reported_with_candidates(change, parts, tmp_path: Path):
    path = _write(change(make_adata(in_obsm=True)), tmp_path / "cells.h5ad")
    with pytest.raises(ValueError) as caught:
        isk.read(path)
    assert [words for words in [str(path), *parts] if words not in str(caught.value)] == []


def test_candidates_are_selected_by_name(tmp_path: Path):
    path = _write(with_two_candidates(make_adata(in_obsm=True)), tmp_path / "cells.h5ad")
    with pytest.warns(UserWarning):
        assert list(isk.read(path, adt="protein_expression")["adt"].var_names) == ANTIBODIES
    with pytest.raises(
        ValueError, match=r"adt='adt_cls' is not a feature type or an entry of obsm.*Did you mean 'adt_clr'"
    ):
        isk.read(path, adt="adt_cls")
    both = _write(MuData({"x": ad.AnnData(COUNTS[:, :6]), "y": ad.AnnData(COUNTS[:, 6:])}), tmp_path / "cells.h5mu")
    with pytest.raises(ValueError, match=r"no modality of RNA among 'x', 'y'.*rna='NAME'"):
        isk.read(both)
    with pytest.raises(ValueError, match="adt='z' is not a modality of this file"):
        isk.read(both, rna="x", adt="z")
    assert list(isk.read(both, rna="x", adt="y").mod) == ["x", "y"]


def test_older_folders_without_feature_types_are_rejected(tmp_path: Path):
    with pytest.raises(ValueError, match="no proteins were found"):
        isk.read(write_folder(tmp_path / "cells", packed=False, types=False))


def test_import_does_not_load_heavy_packages():
    code = "import sys, indiseek_sc; indiseek_sc.read; sys.exit(', '.join({'torch', 'scvi', 'scanpy'} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def real(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        pytest.skip(f"shared/data/{name} is not available")
    return path


@pytest.mark.filterwarnings("ignore:rna. 10 names occur more than once")
def test_real_cell_ranger_file(shared_data: Path):
    mdata = isk.read(real(shared_data, "pbmc1k_citeseq_10x.h5"))
    assert {name: mod.shape for name, mod in mdata.mod.items()} == {"rna": (892, 36_601), "adt": (892, 10)}
    for name in ("CD4", "CD14", "CD19"):
        assert name in mdata["rna"].var_names
        assert name in mdata["adt"].var_names
    assert (mdata["rna"].var.loc["TBCE-1", ["name_in_file"]] == "TBCE").all()


def test_real_file_with_proteins_in_obsm(shared_data: Path):
    mdata = isk.read(real(shared_data, "eccite500_proteins_in_obsm.h5ad"))
    assert {name: mod.shape for name, mod in mdata.mod.items()} == {"rna": (500, 19_521), "adt": (500, 49)}
    assert "HLA-A,B,C" in mdata["adt"].var_names
    assert list(mdata["rna"].obsm) == ["hto"]


def test_files_of_all_mudata_versions(shared_data: Path):
    files = sorted(real(shared_data, "mudata_archives").iterdir())
    assert len(files) == 14
    for file in files:
        mdata = isk.read(file, rna="mod1", adt="mod2")
        assert {name: mod.shape for name, mod in mdata.mod.items()} == {"mod1": (100, 20), "mod2": (100, 30)}


def test_chromatin_is_not_recognised_as_proteins(shared_data: Path):
    with pytest.raises(ValueError, match="'atac': accessible chromatin, not proteins"):
        isk.read(real(shared_data, "neurips_bmmc_multiome_500.h5mu"))


def test_documented_import_from_seurat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the Python code of docs/reading.md on a folder of `DropletUtils::write10xCounts`."""
    text = (Path(__file__).parents[2] / "docs" / "reading.md").read_text()
    (recipe,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    write_folder(tmp_path / "cells", packed=True)
    pd.DataFrame({"nCount_RNA": range(7), "type": list("aabbccd")}, index=CELLS).to_csv(tmp_path / "cells.csv")
    monkeypatch.chdir(tmp_path)
    names = {"indiseek_sc": isk, "pandas": pd}
    with pytest.warns(UserWarning, match="more than once"):
        exec(recipe, names)
    mdata = names["mdata"]
    assert list(mdata["rna"].obs["type"]) == list("aabbccd")
    IndiSeek.setup_mudata(mdata, batch_key="type")
