"""A saved model, the model beside its cells, and cells with representations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mudata import MuData

from indiseek_sc import IndiSeek, _keys

from ..model.make_saved_model import ARCHIVE, draw_cells


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved model, trained on 240 cells from donors a and b."""
    path = tmp_path_factory.mktemp("saved") / "model"
    shutil.unpack_archive(ARCHIVE, path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> IndiSeek:
    """The saved model with its cells, to which the representations were written."""
    mdata = draw_cells()
    IndiSeek.setup_mudata(mdata, batch_key="donor")
    mdata.obs["cell_type"] = pd.Categorical(np.array(["B", "CD4 T", "CD8 T", "NK"])[np.arange(240) % 4])
    model = IndiSeek.load(folder, mdata, accelerator="cpu")
    model.write_latents()
    return model


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def encoded(model: IndiSeek) -> MuData:
    """The cells of the model, with representations, a UMAP and principal components."""
    mdata = model.adata.copy()
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2].copy()
    for adata in mdata.mod.values():
        adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(240, 4))
    return mdata
