"""UMAPs computed in a separate process."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from anndata import AnnData

from indiseek_sc.cli._maps import MapMaker, map_latents


@pytest.fixture
def cells() -> AnnData:
    """Return 60 cells in two clusters, with two representations."""
    rng = np.random.default_rng(0)
    joint = rng.normal(size=(60, 3)) + 20 * (np.arange(60) < 30)[:, None]
    return AnnData(obsm={"joint": joint.astype(np.float32), "single": joint[:, :2].astype(np.float32)})


@pytest.mark.slow  # imports scanpy in a process
def test_process_returns_the_results_of_the_function(cells):
    with MapMaker() as maps:
        maps.begin(cells, "joint", ["single"], seed=1)
        expected = map_latents(cells.copy(), "joint", ["single"], seed=1)
        made = maps.finish()
    assert list(made.obs_names) == list(cells.obs_names)
    assert list(made.obs["leiden"]) == list(expected.obs["leiden"])
    assert len(set(zip(made.obs["leiden"], np.arange(60) < 30, strict=True))) == made.obs["leiden"].nunique() >= 2
    for key in ("X_umap", "single_umap"):
        np.testing.assert_array_equal(made.obsm[key], expected.obsm[key])
    assert (made.obsp["connectivities"] != expected.obsp["connectivities"]).nnz == 0
    assert maps._process.exitcode == 0


@pytest.mark.slow  # imports scanpy in a process
def test_errors_in_the_process_are_raised(cells):
    with MapMaker() as maps, pytest.raises(ValueError, match="no such representation"):
        maps.begin(cells, "no such representation", [], seed=0)
        maps.finish()


@pytest.mark.parametrize("is_begun", [False, True])
def test_the_process_ends_with_the_context(cells, is_begun):
    before = set(multiprocessing.active_children())
    with MapMaker() as maps:
        (started,) = set(multiprocessing.active_children()) - before
        if is_begun:
            maps.begin(cells, "joint", ["single"], seed=0)
    assert not started.is_alive()
    assert started not in multiprocessing.active_children()


def test_terminated_process_is_an_error(cells):
    with MapMaker() as maps:
        maps._process.kill()
        maps._process.join()
        maps.begin(cells, "joint", [], seed=0)
        with pytest.raises(RuntimeError, match="ended with code -9"):
            maps.finish()
