from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from mudata import MuData

from indiseek_sc import pl


@pytest.mark.parametrize(("measure", "name", "joint"), [("ari", "(ARI)", "0.50"), ("nmi", "(NMI)", "0.70")])
def test_every_pair_has_a_value(compared: MuData, measure: str, name: str, joint: str) -> None:
    ax = pl.cluster_agreement(compared, measure=measure)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "shared RNA",
        "specific protein",
        "joint",
        "cell_type",
    ]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["shared RNA", "specific protein", "joint"]
    words = {text.get_position(): text for text in ax.texts}
    assert len(words) == 9
    assert words[0, 2].get_text() == joint
    assert words[0, 2].get_fontweight() == "normal"
    assert words[1, 1].get_fontweight() == "bold"
    np.testing.assert_array_equal(np.ma.getmaskarray(ax.images[0].get_array()).sum(axis=1), [2, 1, 0, 0])
    assert name in ax.get_title(loc="left")
    assert "3 clusters each" in ax.get_title(loc="left")


def test_different_numbers_of_clusters_are_given_as_a_range(compared: MuData) -> None:
    compared.uns["indiseek_clusters_latents"].loc[1, "n_clusters"] = 5
    assert "3 to 5 clusters each" in pl.cluster_agreement(compared).get_title(loc="left")


def test_invalid_input_is_rejected(compared: MuData) -> None:
    with pytest.raises(ValueError, match=r"measure='rand' is not known. Available: 'ari', 'nmi'"):
        pl.cluster_agreement(compared, measure="rand")
    del compared.uns["indiseek_clusters"]
    with pytest.raises(KeyError, match=r"tl\.compare_clusters\(mdata, \.\.\.\) first"):
        pl.cluster_agreement(compared)


def test_rows_tiles_and_labels(compared: MuData) -> None:
    ax = pl.cluster_splits(compared)
    rows = [" ".join(text.get_text().split()) for text in ax.get_yticklabels()]
    # Clusters of a cell type are adjacent.
    assert rows == ["NK 97% 0", "NK 40% 2", "B_Naive 100% 1"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["shared RNA", "specific protein"]
    assert ax.get_ylabel() == "clusters of the joint representation"
    assert [text.get_text() for text in ax.texts] == ["2.0", "1,300", "200", "250", "cells"]
    tiles = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert sum(tile.get_hatch() is not None for tile in tiles) == 3
    assert sum(not tile.get_fill() for tile in tiles) == 1
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend[-1] == "split in this representation only"
    assert len(legend) == 4


def test_cell_types_as_the_reference(compared: MuData) -> None:
    splits = compared.uns["indiseek_clusters_splits"].drop(columns=["label", "label_share"])
    compared.uns["indiseek_clusters_splits"] = splits.assign(
        cluster=["NK"] * 2 + ["B"] * 2 + ["T"] * 2, only_here=False
    )
    compared.uns["indiseek_clusters_params"]["reference"] = "labels"
    ax = pl.cluster_splits(compared)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["NK", "B", "T"]
    assert ax.get_ylabel() == "cell types"
    assert len(ax.get_legend().get_texts()) == 3


def test_missing_tables_raise_an_error(embedded: MuData) -> None:
    with pytest.raises(KeyError, match=r"indiseek_clusters_splits'\] is missing.*tl\.compare_clusters"):
        pl.cluster_splits(embedded)
