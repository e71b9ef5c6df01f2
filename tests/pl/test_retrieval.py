from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import _keys, metrics, pl


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    code = rng.normal(size=(200, 4))
    table = metrics.retrieval(code, code + rng.normal(size=code.shape), ks=(1, 10, 100))
    return table.assign(direction=["rna to adt", "adt to rna"])


def test_curves_are_the_recall(table: pd.DataFrame) -> None:
    ax = pl.retrieval(table)
    *curves, chance = ax.get_lines()
    for curve, (_, row) in zip(curves, table.iterrows(), strict=True):
        np.testing.assert_array_equal(curve.get_xdata(), [1, 10, 100])
        np.testing.assert_array_equal(curve.get_ydata(), row[["recall@1", "recall@10", "recall@100"]].astype(float))
    np.testing.assert_allclose(chance.get_ydata(), [0.005, 0.05, 0.5])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words[0].startswith("RNA seeks protein\n(FOSCTTM 0.")
    assert words[1].startswith("protein seeks RNA")
    assert "of 200 cells" in ax.get_xlabel()


def test_conventions(table: pd.DataFrame, embedded: MuData, tmp_path, monkeypatch) -> None:
    embedded.uns[_keys.RETRIEVAL] = table
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    _, ax = plt.subplots()
    assert pl.retrieval(embedded, ax=ax, save=tmp_path / "figure.png") is ax
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert pl.retrieval(embedded, show=True) is None
    assert shown == [True]


def test_what_is_missing_is_said(table: pd.DataFrame, embedded: MuData) -> None:
    with pytest.raises(KeyError, match=r"Call indiseek_sc\.tl\.retrieval\(mdata\) first"):
        pl.retrieval(embedded)
    with pytest.raises(KeyError, match="lacks a column 'recall@<k>'"):
        pl.retrieval(table[["direction", "n_cells"]])
