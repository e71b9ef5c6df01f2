"""Make ``data/saved_model.zip``, a saved model with the representations of its cells.

Run it by ``python tests/model/make_saved_model.py``. Later versions must load the archive
(``test_saving.py``). Make a new archive only for a new format version, and keep the former one.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek

ARCHIVE = Path(__file__).parent / "data" / "saved_model.zip"
LATENTS = "codes.npz"
"""File with the representations in the archive, by its name in format 1."""

LARGEST = 4_000
"""Largest number of weights of a layer that are kept; larger layers are set to 0 to limit the size
of the archive, before the representations are computed."""


def draw_cells(n_cells: int = 240, n_genes: int = 30, n_proteins: int = 8) -> MuData:
    """Draw counts from two factors of both modalities and one factor of each."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((n_cells, 2))
    parts = {}
    for name, n in (("rna", n_genes), ("adt", n_proteins)):
        factors = np.column_stack([shared, rng.standard_normal(n_cells)])
        rates = np.exp(1.0 + 0.6 * factors @ rng.standard_normal((3, n)))
        counts = rng.poisson(rates.clip(max=200)).astype(np.float32)
        parts[name] = AnnData(sp.csr_matrix(counts))
        parts[name].obs_names = [f"cell{i}" for i in range(n_cells)]
        parts[name].var_names = [f"{name}{i}" for i in range(n)]
    mdata = MuData(parts)
    mdata.obs["donor"] = np.where(np.arange(n_cells) % 2, "a", "b")
    return mdata


def latents_of(model: IndiSeek, mdata: MuData) -> dict[str, np.ndarray]:
    """Return all representations of the cells and their reconstructions."""
    latents = {"joint": model.get_latent_representation(mdata)}
    for name in ("rna", "adt"):
        for kind in ("shared", "specific"):
            latents[f"{kind}_{name}"] = model.get_latent_representation(mdata, kind=kind, modality=name)
        latents[f"decoded_{name}"] = model.get_reconstruction(mdata, modality=name)
    return latents


def make() -> None:
    """Train and save a model, together with its representations."""
    mdata = draw_cells()
    IndiSeek.setup_mudata(mdata, batch_key="donor")
    model = IndiSeek(mdata, n_shared=3, n_specific=3, n_hidden=8, n_layers=1, n_components=5)
    model.train(4, held_out=np.arange(40), enable_progress_bar=False)
    for weights in model.module.parameters():
        if weights.numel() > LARGEST:
            weights.data.zero_()
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, overwrite=True)
        np.savez_compressed(Path(folder) / LATENTS, **latents_of(model, mdata))
        shutil.make_archive(str(ARCHIVE.with_suffix("")), "zip", folder)


if __name__ == "__main__":
    make()
