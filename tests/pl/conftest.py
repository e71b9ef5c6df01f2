"""Data with results of a model and of ``tl``; figures are closed after each test."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import _keys, metrics

RANKED_LABELS = ["CD4 naive", "CD4 memory", "NK", "B", "few"]

LATENT_KEYS = (
    _keys.JOINT,
    *(kind(modality) for kind in (_keys.shared, _keys.specific) for modality in ("rna", "adt")),
)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def importance_table() -> pd.DataFrame:
    """Four unsorted labels: one undecided, one unreliable, and one with a single cell."""
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
    """600 real cells with theta, its table, and embeddings that have one cluster per cell type."""
    rng = np.random.default_rng(0)
    types = pbmc_small.obs["cell_type"].cat.codes.to_numpy()
    for key in LATENT_KEYS:
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
def compared(embedded: MuData) -> MuData:
    """Comparison of three representations and labels.

    One of three clusters is split in a single representation; the specific representation has no
    clusters.
    """
    latents = ["shared_rna", "specific_adt", "joint"]
    embedded.uns[_keys.CLUSTERS] = pd.DataFrame(
        [
            ("shared_rna", "shared_rna", 0.9, 0.95, 600),
            ("shared_rna", "specific_adt", 0.01, 0.03, 600),
            ("shared_rna", "joint", 0.5, 0.7, 600),
            ("shared_rna", "labels", 0.45, 0.65, 600),
            ("specific_adt", "specific_adt", 0.25, 0.4, 600),
            ("specific_adt", "joint", 0.0, 0.02, 600),
            ("specific_adt", "labels", 0.02, 0.04, 600),
            ("joint", "joint", 0.97, 0.98, 600),
            ("joint", "labels", 0.62, 0.8, 600),
        ],
        columns=["one", "other", "ari", "nmi", "n_cells"],
    )
    embedded.uns[f"{_keys.CLUSTERS}_latents"] = pd.DataFrame(
        {
            "latent": latents,
            "kind": ["shared", "specific", "joint"],
            "modality": ["rna", "adt", ""],
            "resolution": [0.5, 1.0, 0.3],
            "n_clusters": [3, 3, 3],
        }
    )
    splits = pd.DataFrame(
        {
            "cluster": np.repeat(["0", "1", "2"], 2),
            "n_cells": np.repeat([1_300, 250, 200], 2),
            "latent": latents[:2] * 3,
            "largest_share": [0.5, 0.1, 1.0, 0.1, 0.99, 0.12],
            "effective_clusters": [2.04, 15.0, 1.0, 14.0, 1.1, 13.0],
            "stability": [0.9, 0.25, 1.0, 0.2, 0.9, 0.3],
            "verdict": ["split", "unstable", "kept", "unstable", "kept", "unstable"],
            "only_here": [True, False, False, False, False, False],
            "label": np.repeat(["NK", "B_Naive", "NK"], 2),
            "label_share": np.repeat([0.97, 1.0, 0.4], 2),
        }
    )
    embedded.uns[f"{_keys.CLUSTERS}_splits"] = splits
    embedded.uns[f"{_keys.CLUSTERS}_params"] = {"label_key": "cell_type", "reference": "joint"}
    return embedded


@pytest.fixture
def recorded() -> dict[str, pd.DataFrame]:
    """Training history of three stages, one of which records its best epoch."""
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
    """Audit figures of two modalities; the gain of the second is undefined."""
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
    """Three values of lambda for two modalities; the middle one was chosen."""
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
def feature_table() -> pd.DataFrame:
    """Importance of four unsorted features."""
    table = pd.DataFrame({"feature": [f"rna_{j}" for j in range(4)], "importance": [0.1, 0.9, 0.3, 0.5]})
    table["standard_error"] = [0.01, 0.02, 0.04, 0.05]
    return table.assign(method="jacobian", kind="specific", modality="rna")


@pytest.fixture
def attribution_table() -> pd.DataFrame:
    """Attributions of 12 genes to 3 dimensions, four genes for each dimension."""
    index = pd.MultiIndex.from_product([range(3), [f"G{j}" for j in range(12)]], names=["dimension", "feature"])
    table = index.to_frame(index=False)
    number = table["feature"].str.removeprefix("G").astype(int)
    # Sizes increase from gene to gene with alternating signs, and are 0.01 in the other dimensions.
    size = (1 + number) / 10 * np.where(number % 2 == 0, 1, -1)
    table["attribution"] = np.where(number // 4 == table["dimension"], size, 0.01)
    table["magnitude"] = table["attribution"].abs() * 1.1
    table = table.assign(modality="rna", kind="specific", method="decoder_jacobian", group="all", n_cells=1234)
    for column in ("modality", "kind", "method", "group", "feature"):
        table[column] = pd.Categorical(table[column], categories=table[column].unique())
    return table.assign(standard_error=0.01)


@pytest.fixture
def recalls() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(200, 4))
    recalls = metrics.retrieval(latent, latent + rng.normal(size=latent.shape), ks=(1, 10, 100))
    return recalls.assign(direction=["rna to adt", "adt to rna"])


@pytest.fixture
def predicted() -> metrics.PredictionReport:
    rng = np.random.default_rng(0)
    names = {"index": [f"cell_{i}" for i in range(300)], "columns": [f"CD{j}" for j in range(20)]}
    measured = pd.DataFrame(rng.normal(size=(300, 20)), **names)
    mean = measured + rng.normal(size=measured.shape) * np.linspace(0.2, 3, 20)
    return metrics.evaluate_prediction(measured, mean, mean - 1, mean + 1, level=0.9)


@pytest.fixture
def ranked(embedded: MuData) -> MuData:
    rows = []
    for latent in ("shared", "specific"):
        for statistic in ("spearman", "kendall"):
            rows.append(
                {
                    "latent": latent,
                    "statistic": statistic,
                    "estimate": 0.4,
                    "jackknife_lower": -0.2,
                    "jackknife_upper": 0.9,
                    "n_labels": 4,
                    "leak_ratio_rna": 0.01 if latent == "specific" else np.nan,
                    "leak_ratio_adt": 0.2 if latent == "specific" else np.nan,
                }
            )
    embedded.uns[_keys.RANK_CORRELATION] = pd.DataFrame(rows)
    embedded.uns[f"{_keys.RANK_CORRELATION}_labels"] = pd.DataFrame(
        {
            "label": RANKED_LABELS * 2,
            "theta": [0.1, 0.1, 0.12, 0.5, -1.0] * 2,
            "weight": [0.5, 0.5, 0.51, 0.2, 0.9] * 2,
            "n_cells": [50, 40, 30, 20, 3] * 2,
            "ranked": [True, True, True, True, False] * 2,
            "latent": ["shared"] * 5 + ["specific"] * 5,
        }
    )
    for figure, wide in (("theta", 0.1), ("weight", 0.02)):
        embedded.uns[f"{_keys.RANK_CORRELATION}_labels"][f"{figure}_lower"] = (
            embedded.uns[f"{_keys.RANK_CORRELATION}_labels"][figure] - wide
        )
        embedded.uns[f"{_keys.RANK_CORRELATION}_labels"][f"{figure}_upper"] = (
            embedded.uns[f"{_keys.RANK_CORRELATION}_labels"][figure] + wide
        )
    embedded.uns[f"{_keys.RANK_CORRELATION}_params"] = {"label_key": "type", "confidence": 0.95, "minimum_cells": 15}
    embedded.obs["type"] = pd.Categorical(np.resize(RANKED_LABELS, embedded.n_obs))
    embedded.uns["type_colors"] = [
        "#000000",
        "#ff0000",
        "#00ff00",
        "#0000ff",
        "#ffff00",
    ]  # in the order of the categories
    return embedded


@pytest.fixture
def described(pbmc_small: MuData) -> MuData:
    """Dimensions of RNA, the first of which is technical, and of proteins; a label is rare."""
    places = [("rna", 0), ("rna", 1), ("rna", 2), ("adt", 0)]
    table = pd.DataFrame(places, columns=["modality", "dimension"])
    table = table.assign(is_technical=[True, False, False, False], lower="A, B, C, D", upper="")
    table["upper"] = ["MT-CO1", "JUN, FOS", "CD74", "CD4"]
    names = ["depth", "quality", "batch", "all"]
    explained = pd.DataFrame([(*place, name) for place in places for name in names])
    explained.columns = ["modality", "dimension", "covariate"]
    explained["r2"] = [0.3, 0.2, 0.01, 0.7, 0.0, 0.04, 0.0, 0.04, *[-0.01] * 8]
    explained["r2_beyond_labels"] = np.nan
    use = pd.DataFrame([(*place, label, n) for place in places for label, n in (("B", 90), ("T", 300), ("rare", 4))])
    use.columns = ["modality", "dimension", "label", "n_cells"]
    use["use"] = [1.0, 4.0, 9.0] * 4
    pbmc_small.uns[_keys.DIMENSIONS] = table
    pbmc_small.uns[f"{_keys.DIMENSIONS}_covariates"] = explained
    pbmc_small.uns[f"{_keys.DIMENSIONS}_labels"] = use
    pbmc_small.uns[f"{_keys.DIMENSIONS}_params"] = {"fewest_of_label": 15}
    return pbmc_small


@pytest.fixture
def drawable(
    embedded: MuData,
    recorded: dict[str, pd.DataFrame],
    audit_table: pd.DataFrame,
    lambda_path: SimpleNamespace,
    feature_table: pd.DataFrame,
    compared: MuData,
    attribution_table: pd.DataFrame,
    recalls: pd.DataFrame,
    predicted: metrics.PredictionReport,
    ranked: MuData,
    described: MuData,
) -> dict[str, Any]:
    """Input of each function of ``pl``."""
    return {
        "history": recorded,
        "umap": embedded,
        "importance_ranking": embedded,
        "audit": audit_table,
        "lambda_path": lambda_path,
        "feature_importance": feature_table,
        "cluster_agreement": compared,
        "cluster_splits": compared,
        "attribution": attribution_table,
        "retrieval": recalls,
        "prediction": predicted,
        "rank_correlation": ranked,
        "dimensions": described,
    }
