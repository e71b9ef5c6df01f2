from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from mudata import MuData

from indiseek_sc import _keys, pl
from indiseek_sc._fingerprint import Place, record_inputs
from indiseek_sc.pl._dimensions import TECHNICAL_COLOR


def text_of(labels) -> list[str]:
    return [label.get_text() for label in labels]


def test_each_modality_has_three_panels(described: MuData) -> None:
    axes = pl.dimensions(described)
    assert len(axes) == 6
    shares, use, lines = axes[:3]
    assert text_of(shares.get_xticklabels()) == [
        "all together",
        "depth",
        "quality",
    ]  # batch explains too little to be drawn
    assert text_of(shares.get_yticklabels()) == ["technical  0", "1", "2"]
    colors = [label.get_color() for label in shares.get_yticklabels()]
    assert [color == TECHNICAL_COLOR for color in colors] == [True, False, False]
    assert {text.get_position(): text.get_text() for text in shares.texts} == {
        (0, 0): ".70",
        (1, 0): ".30",
        (2, 0): ".20",
    }
    assert text_of(use.get_xticklabels()) == ["B", "T", "rare"]
    values = np.ma.getmaskarray(use.images[0].get_array())
    assert values.tolist() == [[False, False, True]] * 3  # labels with few cells are masked
    assert text_of(lines.texts) == ["A, B, C \u2192 MT-CO1", "A, B, C \u2192 JUN, FOS", "A, B, C \u2192 CD74"]
    assert text_of(axes[3].get_xticklabels()) == ["all together"]


def test_one_modality_without_labels(described: MuData) -> None:
    del described.uns[f"{_keys.DIMENSIONS}_labels"]
    axes = pl.dimensions(described, "adt")
    assert len(axes) == 2
    assert text_of(axes[0].get_yticklabels()) == ["0"]


def test_r2_beyond_labels_is_drawn_if_available(described: MuData) -> None:
    explained = described.uns[f"{_keys.DIMENSIONS}_covariates"]
    explained["r2_beyond_labels"] = explained["r2"] / 2
    shares = pl.dimensions(described, "rna")[0]
    assert {text.get_text() for text in shares.texts} == {".35", ".15", ".10"}
    assert "beyond labels" in " ".join(ax.get_xlabel() for ax in shares.figure.axes)


def test_the_figure_is_saved_and_not_shown(described: MuData, tmp_path) -> None:
    axes = pl.dimensions(described, show=False, save=tmp_path / "dimensions.png")
    assert axes is not None
    assert plt.imread(tmp_path / "dimensions.png").shape[1] > 800


def test_outdated_results_raise_a_warning(described: MuData) -> None:
    described.obsm["latent"] = np.zeros((described.n_obs, 2))
    record_inputs(described, _keys.DIMENSIONS, [Place("obsm", "latent")])
    described.obsm["latent"] = np.ones((described.n_obs, 2))
    with pytest.warns(
        UserWarning, match=r"Call indiseek_sc\.tl\.describe_dimensions\(mdata, \.\.\., kind='specific'\)"
    ):
        pl.dimensions(described)


def test_invalid_input_is_rejected(described: MuData) -> None:
    with pytest.raises(ValueError, match="modality='prot' is not known. Available: 'rna', 'adt'"):
        pl.dimensions(described, "prot")
    with pytest.raises(KeyError, match=r"'indiseek_dimensions_shared'\] is missing. Call .*kind='shared'\) first"):
        pl.dimensions(described, kind="shared")
    with pytest.raises(ValueError, match="kind='joint' is not known"):
        pl.dimensions(described, kind="joint")
    with pytest.raises(TypeError, match="must be a MuData"):
        pl.dimensions(described["rna"])
