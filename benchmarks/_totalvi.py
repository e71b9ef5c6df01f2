"""Proteins of cells that lack them, as TOTALVI (Gayoso et al. 2021, Nature Methods 18, 272) imputes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
from anndata import AnnData
from main_job import read_proteins
from scipy.sparse import csr_matrix
from scvi.model import TOTALVI

from indiseek_sc.data import apply_transform

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc import IndiSeek

N_SAMPLES = 25
"""Draws of the latent code that a prediction is the mean of."""


def predict_proteins(mdata: MuData, model: IndiSeek, test: np.ndarray, seed: int) -> np.ndarray:
    """Train TOTALVI with its defaults on counts of the same genes, proteins of the test cells missing, and return these as our features.

    TOTALVI sees the RNA of the test cells while it trains, which no other method here does. It imputes counts, background included, in the batch
    of the cells that have proteins; they go through the model's own transform of measured counts.
    """
    genes = model.module.transforms["rna"].features.cpu().numpy()
    is_test = np.isin(np.arange(mdata.n_obs), test)
    proteins = read_proteins(mdata, model).to_df()
    proteins.loc[is_test] = 0  # a batch of zeros alone is how TOTALVI is told that they are missing
    part = pd.Categorical(np.where(is_test, "without proteins", "with proteins"))
    cells = AnnData(
        csr_matrix(mdata["rna"].X)[:, genes].astype(np.float32),
        obs=pd.DataFrame({"part": part}, index=mdata["rna"].obs_names),
        obsm={"proteins": proteins},
    )
    scvi.settings.seed = seed
    TOTALVI.setup_anndata(cells, protein_expression_obsm_key="proteins", batch_key="part")
    imputer = TOTALVI(cells)
    imputer.train(enable_progress_bar=False, accelerator="cpu")
    _, counts = imputer.get_normalized_expression(
        indices=test,
        transform_batch="with proteins",
        n_samples=N_SAMPLES,
        include_protein_background=True,
        return_numpy=True,
    )
    return apply_transform(model.module.transforms["adt"], counts.astype(np.float32)).cpu().numpy()
