"""Small data: one feature, more proteins than genes, few cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek

QUICK = {"max_epochs": 1, "enable_progress_bar": False}


def make(n_cells: int, n_genes: int, n_proteins: int) -> MuData:
    """Draw counts from three factors."""
    rng = np.random.default_rng(0)
    factors, parts = rng.normal(size=(n_cells, 3)), {}
    for name, n in (("rna", n_genes), ("adt", n_proteins)):
        rates = np.exp(1 + 0.5 * factors @ rng.normal(size=(3, n))).clip(max=100)
        counts = 1 + rng.poisson(rates).astype(np.float32)
        cells, features = [f"cell{i}" for i in range(n_cells)], [f"{name}{j}" for j in range(n)]
        parts[name] = AnnData(counts, pd.DataFrame(index=cells), pd.DataFrame(index=features))
    return MuData(parts)


LOGS = {"rna_input": "normalized", "adt_input": "normalized"}


@pytest.mark.parametrize(
    ("sizes", "setup"),
    [
        ((300, 50, 2), {}),
        ((300, 50, 1), {"adt_input": "normalized"}),
        ((300, 1, 10), {"rna_input": "normalized", "check_sizes": False}),
        ((300, 1, 1), LOGS),
        ((300, 20, 60), {"check_sizes": False}),
        ((45, 50, 10), {}),
    ],
)
def test_small_data_are_accepted(sizes, setup):
    mdata = make(*sizes)
    IndiSeek.setup_mudata(mdata, **setup)
    model = IndiSeek(mdata)
    model.train(**QUICK)
    model.write_latents()
    latents = {key: mdata.obsm[key] for key in mdata.obsm if key not in mdata.mod}
    assert len(latents) == 5
    assert all(latent.shape[0] == sizes[0] and np.isfinite(latent).all() for latent in latents.values())
    for source, target in (("rna", "adt"), ("adt", "rna")):
        model.train_prediction(**QUICK)
        assert np.isfinite(model.predict_modality(source, target, units="normalized").mean).all(axis=None)


@pytest.mark.parametrize(
    ("sizes", "setup", "message"),
    [
        (
            (300, 50, 1),
            {},
            r"mdata\['adt'\]: none of its 1 features varies .*cannot be normalised.*adt_input='normalized'",
        ),
        (
            (300, 1, 10),
            {"check_sizes": False},
            r"mdata\['rna'\]: none of its 1 features varies .*rna_input='normalized'",
        ),
        ((300, 20, 60), {}, "seem swapped.*check_sizes=False"),
        ((10, 50, 10), {}, "Too few cells: 8 to train on and 2 to validate on, of 10"),
        ((40, 50, 10), {}, "Too few cells: 30 to train on .*or change train_size"),
    ],
)
def test_too_small_data_are_rejected(sizes, setup, message):
    mdata = make(*sizes)
    with pytest.raises(ValueError, match=message):
        IndiSeek.setup_mudata(mdata, **setup)
        IndiSeek(mdata).train(**QUICK)


def test_few_cells_train_with_a_larger_train_size():
    mdata = make(40, 50, 10)
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    model.train(train_size=0.9, **QUICK)
    assert np.isfinite(model.get_latent_representation()).all()
