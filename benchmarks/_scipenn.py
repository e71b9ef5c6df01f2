"""Predict proteins by sciPENN (Lakkis et al. 2022, Nature Machine Intelligence 4, 940)."""

from __future__ import annotations

from contextlib import chdir
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
from anndata import AnnData

from indiseek_sc.data import read_normalized

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc import IndiSeek


def predict_proteins(mdata: MuData, model: IndiSeek, test: np.ndarray, seed: int) -> np.ndarray:
    """Train sciPENN on log-normalised values of the same genes, and predict proteins of test cells.

    It is trained on our protein features instead of its own (standardised logarithms), so that
    errors are in the same units, and on our highly variable genes. It uses a tenth of the training
    cells for its own validation.
    """
    from sciPENN.sciPENN_API import sciPENN_API

    train = np.setdiff1d(np.arange(mdata.n_obs), test)
    genes = read_normalized(model.module.transforms["rna"], mdata["rna"].X).cpu().numpy()
    proteins = model.get_features(modality="adt")
    center, spread = proteins[train].mean(axis=0), proteins[train].std(axis=0, ddof=1)

    def cells(values: np.ndarray, rows: np.ndarray, prefix: str) -> AnnData:
        names = [f"{prefix}{k:05d}" for k in range(values.shape[1])]
        return AnnData(values[rows], obs=pd.DataFrame(index=mdata.obs_names[rows]), var=pd.DataFrame(index=names))

    scvi.settings.seed = seed
    program = sciPENN_API(
        [cells(genes, train, "gene")],
        [cells(proteins, train, "protein")],
        cells(genes, test, "gene"),
        select_hvg=False,
        cell_normalize=False,
        log_normalize=False,
        min_cells=0,
        min_genes=0,
        use_gpu=False,
    )
    with TemporaryDirectory() as folder, chdir(folder):
        program.train(weights_dir="weights")  # an absolute path causes an endless loop in sciPENN
    predicted = program.predict()
    assert list(predicted.obs_names) == list(mdata.obs_names[test])
    return np.asarray(predicted.X) * spread + center
