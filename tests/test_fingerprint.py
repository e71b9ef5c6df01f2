"""Results with changed representations, labels or cells are detected and recomputed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek, _keys, pl, tl
from indiseek_sc._fingerprint import CELLS, Place, find_changed, record_inputs, take_fingerprint
from indiseek_sc.report import write_report

from .model.make_saved_model import draw_cells

N = 120


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def cells() -> MuData:
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(N)]
    mods = {
        name: AnnData(np.ones((N, 1), np.float32), pd.DataFrame(index=names), pd.DataFrame(index=[f"{name}_1"]))
        for name in ("rna", "adt")
    }
    mdata = MuData(mods)
    kind = np.arange(N) % 3
    mdata.obs["cell_type"] = pd.Categorical(np.array(list("ABC"))[kind])
    mdata.obs["count"] = rng.integers(9, size=N)
    for key in (_keys.JOINT, *(latent(name) for latent in (_keys.shared, _keys.specific) for name in mods)):
        mdata.obsm[key] = 2 * rng.normal(size=(3, 3))[kind] + rng.normal(size=(N, 3))
    for name in mods:
        mdata[name].obsm["X_pca"] = rng.normal(size=(N, 4))
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2]
    mdata.obs[_keys.SPLIT] = pd.Categorical(np.array(["train", "validation", "test"])[rng.integers(3, size=N)])
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "rna", "adt": "adt"}}
    return mdata


PLACES = [
    Place("obsm", _keys.JOINT),
    Place("obsm", "X_pca", "rna"),
    Place("obs", "cell_type"),
    Place("obs", "count"),
    CELLS,
]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_fingerprint_depends_on_the_values(cells: MuData, place: Place, tmp_path) -> None:
    mark = take_fingerprint(cells, place)
    assert mark == take_fingerprint(cells.copy(), place)
    cells.write(tmp_path / "cells.h5mu")
    assert mark == take_fingerprint(mudata.read(tmp_path / "cells.h5mu"), place)
    assert mark != take_fingerprint(cells[::-1].copy(), place)
    assert mark != take_fingerprint(cells[:-1].copy(), place)
    cells.obs = cells.obs.iloc[:, ::-1].copy()
    assert mark == take_fingerprint(cells, place)


def test_deleted_inputs_count_as_changed(cells: MuData) -> None:
    record_inputs(cells, "result", PLACES)
    assert find_changed(cells, "result") == []
    assert find_changed(cells, "another") == []
    del cells.obsm[_keys.JOINT]
    cells.obs.loc["cell3", "cell_type"] = "C"
    assert list(map(str, find_changed(cells, "result"))) == [f"mdata.obsm[{_keys.JOINT!r}]", "the column 'cell_type'"]


def new_latents(mdata: MuData) -> None:
    for key in list(mdata.obsm):
        if key.startswith("X_indiseek"):
            mdata.obsm[key] = mdata.obsm[key] + 1.0


def new_labels(mdata: MuData) -> None:
    mdata.obs["cell_type"] = mdata.obs["cell_type"].to_numpy()[::-1]


RESULTS: dict[str, tuple[Callable, list[Callable]]] = {
    "theta": (
        lambda m: tl.modality_importance(m, "cell_type", n_bootstrap=5),
        [pl.importance_ranking, partial(pl.umap, color=_keys.THETA)],
    ),
    "retrieval": (lambda m: tl.retrieval(m), [pl.retrieval]),
    "clusters": (
        lambda m: tl.compare_clusters(m, "cell_type", latents=("joint", "shared"), n_repeats=2),
        [pl.cluster_agreement, pl.cluster_splits, partial(pl.umap, color=_keys.clusters("joint"))],
    ),
    "ranks": (
        lambda m: (tl.wnn_weights(m), tl.rank_correlation(m, "cell_type", n_bootstrap=5, minimum_cells=1)),
        [pl.rank_correlation],
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_figures_of_outdated_results_warn(cells: MuData, name: str, tmp_path) -> None:
    make, figures = RESULTS[name]

    def draw_without_a_word() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for draw in figures:
                draw(cells, show=False)

    make(cells)
    cells.write(tmp_path / "cells.h5mu")
    cells = mudata.read(tmp_path / "cells.h5mu")
    draw_without_a_word()
    for change in (new_latents, new_labels):
        change(cells)
        if name == "retrieval" and change is new_labels:
            draw_without_a_word()
            continue
        for draw in figures:
            with pytest.warns(
                UserWarning, match=r"is outdated: .*changed since it was computed. Call indiseek_sc\.tl\."
            ):
                draw(cells, show=False)
        make(cells)  # the remedy
        draw_without_a_word()


def test_report_recomputes_outdated_tables(cells: MuData, tmp_path) -> None:
    from indiseek_sc.report._compute import compute_missing

    tl.modality_importance(cells, "cell_type", n_neighbors=5, n_bootstrap=7)
    tl.compare_clusters(cells, "cell_type", latents=("joint", "shared"), n_repeats=2)
    new_latents(cells)
    cells.obsm[_keys.specific("rna")] = np.random.default_rng(1).normal(size=(N, 3))
    wanted = tl.modality_importance(cells.copy(), "cell_type", n_neighbors=5, n_bootstrap=7)
    failures = compute_missing(cells, "cell_type", None, None, compare=False, seed=3)
    pd.testing.assert_frame_equal(cells.uns[_keys.IMPORTANCE], wanted)
    assert _keys.CLUSTERS not in cells.uns  # too slow to recompute, and not shown
    assert "compare" in failures[_keys.CLUSTERS]
    path = tmp_path / "report.html"
    write_report(path, cells, label_key="cell_type")
    assert take_fingerprint(cells, Place("obsm", _keys.JOINT)) in path.read_text()


@pytest.fixture
def trained() -> IndiSeek:
    mdata = draw_cells()
    IndiSeek.setup_mudata(mdata, batch_key="donor")
    model = IndiSeek(mdata)
    model.train(1, enable_progress_bar=False, plan_kwargs={"n_critic_warmup_steps": 2})
    return model


@pytest.mark.slow
def test_older_umaps_are_recognised(trained: IndiSeek, tmp_path) -> None:
    mdata = trained.adata
    mdata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(mdata.n_obs, 2))
    trained.write_latents()
    with pytest.warns(UserWarning, match=r"obsm\['X_umap'\] was computed before the representations"):
        pl.umap(mdata, show=False)
    mdata.obsm["X_umap"] = mdata.obsm[_keys.JOINT][:, :2]  # as scanpy would
    trained.write_latents()  # unchanged
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pl.umap(mdata, show=False)
    other = IndiSeek(mdata, seed=1)
    other.train(1, enable_progress_bar=False, plan_kwargs={"n_critic_warmup_steps": 2})
    path = tmp_path / "report.html"
    other.report(path)
    assert "are not those of the present model" in path.read_text()
    other.write_latents()
    with pytest.warns(UserWarning, match="was computed before the representations"):
        pl.umap(mdata, show=False)
    other.report(path)
    assert "are not those of the present model" not in path.read_text()
    assert "was computed before the representations" in path.read_text()
