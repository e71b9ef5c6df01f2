from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from indiseek_sc import pl
from indiseek_sc.pl._style import ROLE_COLORS


def test_a_line_for_each_modality_through_its_lambdas(lambda_path: SimpleNamespace) -> None:
    ax = pl.frontier(lambda_path)
    for name, container in zip(("rna", "adt"), ax.containers, strict=True):
        rows = lambda_path.table.query("modality == @name").sort_values("lambda")
        line, _, (bars,) = container
        np.testing.assert_allclose(line.get_xydata(), rows[["leak_ratio", "gain"]])
        assert line.get_color() == ROLE_COLORS[name]
        spread = np.array([segment[:, 0] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.diff(spread).ravel(), 2 * rows["leak_ratio_se"])


def test_lambdas_are_written_beside_their_points_and_apart(lambda_path: SimpleNamespace) -> None:
    ax = pl.frontier(lambda_path)
    assert sorted(text.get_text() for text in ax.texts) == ["10", "10", "100", "100", "1000", "1000"]
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines to the points
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for text, (_, row) in zip(ax.texts[:3], lambda_path.table.query("modality == 'rna'")[::-1].iterrows(), strict=True):
        assert text.xy == (row["leak_ratio"], row["gain"])
        assert text.get_text() == f"{row['lambda']:g}"


def test_tolerance_and_chosen_lambda_are_marked(lambda_path: SimpleNamespace) -> None:
    ax = pl.frontier(lambda_path)
    (span,) = ax.patches
    assert (span.get_x(), span.get_width()) == (0, 0.02)
    rings = [line.get_xydata() for line in ax.lines if line.get_markersize() == 14]
    chosen = lambda_path.table[lambda_path.table["lambda"] == 100]
    np.testing.assert_allclose(np.concatenate(rings), chosen[["leak_ratio", "gain"]])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"RNA", "protein", "leak ratio within 2 %", "chosen: 100"} == set(words)
    assert words[:2] == ["RNA", "protein"]


def test_points_without_a_gain_are_left_out(lambda_path: SimpleNamespace) -> None:
    lambda_path.table.loc[lambda_path.table["modality"] == "adt", "gain"] = np.nan
    ax = pl.frontier(lambda_path)
    assert len(ax.containers) == 1
    lambda_path.table["gain"] = np.nan
    with pytest.raises(ValueError, match="path has no lambda with both a leak ratio and a gain"):
        pl.frontier(lambda_path)


def test_names_of_the_user_and_a_negative_axis(lambda_path: SimpleNamespace) -> None:
    lambda_path.table["modality"] = lambda_path.table["modality"].map({"rna": "gex", "adt": "atac"})
    ax = pl.frontier(lambda_path)
    assert {"gex", "atac"} < {text.get_text() for text in ax.get_legend().get_texts()}
    assert ax.get_xlim()[0] <= 0 < 0.02 < ax.get_xlim()[1]


def test_errors(lambda_path: SimpleNamespace) -> None:
    for wrong in (None, lambda_path.table, SimpleNamespace(table=pd.DataFrame({"lambda": [1]}))):
        with pytest.raises(TypeError, match=r"path must be what model.lambda_path\(\) returns"):
            pl.frontier(wrong)
    assert not plt.get_fignums()
