"""Fit MOFA+ (Argelaguet et al. 2020, Genome Biology 21, 111) to the features of our model."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import numpy as np
from main_job import read_proteins
from mofapy2.run.entry_point import entry_point
from scipy.sparse import csr_matrix

from indiseek_sc.data import apply_transform

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc import IndiSeek

N_FACTORS = 15


def as_views(mdata: MuData, model: IndiSeek) -> list[np.ndarray]:
    """Return log-normalised genes and log-ratios of proteins, of those that a model uses."""
    genes = model.module.transforms["rna"].features.cpu().numpy()
    counts = csr_matrix(mdata["rna"].X)[:, genes].toarray().astype(np.float64)
    rna = np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    proteins = csr_matrix(read_proteins(mdata, model).X).toarray().astype(np.float32)
    return [rna, apply_transform(model.module.transforms["adt"], proteins).cpu().numpy().astype(np.float64)]


def fit(views: list[np.ndarray], seed: int = 0, n_factors: int = N_FACTORS) -> np.ndarray:
    """Return factors, shape ``(n_cells, n_factors)``, by the fast mode with scaled views."""
    with redirect_stdout(io.StringIO()):
        mofa = entry_point()
        mofa.set_data_options(scale_views=True)
        mofa.set_data_matrix([[view] for view in views], likelihoods=["gaussian"] * len(views))
        mofa.set_model_options(factors=n_factors)
        mofa.set_train_options(convergence_mode="fast", seed=seed, quiet=True, verbose=False)
        mofa.build()
        mofa.run()
        return np.asarray(mofa.model.nodes["Z"].getExpectation())
