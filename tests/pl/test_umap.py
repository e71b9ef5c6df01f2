from __future__ import annotations

import re
from types import SimpleNamespace
from unittest.mock import create_autospec

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from mudata import MuData

from indiseek_sc import _keys, pl
from indiseek_sc.pl._style import DIVERGING, MISSING, PALETTE

TITLES = ["Joint representation", "Shared, RNA", "Shared, protein", "Specific, RNA", "Specific, protein"]


def legends(axes: np.ndarray) -> list:
    return [ax.get_legend() for ax in axes.flat[0].figure.axes if ax.get_legend()]


def entries(legend) -> dict[str, str]:
    texts = [text.get_text() for text in legend.get_texts()]
    return dict(zip(texts, [to_hex(handle.get_color()) for handle in legend.legend_handles], strict=True))


def drawn(ax: Axes) -> dict[tuple[float, float], str]:
    """Return the colour of each drawn point."""
    (points,) = ax.collections
    return {
        tuple(xy): to_hex(color) for xy, color in zip(points.get_offsets().data, points.get_facecolors(), strict=True)
    }


def expected(embedding: np.ndarray, colors: list[str]) -> dict[tuple[float, float], str]:
    return {tuple(xy): to_hex(color) for xy, color in zip(embedding, colors, strict=True)}


def color_bars(axes: np.ndarray) -> list[Axes]:
    return [ax for ax in axes.flat[0].figure.findobj(Axes) if ax.get_label() == "inset_axes"]


def test_all_embeddings_by_label_with_one_legend(embedded: MuData) -> None:
    axes = pl.umap(embedded)
    assert axes.shape == (1, 5)
    assert [ax.get_title() for ax in axes[0]] == TITLES
    (legend,) = legends(axes)
    types = embedded.obs["cell_type"].cat.categories
    assert entries(legend) == dict(zip(types, PALETTE, strict=False))
    assert legend.get_title().get_text() == "cell_type"
    colors = dict(zip(types, PALETTE, strict=False))
    for ax, key in zip(axes[0, :2], ["X_umap", "X_indiseek_shared_rna_umap"], strict=True):
        assert drawn(ax) == expected(embedded.obsm[key], [colors[label] for label in embedded.obs["cell_type"]])
        assert ax.collections[0].get_rasterized()


def test_rows_are_colourings_and_columns_are_representations(embedded: MuData) -> None:
    axes = pl.umap(embedded, ["cell_type", "batch", _keys.THETA], latents=["specific_adt", "joint"])
    assert axes.shape == (3, 2)
    assert [ax.get_title() for ax in axes[0]] == ["Specific, protein", "Joint representation"]
    assert not any(ax.get_title() for ax in axes[1:].flat)
    assert [legend.get_title().get_text() for legend in legends(axes)] == ["cell_type", "batch"]
    assert len(color_bars(axes)) == 1


@pytest.mark.parametrize(
    ("n_latents", "ncols", "n_rows"), [(3, None, 1), (4, None, 2), (5, None, 2), (5, 1, 5), (5, 2, 3)]
)
def test_panels_of_one_colour_are_wrapped(embedded: MuData, n_latents: int, ncols: int | None, n_rows: int) -> None:
    latents = ["joint", "shared_rna", "shared_adt", "specific_rna", "specific_adt"][:n_latents]
    axes = pl.umap(embedded, latents=latents, ncols=ncols)
    assert axes.shape == (1, n_latents)
    axes[0, 0].figure.draw_without_rendering()
    assert len({round(ax.get_window_extent().y0) for ax in axes.flat}) == n_rows


@pytest.mark.parametrize(
    ("color", "latents"),
    [
        ("cell_type", ["joint"]),
        ("cell_type", ["shared_rna", "shared_adt", "specific_rna", "specific_adt"]),
        ("cell_type", None),
        ("long", None),
        (["cell_type", "long", _keys.THETA], ["joint", "shared_rna"]),
    ],
)
def test_elements_do_not_overlap_or_leave_the_page(embedded: MuData, color: str, latents: list[str] | None) -> None:
    embedded.obs["long"] = [f"donor {donor} of the second cohort" for donor in embedded.obs["Donor"].cat.codes % 40]
    axes = pl.umap(embedded, color, latents=latents)
    figure = axes[0, 0].figure
    figure.draw_without_rendering()
    panels = [ax.get_window_extent() for ax in axes.flat]
    others = [legend.get_window_extent() for legend in legends(axes)]
    others += [ax.get_tightbbox() for ax in color_bars(axes)]
    others += [ax.title.get_window_extent() for ax in axes.flat if ax.get_title()]
    others += [
        label.get_window_extent() for ax in axes.flat for label in (ax.xaxis.label, ax.yaxis.label) if label.get_text()
    ]
    boxes = panels + others
    assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.padded(-1).overlaps(b)]
    page = figure.bbox.padded(1)
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    assert figure.get_figwidth() * 25.4 == pytest.approx(pl.COLUMN if len(panels) == 1 else pl.PAGE)
    # Panels are not too small.
    assert min(panel.width for panel in panels) > (25 if len(panels) > 5 else 45) / 25.4 * figure.dpi
    assert np.ptp([panel.width for panel in panels]) < 2


def test_palette_of_scanpy_is_used(embedded: MuData) -> None:
    categories = embedded.obs["batch"].cat.categories
    embedded.uns["batch_colors"] = np.array(["#111111", "#222222", "#333333"])
    (legend,) = legends(pl.umap(embedded, "batch", latents=["joint"]))
    assert entries(legend) == dict(zip(categories, ["#111111", "#222222", "#333333"], strict=True))
    (legend,) = legends(pl.umap(embedded, "batch", latents=["joint"], palette={categories[1]: "red"}))
    assert entries(legend) == dict(zip(categories, ["#111111", "#ff0000", "#333333"], strict=True))


def test_palette_and_column_of_a_modality(embedded: MuData) -> None:
    rna = embedded["rna"]
    # Categories are not in alphabetical order, and one of them has no cells.
    rna.obs["phase"] = pd.Categorical(["S" if i % 2 else "G1" for i in range(rna.n_obs)], categories=["S", "M", "G1"])
    rna.uns["phase_colors"] = ["#111111", "#222222", "#333333"]
    for key in ("phase", "rna:phase"):
        (legend,) = legends(pl.umap(embedded, key, latents=["joint"]))
        assert entries(legend) == {"S": "#111111", "G1": "#333333"}


def test_missing_values_are_grey_and_drawn_first(embedded: MuData) -> None:
    embedded.obs["part"] = embedded.obs["batch"].where(np.arange(600) % 3 > 0)
    embedded.obs.loc[embedded.obs_names[:100], _keys.THETA] = np.nan
    axes = pl.umap(embedded, ["part", _keys.THETA], latents=["joint"])
    for ax, n_missing in zip(axes[:, 0], [200, 100], strict=True):
        colors = [to_hex(color) for color in ax.collections[0].get_facecolors()]
        assert colors[:n_missing] == [MISSING] * n_missing
        assert MISSING not in colors[n_missing:]
    assert entries(legends(axes)[0])["missing"] == MISSING
    assert color_bars(axes)[0].get_xlabel().endswith("grey: missing")


def test_a_column_of_missing_values(embedded: MuData) -> None:
    embedded.obs["nothing"] = pd.Categorical([None] * 600, categories=["a"])
    embedded.obs["no_number"] = np.nan
    axes = pl.umap(embedded, ["nothing", "no_number"], latents=["joint"])
    assert set(drawn(axes[0, 0]).values()) == set(drawn(axes[1, 0]).values()) == {MISSING}
    assert entries(legends(axes)[0]) == {"missing": MISSING}


def test_the_colour_scale_of_theta_is_centred_on_0(embedded: MuData) -> None:
    theta = np.abs(embedded.obs[_keys.THETA].to_numpy()) + 0.1  # all values are positive
    theta[:3] = [0, 1e6, -1e6]
    embedded.obs[_keys.THETA] = theta
    axes = pl.umap(embedded, _keys.THETA, latents=["joint"])
    points = embedded.obsm["X_umap"]
    color_of = drawn(axes[0, 0])
    assert [color_of[tuple(points[i])] for i in range(3)] == [to_hex(DIVERGING(x)) for x in (0.5, 1.0, 0.0)]
    (bar,) = color_bars(axes)
    low, high = bar.get_ylim()
    assert low == -high
    assert high < 10  # the colour scale is robust to extreme cells
    assert bar.get_title(loc="left") == "θ\nRNA\nresolves better"
    assert bar.get_xlabel() == "protein\nresolves better"


def test_positive_numbers_have_a_sequential_colour_scale(embedded: MuData) -> None:
    embedded.obs["depth"] = np.arange(600)
    axes = pl.umap(embedded, "depth", latents=["joint"])
    (bar,) = color_bars(axes)
    assert bar.get_ylim()[0] > 0
    assert bar.get_title(loc="left") == "depth"


def test_cells_without_an_embedding_are_not_drawn(embedded: MuData) -> None:
    embedded.obsm["X_indiseek_shared_adt_umap"][:50] = np.nan
    axes = pl.umap(embedded, "batch", latents=["joint", "shared_adt"])
    assert [len(ax.collections[0].get_offsets()) for ax in axes[0]] == [600, 550]


def test_the_order_of_cells_is_random_and_reproducible(embedded: MuData) -> None:
    first, second = (pl.umap(embedded, "batch", latents=["joint"])[0, 0].collections[0].get_offsets() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, embedded.obsm["X_umap"])


def test_points_are_smaller_for_more_cells(embedded: MuData) -> None:
    few = pl.umap(embedded[:100].copy(), "batch", latents=["joint"])
    many = pl.umap(embedded, "batch", latents=["joint"])
    chosen = pl.umap(embedded, "batch", latents=["joint"], size=3)
    sizes = [axes[0, 0].collections[0].get_sizes()[0] for axes in (few, many, chosen)]
    assert sizes[0] >= sizes[1] > sizes[2] == 3


def test_names_on_data_do_not_overlap(embedded: MuData) -> None:
    axes = pl.umap(embedded, legend_loc="on data", latents=["joint", "specific_rna"])
    assert not legends(axes)
    types = embedded.obs["cell_type"].to_numpy()
    for ax, key in zip(axes[0], ["X_umap", "X_indiseek_specific_rna_umap"], strict=True):
        ax.figure.draw_without_rendering()
        assert sorted(text.get_text() for text in ax.texts) == sorted(set(types))
        # Bounding boxes of the names without connecting lines.
        boxes = [super(type(text), text).get_window_extent() for text in ax.texts]
        assert not any(a.padded(-1).overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        for text in ax.texts:  # each name refers to the cell nearest to the median of its type
            cells = embedded.obsm[key][types == text.get_text()]
            distance = np.linalg.norm(cells - np.median(cells, axis=0), axis=1)
            np.testing.assert_array_equal(text.xy, cells[distance.argmin()])


def test_compact_categories_are_named_if_there_are_many(embedded: MuData) -> None:
    rng = np.random.default_rng(0)
    # No category is compact.
    embedded.obsm["X_indiseek_specific_rna_umap"] = rng.normal(size=(600, 2))
    axes = pl.umap(embedded, latents=["joint", "specific_rna"])
    types = embedded.obs["cell_type"]
    common = set(types.value_counts()[lambda counts: counts > 20].index)
    named = {text.get_text() for text in axes[0, 0].texts}
    assert len(named & common) > 5
    assert named < set(types)
    assert len(axes[0, 1].texts) == 0
    assert len(legends(axes)) == 1
    # Few categories are not named.
    assert len(pl.umap(embedded, "batch", latents=["joint"])[0, 0].texts) == 0
    embedded.obs["few"] = types.astype(str).where(types.isin(list(common)[:3]), "other")
    assert len(pl.umap(embedded, "few", latents=["joint"])[0, 0].texts) == 0


def test_no_legend(embedded: MuData) -> None:
    axes = pl.umap(embedded, "cell_type", latents=["joint"], legend_loc=None)
    assert not legends(axes)
    assert len(axes[0, 0].figure.axes) == 1


def test_modalities_of_any_name() -> None:
    rng = np.random.default_rng(0)
    mdata = MuData({name: ad.AnnData(rng.normal(size=(30, 3)).astype("float32")) for name in ("prot", "gex")})
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "gex", "adt": "prot"}}
    for name in ("prot", "gex"):
        mdata.obsm[f"{_keys.specific(name)}_umap"] = rng.normal(size=(30, 2))
    axes = pl.umap(mdata)
    assert [ax.get_title() for ax in axes[0]] == ["Specific, gex", "Specific, protein"]
    # A single colour and no legend without labels.
    assert set(drawn(axes[0, 0]).values()) == {PALETTE[0]}
    assert not legends(axes)


def test_more_categories_than_colours(embedded: MuData) -> None:
    embedded.obs["many"] = [f"{i % 50:02d}" for i in range(600)]
    with pytest.warns(UserWarning, match=r"color='many' has 50 categories, but there are only 40 colours"):
        axes = pl.umap(embedded, "many", latents=["joint"])
    assert len(entries(legends(axes)[0])) == 50


def test_the_data_are_not_modified(embedded: MuData) -> None:
    before = embedded.copy()
    pl.umap(embedded, ["cell_type", _keys.THETA], legend_loc="on data")
    pd.testing.assert_frame_equal(embedded.obs, before.obs)
    assert (list(embedded.uns), list(embedded.obsm)) == (list(before.uns), list(before.obsm))
    for key in before.obsm:
        np.testing.assert_array_equal(embedded.obsm[key], before.obsm[key])


def test_errors_for_missing_embeddings_contain_the_remedy(embedded: MuData) -> None:
    del embedded.obsm["X_indiseek_shared_rna_umap"]
    assert pl.umap(embedded).shape == (1, 4)
    remedy = (
        r"mdata.obsm\['X_indiseek_shared_rna_umap'\] is missing. Call model.write_latents\(mdata\), "
        r"sc.pp.neighbors\(mdata, use_rep='X_indiseek_shared_rna', key_added='X_indiseek_shared_rna'\) and "
        r"sc.tl.umap\(mdata, neighbors_key='X_indiseek_shared_rna', key_added='X_indiseek_shared_rna_umap'\) first."
    )
    with pytest.raises(KeyError, match=remedy):
        pl.umap(embedded, latents=["joint", "shared_rna"])
    for key in list(embedded.obsm):
        if key.endswith("umap"):
            del embedded.obsm[key]
    with pytest.raises(
        KeyError, match=r"no embedding of a representation.*use_rep='X_indiseek'\) and sc.tl.umap\(mdata\) first"
    ):
        pl.umap(embedded)


@pytest.mark.parametrize("latent", ["joint", "shared_rna", "specific_adt"])
def test_the_remedy_computes_the_missing_embedding(embedded: MuData, latent: str) -> None:
    for key in ("X_umap", "X_indiseek_shared_rna_umap", "X_indiseek_specific_adt_umap"):
        del embedded.obsm[key]
    with pytest.raises(KeyError) as error:
        pl.umap(embedded, latents=[latent])
    neighbors, umap = create_autospec(sc.pp.neighbors), create_autospec(sc.tl.umap)
    names = {
        "mdata": embedded,
        "sc": SimpleNamespace(pp=SimpleNamespace(neighbors=neighbors), tl=SimpleNamespace(umap=umap)),
    }
    for call in re.findall(r"sc\.\w+\.\w+\(.*?\)", error.value.args[0]):
        eval(call, names)  # raises if scanpy has no such argument
    neighbors.assert_called_once()
    assert neighbors.call_args.kwargs.get("key_added") == umap.call_args.kwargs.get("neighbors_key")
    embedded.obsm[umap.call_args.kwargs.get("key_added", "X_umap")] = np.zeros((600, 2))
    assert pl.umap(embedded, latents=[latent]).shape == (1, 1)
