"""A MuData as a model and ``tl`` leave it, and a clean pyplot after each test."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import _keys

CODE_KEYS = (
    _keys.JOINT,
    *(kind(modality) for kind in (_keys.shared, _keys.specific) for modality in ("rna", "adt")),
)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def importance_table() -> pd.DataFrame:
    """Four labels, not in order: one that is undecided, one that is unreliable, one of a single cell."""
    return pd.DataFrame(
        {
            "label": ["NK", "B_Naive", "pDC", "Platelet"],
            "n_cells": [1_315, 220, 6, 1],
            "theta": [-0.02, 0.36, 1.75, -1.2],
            "lower": [-0.14, 0.22, 1.4, np.nan],
            "upper": [0.11, 0.51, 1.95, np.nan],
            "rank": [3, 2, 1, 4],
            "purity_rna": [0.13, 0.23, 0.25, 0.0],
            "purity_adt": [0.13, 0.16, 0.0, 0.1],
            "reliable": [True, True, False, False],
        }
    )


@pytest.fixture
def embedded(pbmc_small: MuData, importance_table: pd.DataFrame) -> MuData:
    """600 real cells with an embedding of each code (noise around a place for each cell type), theta and its table."""
    rng = np.random.default_rng(0)
    types = pbmc_small.obs["cell_type"].cat.codes.to_numpy()
    for key in CODE_KEYS:
        places = rng.normal(scale=5, size=(types.max() + 1, 2))
        embedding = places[types] + rng.normal(size=(len(types), 2))
        pbmc_small.obsm["X_umap" if key == _keys.JOINT else f"{key}_umap"] = embedding
    pbmc_small.obs[_keys.THETA] = rng.normal(size=len(types))
    pbmc_small.uns[_keys.SETTINGS] = {"modalities": {"rna": "rna", "adt": "adt"}, "version": "0", "settings": {}}
    pbmc_small.uns[_keys.IMPORTANCE] = importance_table
    pbmc_small.uns[f"{_keys.IMPORTANCE}_params"] = {
        "label_key": "cell_type",
        "modalities": {"rna": "rna", "adt": "adt"},
        "confidence": 0.95,
        "minimum_cells": 15,
    }
    return pbmc_small


@pytest.fixture
def recorded() -> dict[str, pd.DataFrame]:
    """The history of a training in three stages, one of which knows its best epoch."""
    n_epochs = {"shared": 8, "specific_rna": 5, "specific_adt": 5}
    names = {
        "shared": [
            "train_loss",
            "validation_loss",
            "validation_info_nce",
            "validation_correlation",
            "validation_prediction",
        ],
        "specific_rna": ["bound", "gaussian_bound", "nce_bound", "critic_loss", "reconstruction"],
        "specific_adt": ["bound", "gaussian_bound", "nce_bound", "critic_loss", "reconstruction"],
    }
    rng = np.random.default_rng(0)
    history = {
        f"{stage}/{name}": pd.DataFrame({name: rng.normal(size=n)}, index=pd.RangeIndex(n, name="epoch"))
        for stage, n in n_epochs.items()
        for name in names[stage]
    }
    return history | {"shared/best_epoch": pd.DataFrame({"best_epoch": [6]})}


@pytest.fixture
def audit_table() -> pd.DataFrame:
    """Figures of two modalities, gain of the second not defined."""
    figures = {
        "agreement": [0.80, 0.90],
        "agreement_flat": [0.91, 0.88],
        "sufficiency": [1.03, 0.975],
        "gain": [0.96, np.nan],
        "complete": [0.985, 0.99],
        "leak_ratio": [0.018, 0.046],
    }
    return pd.DataFrame(figures, index=["rna", "adt"])


@pytest.fixture
def lambda_path() -> SimpleNamespace:
    """Three lambdas of two modalities, the middle one chosen."""
    table = pd.DataFrame(
        {
            "lambda": np.repeat([1000.0, 100.0, 10.0], 2),
            "modality": ["rna", "adt"] * 3,
            "leak_ratio": [0.03, 0.08, 0.012, 0.018, 0.0, 0.001],
            "leak_ratio_se": [0.004, 0.006, 0.003, 0.003, 0.001, 0.001],
            "gain": [1.0, 0.99, 0.98, 0.95, 0.8, 0.6],
        }
    )
    return SimpleNamespace(table=table, chosen=100.0, tolerance=0.02)


@pytest.fixture
def coordinate_table() -> pd.DataFrame:
    """Importance of four coordinates, not in order."""
    table = pd.DataFrame({"coordinate": [f"rna_{j}" for j in range(4)], "importance": [0.1, 0.9, 0.3, 0.5]})
    table["standard_error"] = [0.01, 0.02, 0.04, 0.05]
    return table.assign(method="jacobian", kind="specific", modality="rna")


@pytest.fixture
def attribution_table() -> pd.DataFrame:
    """Slopes of 12 genes along 3 dimensions, of all cells; genes 0 to 3 go with dimension 0, the next with 1, the rest with 2."""
    index = pd.MultiIndex.from_product([range(3), [f"G{j}" for j in range(12)]], names=["dimension", "feature"])
    table = index.to_frame(index=False)
    number = table["feature"].str.removeprefix("G").astype(int)
    # Larger from gene to gene, up and down in turn; 0.01 in the other dimensions.
    size = (1 + number) / 10 * np.where(number % 2 == 0, 1, -1)
    table["attribution"] = np.where(number // 4 == table["dimension"], size, 0.01)
    table["magnitude"] = table["attribution"].abs() * 1.1
    table = table.assign(modality="rna", kind="specific", method="decoder_jacobian", group="all", n_cells=1234)
    for column in ("modality", "kind", "method", "group", "feature"):
        table[column] = pd.Categorical(table[column], categories=table[column].unique())
    return table.assign(standard_error=0.01)


@pytest.fixture
def drawable(
    embedded: MuData,
    recorded: dict[str, pd.DataFrame],
    audit_table: pd.DataFrame,
    lambda_path: SimpleNamespace,
    coordinate_table: pd.DataFrame,
    attribution_table: pd.DataFrame,
) -> dict[str, Any]:
    """What each function of ``pl`` draws."""
    return {
        "history": recorded,
        "umap": embedded,
        "importance_ranking": embedded,
        "audit": audit_table,
        "frontier": lambda_path,
        "coordinate_importance": coordinate_table,
        "attribution": attribution_table,
    }
