from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from mudata import MuData

from indiseek_sc import _keys, pl

KEY = _keys.RANK_CORRELATION
LABELS = ["CD4 naive", "CD4 memory", "NK", "B", "few"]


@pytest.fixture
def ranked(embedded: MuData) -> MuData:
    rows = []
    for code in ("shared", "specific"):
        for statistic in ("spearman", "kendall"):
            rows.append(
                {
                    "code": code,
                    "statistic": statistic,
                    "estimate": 0.4,
                    "jackknife_lower": -0.2,
                    "jackknife_upper": 0.9,
                    "n_labels": 4,
                    "leak_ratio_rna": 0.01 if code == "specific" else np.nan,
                    "leak_ratio_adt": 0.2 if code == "specific" else np.nan,
                }
            )
    embedded.uns[KEY] = pd.DataFrame(rows)
    embedded.uns[f"{KEY}_labels"] = pd.DataFrame(
        {
            "label": LABELS * 2,
            "theta": [0.1, 0.1, 0.12, 0.5, -1.0] * 2,
            "weight": [0.5, 0.5, 0.51, 0.2, 0.9] * 2,
            "n_cells": [50, 40, 30, 20, 3] * 2,
            "ranked": [True, True, True, True, False] * 2,
            "code": ["shared"] * 5 + ["specific"] * 5,
        }
    )
    return embedded


def test_points_words_and_names_that_do_not_overlap(ranked: MuData) -> None:
    axes = pl.rank_correlation(ranked)
    assert len(axes) == 2
    shared, specific = axes
    points = shared.collections[0].get_offsets()
    np.testing.assert_allclose(
        points, [[2.5, 3.5], [2.5, 3.5], [1, 2], [4, 1]]
    )  # the first two are tied; the last has no rank
    assert shared.get_title(loc="left").strip() == "Shared codes\nSpearman 0.40 [-0.20, 0.90], 4 labels"
    assert specific.get_title(loc="left").endswith("leak ratios 0.010 and 0.200")
    assert shared.get_xlabel() == "rank by WNN weight of RNA"
    assert shared.get_ylabel() == "rank by θ, RNA over protein"
    for ax in axes:
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the line to the point
        assert [text.get_text() for text in ax.texts] == LABELS[:4]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_conventions(ranked: MuData, tmp_path, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    assert pl.rank_correlation(ranked, show=True, save=tmp_path / "figure.png") is None
    assert shown == [True]
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_what_is_missing_is_said(embedded: MuData) -> None:
    with pytest.raises(KeyError, match=r"tl\.rank_correlation\(mdata, label_key=\.\.\.\) first"):
        pl.rank_correlation(embedded)
