"""Unusual labels, and palettes of every type."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.colors import Colormap, to_rgba
from mudata import MuData

from indiseek_sc import _keys, pl, tl
from indiseek_sc._lookup import as_categories

N = 120
LONG = "a cell type that somebody described in far more words than any legend has room for, again and again " * 3

ODD: dict[str, list[Any]] = {
    "blank": ["", "  ", "B", "two\nlines", "B\tcell"],
    "numbers": [0, 1, 2],
    "fractions": [0.5, 1.0, 2.0],
    "numbers and text": [1, "1", "2b", "T"],
    "truth": [True, False, True],
    "signs": ["CD4$+$", "$\\frac$", "US$", "_B", "_", "<b>B</b>", "{B}", "%d%s", "β-cell", "細胞"],
    "missing": [np.nan, "missing", None, "T"],
    "long": [LONG, LONG + "x", "T"],
}


@pytest.fixture
def cells() -> MuData:
    """Cells of three types with representations, an embedding and WNN weights."""
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(N)]
    mods = {
        name: AnnData(np.ones((N, 1), np.float32), pd.DataFrame(index=names), pd.DataFrame(index=[f"{name}_1"]))
        for name in ("rna", "adt")
    }
    mdata = MuData(mods)
    kind = np.arange(N) % 3
    for key in (_keys.JOINT, *(latent(name) for latent in (_keys.shared, _keys.specific) for name in mods)):
        mdata.obsm[key] = 2 * rng.normal(size=(3, 3))[kind] + rng.normal(size=(N, 3))
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2]
    mdata.obs[_keys.wnn_weight("rna")] = rng.uniform(size=N)
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "rna", "adt": "adt"}}
    return mdata


def draw_all() -> None:
    """Draw all open figures; warnings of matplotlib are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Glyph")
        for number in plt.get_fignums():
            plt.figure(number).savefig(BytesIO())
    plt.close("all")


def colors_of(mdata: MuData, key: str, **kwargs: Any) -> dict[str, tuple[float, ...]]:
    """Return the colour of each legend entry."""
    pl.umap(mdata, key, show=False, **kwargs)
    legend = plt.gcf().axes[-1].get_legend()
    handles = zip(legend.get_texts(), legend.legend_handles, strict=True)
    return {text.get_text(): to_rgba(handle.get_color()) for text, handle in handles}


@pytest.mark.parametrize("name", ODD)
def test_unusual_labels_are_drawn(cells: MuData, name: str) -> None:
    values = np.resize(np.array(ODD[name], dtype=object), N)
    cells.obs["type"] = pd.Series(values, index=cells.obs_names)
    labels = set(map(str, as_categories(cells.obs["type"]).cat.categories))
    table = tl.modality_importance(cells, "type", n_bootstrap=10)
    assert set(table["label"]) == labels
    assert table["n_cells"].sum() == pd.Series(values).notna().sum()
    pl.importance_ranking(cells, show=False)
    for where in ("right margin", "on data"):
        pl.umap(cells, ["type", _keys.THETA], legend_loc=where, show=False)
    if len(labels) > 2:
        tl.rank_correlation(cells, "type", latents=("specific",), n_bootstrap=10, minimum_cells=1)
        for of in ("ranks", "means"):
            pl.rank_correlation(cells, of=of, show=False)
    draw_all()


@pytest.mark.parametrize("name", ["blank", "numbers and text", "signs", "missing", "long"])
def test_unusual_labels_are_compared_with_clusters(cells: MuData, name: str) -> None:
    cells.obs["type"] = pd.Series(np.resize(np.array(ODD[name], dtype=object), N), index=cells.obs_names)
    _, agreement, splits = tl.compare_clusters(cells, "type", latents=("shared", "joint"), n_repeats=2)
    assert (agreement["other"] == "labels").any()
    assert splits["label_share"].notna().all()
    pl.cluster_agreement(cells, show=False)
    pl.cluster_splits(cells, show=False)
    draw_all()


def test_a_label_called_missing_differs_from_missing_values(cells: MuData) -> None:
    cells.obs["type"] = pd.Categorical(np.array(["missing", None, "T"], dtype=object)[np.arange(N) % 3])
    colors = colors_of(cells, "type")
    assert list(colors) == ["T", "missing", "(no value)"]
    assert len(set(colors.values())) == 3


@pytest.mark.parametrize(
    "palette",
    [
        "tab20",
        colormaps["tab20"],
        ["red", "#00ff00", (0.0, 0.0, 1.0)],
        np.array(["red", "lime", "blue"]),
        {"A": "red", "B": "lime", "C": "blue"},
        plt.cycler(color=["red", "lime", "blue"]),
    ],
)
def test_palettes_of_every_type(cells: MuData, palette: Any) -> None:
    cells.obs["type"] = pd.Categorical(np.array(list("ABC"))[np.arange(N) % 3])
    colors = colors_of(cells, "type", palette=palette)
    if isinstance(palette, str | Colormap):
        assert list(colors.values()) == [colormaps["tab20"](place) for place in (0.0, 0.5, 1.0)]
    else:
        assert list(colors.values()) == [to_rgba(color) for color in ("red", "lime", "blue")]


@pytest.mark.parametrize(
    "stored", [["red", "lime", "blue"], np.array(["red", "lime", "blue"]), {"B": "lime", "C": "blue", "A": "red"}]
)
def test_colours_of_scanpy_stay_with_their_categories(cells: MuData, stored: Any) -> None:
    """The column is in a modality, and one category has no cells."""
    cells["rna"].obs["type"] = pd.Categorical(np.array(list("AC"))[np.arange(N) % 2], categories=list("ABC"))
    cells["rna"].uns["type_colors"] = stored
    for key in ("type", "rna:type"):
        assert colors_of(cells, key) == {"A": to_rgba("red"), "C": to_rgba("blue")}


def test_an_invalid_colour_of_scanpy_is_named(cells: MuData) -> None:
    cells.obs["type"] = pd.Categorical(np.array(list("ABC"))[np.arange(N) % 3])
    cells.uns["type_colors"] = ["red", "?", "blue"]
    with pytest.raises(ValueError, match=r"mdata\.uns\['type_colors'\]: '\?', for 'B', is not a colour"):
        pl.umap(cells, "type", show=False)
    pl.umap(cells, "type", palette="tab20", show=False)


def test_too_few_colours_raise_a_warning(cells: MuData) -> None:
    cells.obs["type"] = pd.Categorical(np.array(list("ABC"))[np.arange(N) % 3])
    with pytest.warns(UserWarning, match="3 categories, but there are only 2 colours"):
        pl.umap(cells, "type", palette=["red", "blue"], show=False)


@pytest.mark.parametrize("key", ["donor", "rna:donor"])
def test_numeric_batches_are_categories(cells: MuData, key: str) -> None:
    cells["rna"].obs["donor"] = np.arange(N) % 12
    pl.umap(cells, key, show=False)
    assert plt.gcf().axes[-1].get_legend() is None  # other numbers have a colour bar
    cells.uns[_keys.SETTINGS]["batch_key"] = "donor"
    assert list(colors_of(cells, key)) == [str(i) for i in range(12)]
