"""Cells with representations but no model, a small trained model, and reports of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek, _keys
from indiseek_sc.metrics import AuditReport
from indiseek_sc.report import write_report

HOSTILE = "<script>alert('rna')</script>"
HOSTILE_LABEL = '"><img src=x onerror=alert(1)>'


def add_latents(mdata: MuData, rna: str = "rna", adt: str = "adt") -> MuData:
    """Write representations with one cluster per cell type, under the keys that a model uses."""
    rng = np.random.default_rng(0)
    types = mdata.obs["cell_type"].astype("category").cat.codes.to_numpy()
    for key in (_keys.JOINT, *(kind(name) for kind in (_keys.shared, _keys.specific) for name in (rna, adt))):
        mdata.obsm[key] = rng.normal(scale=3, size=(types.max() + 1, 4))[types] + rng.normal(size=(len(types), 4))
        mdata.obsm["X_umap" if key == _keys.JOINT else f"{key}_umap"] = mdata.obsm[key][:, :2]
    mdata.obs[_keys.SPLIT] = pd.Categorical(rng.choice(["train", "validation", "test"], size=len(types)))
    mdata.uns[_keys.SETTINGS] = {
        "modalities": {"rna": rna, "adt": adt},
        "version": "0.0.1",
        "settings": {"lambda": 100.0, "seed": 7, "n_shared": 4},
    }
    return mdata


def make_hostile(pbmc: MuData) -> MuData:
    """Return cells whose names of a modality and a cell type contain HTML and scripts."""
    some = pbmc[::20].copy()
    mdata = MuData({HOSTILE: some["rna"].copy(), "adt": some["adt"].copy()})
    labels = some.obs["cell_type"].astype(str)
    mdata.obs["cell_type"] = labels.replace("NK", HOSTILE_LABEL).to_numpy()
    return add_latents(mdata, rna=HOSTILE)


def make_audit(n_train: int = 200, n_test: int = 100) -> AuditReport:
    """Return an audit in which one figure misses its aim and one is undefined."""
    figures = {"agreement": 0.9, "agreement_flat": 0.95, "sufficiency": 0.99, "leak": 0.01, "leak_max": 0.8}
    figures |= {"leak_ratio": 0.3, "leak_p": 0.001, "r2_shared": 0.5, "r2_both": 0.7, "r2_best": 0.7, "complete": 0.99}
    table = pd.DataFrame(
        [figures | {"gain": 0.97}, figures | {"leak_ratio": 0.01, "gain": np.nan}], index=["rna", "adt"]
    )
    return AuditReport(table, {"foscttm": 0.05, "recall@10": 0.5}, n_train, n_test, n_test)


@pytest.fixture
def with_latents(pbmc_small: MuData) -> MuData:
    return add_latents(pbmc_small)


@pytest.fixture(scope="session")
def page_of_file(_pbmc_covid_once: MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of a MuData without a model."""
    path = tmp_path_factory.mktemp("file") / "report.html"
    mdata = add_latents(_pbmc_covid_once[::10].copy())
    write_report(path, mdata, label_key="cell_type", audit=make_audit(), source="600 cells")
    return path


@pytest.fixture(scope="session")
def hostile_page(_pbmc_covid_once: MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    write_report(path, make_hostile(_pbmc_covid_once), label_key="cell_type", source=f"cells{HOSTILE}")
    return path


@pytest.fixture(scope="session")
def trained(_pbmc_covid_once: MuData) -> IndiSeek:
    """Model trained for one epoch, with representations and a UMAP of the joint one."""
    mdata = _pbmc_covid_once[::10].copy()
    IndiSeek.setup_mudata(mdata, batch_key="batch")
    model = IndiSeek(mdata)
    model.train(1, held_out=range(0, 600, 5), accelerator="cpu", enable_progress_bar=False)
    model.train_prediction(1, accelerator="cpu", enable_progress_bar=False)
    model.write_latents()
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2]
    return model


@pytest.fixture(scope="session")
def page_of_model(trained: IndiSeek, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "report.html"
    trained.report(path, label_key="cell_type", audit=make_audit(480, 120), source="600 cells")
    return path
