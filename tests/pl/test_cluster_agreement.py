from __future__ import annotations

import numpy as np
import pytest
from mudata import MuData

from indiseek_sc import pl


@pytest.mark.parametrize(("figure", "name", "joint"), [("ari", "(ARI)", "0.50"), ("nmi", "(NMI)", "0.70")])
def test_every_pair_has_its_number(compared: MuData, figure: str, name: str, joint: str) -> None:
    ax = pl.cluster_agreement(compared, figure=figure)
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
    assert "3 clusters of each code" in ax.get_title(loc="left")


def test_numbers_of_clusters_that_differ_are_said(compared: MuData) -> None:
    compared.uns["indiseek_clusters_codes"].loc[1, "n_clusters"] = 5
    assert "3 to 5 clusters of each code" in pl.cluster_agreement(compared).get_title(loc="left")


def test_bad_input(compared: MuData) -> None:
    with pytest.raises(ValueError, match=r"figure='rand' must be one of \['ari', 'nmi'\]"):
        pl.cluster_agreement(compared, figure="rand")
    del compared.uns["indiseek_clusters"]
    with pytest.raises(KeyError, match=r"tl\.compare_clusters\(mdata, \.\.\.\) first"):
        pl.cluster_agreement(compared)
