"""Table of attributions in the format of a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def attributions() -> pd.DataFrame:
    """Return slopes of 40 genes and 6 proteins along 2 dimensions, in 2 groups of cells.

    The first 10 genes rise along dimension 0 and the last 10 fall.
    """
    rng = np.random.default_rng(0)
    parts = []
    for modality, n in (("gex", 40), ("prot", 6)):
        index = pd.MultiIndex.from_product(
            [[0, 1], ["B", "T"], [f"{modality}{j}" for j in range(n)]], names=["dimension", "group", "feature"]
        )
        part = index.to_frame(index=False).assign(modality=modality, kind="specific", method="decoder_jacobian")
        part["attribution"] = rng.normal(0, 0.1, len(part))
        if modality == "gex":
            number = part["feature"].str.removeprefix("gex").astype(int)
            part["attribution"] += 1.0 * ((number < 10) & (part["dimension"] == 0))
            part["attribution"] -= 1.0 * ((number >= 30) & (part["dimension"] == 0))
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["magnitude"] = np.hypot(table["attribution"], 0.05)
    for column in ("modality", "kind", "method", "group", "feature"):
        table[column] = pd.Categorical(table[column], categories=table[column].unique())
    return table.assign(standard_error=0.01, n_cells=20)
