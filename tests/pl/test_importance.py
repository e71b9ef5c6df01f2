from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from mudata import MuData

from indiseek_sc import _keys, pl
from indiseek_sc.pl._style import ROLE_COLORS

ORDER = ["pDC", "B_Naive", "NK", "Platelet"]


def dots_and_intervals(ax: Axes) -> tuple[list, list]:
    lines = [line for line in ax.lines if line.get_zorder() > 1]  # without the line at 0
    return [line for line in lines if line.get_marker() == "o"], [line for line in lines if line.get_marker() != "o"]


def texts_of(ax: Axes) -> list[str]:
    return [" ".join(text.get_text().split()) for text in ax.texts]


def test_dots_and_intervals_show_the_table(importance_table: pd.DataFrame) -> None:
    ax = pl.importance_ranking(importance_table)
    table = importance_table.set_index("label").loc[ORDER]
    dots, intervals = dots_and_intervals(ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ORDER
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top
    assert [(float(dot.get_xdata()[0]), dot.get_ydata()[0]) for dot in dots] == list(
        zip(table["theta"], range(4), strict=True)
    )
    known = table["lower"].notna()
    drawn = [tuple(line.get_xdata()) for line in intervals]
    assert [pair for pair, is_known in zip(drawn, known, strict=True) if is_known] == list(
        zip(table["lower"][known], table["upper"][known], strict=True)
    )
    assert [text for text in texts_of(ax) if text[0].isdigit()] == ["6", "220", "1,315", "1"]
    assert list(ax.lines[0].get_xdata()) == [0, 0]


def test_colours_show_modality_and_reliability(importance_table: pd.DataFrame) -> None:
    dots, _ = dots_and_intervals(pl.importance_ranking(importance_table))
    colors = [to_hex(dot.get_color()) for dot in dots]
    assert colors == [ROLE_COLORS["rna"], ROLE_COLORS["rna"], to_hex("0.45"), ROLE_COLORS["adt"]]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, False, False, True]


def test_headings_and_caption_use_names_of_the_data(embedded: MuData) -> None:
    ax = pl.importance_ranking(embedded)
    assert {"protein ← resolves better", "RNA resolves better →", "cells"} <= set(texts_of(ax))
    caption = ax.get_xlabel()
    assert "RNA over protein" in caption
    assert "95% bootstrap interval" in caption
    assert "hollow dot: fewer than 15 cells" in caption
    assert "grey: the interval includes 0" in caption


def test_shared_representations(embedded: MuData) -> None:
    with pytest.raises(KeyError, match=r"indiseek_importance_shared.*label_key=\.\.\., latent='shared'"):
        pl.importance_ranking(embedded, latent="shared")
    key = _keys.with_latent_suffix(_keys.IMPORTANCE, "shared")
    embedded.uns[key] = embedded.uns[_keys.IMPORTANCE].assign(n_cells=1234)
    embedded.uns[f"{key}_params"] = {"latent": "shared"}
    ax = pl.importance_ranking(embedded, latent="shared")
    assert "in the shared representations" in ax.get_xlabel()
    assert "1,234" in texts_of(ax)


@pytest.mark.parametrize("noted_by", ["model", "tl", "argument"])
def test_names_of_modalities(embedded: MuData, noted_by: str) -> None:
    names = {"rna": "transcripts", "adt": "surface"}
    del embedded.uns[f"{_keys.IMPORTANCE}_params"]
    if noted_by == "model":
        embedded.uns[_keys.SETTINGS]["modalities"] = names
    elif noted_by == "tl":
        embedded.uns[f"{_keys.IMPORTANCE}_params"] = {"modalities": names}
    ax = pl.importance_ranking(embedded, modalities=names if noted_by == "argument" else None)
    assert {"surface ← resolves better", "transcripts resolves better →"} <= set(texts_of(ax))
    assert "hollow dot: too few cells for a reliable estimate" in ax.get_xlabel()


@pytest.fixture
def information_table(importance_table: pd.DataFrame) -> pd.DataFrame:
    """One label resolved by each modality, one resolved by neither, and one with too few cells."""
    table = importance_table.assign(claim=["adt", "rna", "neither", "not assessed"])
    for role, values in (("rna", [0.1, 1.5, -0.02, float("nan")]), ("adt", [4.0, 0.2, 0.03, float("nan")])):
        table[f"information_{role}"] = values
        table[f"information_{role}_lower"] = table[f"information_{role}"] - 0.1
        table[f"information_{role}_upper"] = table[f"information_{role}"] + 0.1
    return table.assign(information_difference=table["information_rna"] - table["information_adt"])


def test_information_has_a_dot_for_each_modality(information_table: pd.DataFrame) -> None:
    ax = pl.importance_ranking(information_table)
    names = [label.get_text() for label in ax.get_yticklabels()]
    # Sorted by the difference; missing values come last.
    assert names == ["B_Naive", "pDC", "NK", "Platelet"]
    table = information_table.set_index("label").loc[names]
    dots, intervals = dots_and_intervals(ax)
    for role, dots_of_role in (("rna", dots[::2]), ("adt", dots[1::2])):
        assert {to_hex(dot.get_color()) for dot in dots_of_role} == {ROLE_COLORS[role]}
        assert [float(dot.get_xdata()[0]) for dot in dots_of_role[:3]] == table[f"information_{role}"].tolist()[:3]
    assert [tuple(line.get_xdata()) for line in intervals[:2]] == [
        tuple(table.iloc[0][[f"information_{role}_lower", f"information_{role}_upper"]]) for role in ("rna", "adt")
    ]
    low, high = ax.get_xlim()
    assert low < table["information_adt_lower"].min() and high > table["information_adt_upper"].max()


def test_labels_have_the_colour_of_the_modality_that_resolves_them(information_table: pd.DataFrame) -> None:
    ax = pl.importance_ranking(information_table)
    colors = {label.get_text(): to_hex(label.get_color()) for label in ax.get_yticklabels()}
    assert colors["B_Naive"] == ROLE_COLORS["rna"]
    assert colors["NK"] == ROLE_COLORS["adt"]
    assert colors["pDC"] == colors["Platelet"] == to_hex("0.45")
    assert "no difference established" in ax.get_xlabel()


def test_theta_of_a_table_with_information(information_table: pd.DataFrame) -> None:
    ax = pl.importance_ranking(information_table, score="theta")
    assert [label.get_text() for label in ax.get_yticklabels()] == ORDER
    with pytest.raises(KeyError, match=r"information_difference.*model.write_refits"):
        pl.importance_ranking(information_table.drop(columns="information_difference"), score="information")
    with pytest.raises(ValueError, match="score"):
        pl.importance_ranking(information_table, score="beta")


def test_the_caption_describes_the_intervals(embedded: MuData) -> None:
    params = embedded.uns[f"{_keys.IMPORTANCE}_params"]
    assert "95% bootstrap interval over cells only" in pl.importance_ranking(embedded).get_xlabel()
    params |= {"n_refits": 4}
    assert "95% interval over cells and 4 refits" in pl.importance_ranking(embedded).get_xlabel()
    params |= {"sample_key": "donor"}
    assert "95% interval over samples and 4 refits" in pl.importance_ranking(embedded).get_xlabel()


def test_the_caption_describes_only_what_is_drawn(importance_table: pd.DataFrame) -> None:
    ax = pl.importance_ranking(importance_table.query("label == 'B_Naive'"))
    assert "hollow" not in ax.get_xlabel()
    assert "grey" not in ax.get_xlabel()


@pytest.mark.parametrize("signs", ["both", "positive", "negative", "zero"])
@pytest.mark.parametrize("n_labels", [1, 41])
@pytest.mark.parametrize("is_narrow", [False, True])
def test_labels_do_not_overlap(signs: str, n_labels: int, is_narrow: bool) -> None:
    long = "CD8+ effector memory T cells of the peripheral blood, activated, with further annotations"
    theta = pd.Series(range(n_labels)) - n_labels / 2
    theta = {"both": theta, "positive": theta.abs() + 1, "negative": -theta.abs() - 1, "zero": theta * 0}[signs]
    table = pd.DataFrame({"label": [f"{i} {long}" for i in range(n_labels)], "n_cells": 1_234_567, "theta": theta})
    table = table.assign(lower=theta - 0.1, upper=theta + 0.1, reliable=True)
    names = {"rna": "gene expression of nuclei", "adt": "surface_proteins"}
    if is_narrow:
        table["label"], names = [f"{i} Mono_Nonclassical" for i in range(n_labels)], {"rna": "rna", "adt": "adt"}
    ax = pl.importance_ranking(table, modalities=names)
    assert ax.figure.get_figwidth() * 25.4 == pytest.approx(pl.COLUMN if is_narrow else pl.PAGE)
    ax.figure.draw_without_rendering()
    texts = [*ax.get_yticklabels(), *ax.texts, ax.xaxis.label, *ax.get_xticklabels()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    page = ax.figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    overlapping = [
        (texts[i].get_text(), texts[j].get_text())
        for i, a in enumerate(boxes)
        for j, b in enumerate(boxes[:i])
        if a.padded(-1).overlaps(b)
    ]
    assert not overlapping


def test_the_table_is_not_modified(embedded: MuData) -> None:
    before = embedded.uns[_keys.IMPORTANCE].copy()
    pl.importance_ranking(embedded)
    pd.testing.assert_frame_equal(embedded.uns[_keys.IMPORTANCE], before)


def test_invalid_input_is_rejected(embedded: MuData, importance_table: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match=r"lacks the columns \['lower', 'reliable'\]"):
        pl.importance_ranking(importance_table.drop(columns=["lower", "reliable"]))
    with pytest.raises(ValueError, match="has no row"):
        pl.importance_ranking(importance_table.iloc[:0])
    del embedded.uns[_keys.IMPORTANCE]
    with pytest.raises(KeyError, match=r"indiseek_sc.tl.modality_importance\(mdata, label_key=...\) first"):
        pl.importance_ranking(embedded)
    assert not plt.get_fignums()
