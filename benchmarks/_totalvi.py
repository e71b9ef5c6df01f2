"""Train TOTALVI (Gayoso et al. 2021, Nature Methods 18, 272) on the features of our model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
import torch
from anndata import AnnData
from main_job import read_proteins
from scipy.sparse import csr_matrix
from scvi.model import TOTALVI

from indiseek_sc.data import apply_transform

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc import IndiSeek

N_SAMPLES = 25
"""Number of draws of the latent representation over which a prediction is averaged."""


def as_cells(mdata: MuData, model: IndiSeek, batch: np.ndarray | None = None) -> AnnData:
    """Return an AnnData with the genes and proteins that a model uses, and batches."""
    genes = model.module.transforms["rna"].features.cpu().numpy()
    proteins = read_proteins(mdata, model).to_df()
    batch = np.full(mdata.n_obs, "all") if batch is None else batch
    return AnnData(
        csr_matrix(mdata["rna"].X)[:, genes].astype(np.float32),
        obs=pd.DataFrame({"batch": pd.Categorical(batch)}, index=proteins.index),
        obsm={"proteins": proteins},
    )


def build(cells: AnnData, seed: int) -> TOTALVI:
    """Return an untrained TOTALVI model with default settings."""
    scvi.settings.seed = seed
    torch.set_flush_denormal(True)  # otherwise training on few cells can take many times as long
    TOTALVI.setup_anndata(cells, protein_expression_obsm_key="proteins", batch_key="batch")
    return TOTALVI(cells)


def fit(cells: AnnData, seed: int, epochs: int | None = None) -> TOTALVI:
    """Return a trained TOTALVI model, by default with its own number of epochs."""
    model = build(cells, seed)
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False)
    return model


def predict_proteins(mdata: MuData, model: IndiSeek, test: np.ndarray, seed: int) -> np.ndarray:
    """Train TOTALVI without the proteins of the test cells, and predict these as our features.

    Unlike all other methods here, TOTALVI uses the RNA of the test cells in training. It imputes
    counts, background included, in the batch of the cells with proteins; our transform of measured
    counts is then applied to them.
    """
    is_test = np.isin(np.arange(mdata.n_obs), test)
    cells = as_cells(mdata, model, np.where(is_test, "without proteins", "with proteins"))
    cells.obsm["proteins"].loc[is_test] = 0  # TOTALVI treats proteins as missing in a batch in which all are 0
    _, counts = fit(cells, seed).get_normalized_expression(
        indices=test,
        transform_batch="with proteins",
        n_samples=N_SAMPLES,
        include_protein_background=True,
        return_numpy=True,
    )
    return apply_transform(model.module.transforms["adt"], counts.astype(np.float32)).cpu().numpy()
