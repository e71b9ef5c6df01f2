"""Writing of a report: errors, cautions, warnings and restored data."""

from __future__ import annotations

import logging
import re
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from indiseek_sc import IndiSeek, _keys
from indiseek_sc.report import Material, write_report
from indiseek_sc.report._cautions import find_cautions
from indiseek_sc.report._compute import _compute_rank_correlation, measure_batch_mixing
from indiseek_sc.report._page import Citations
from indiseek_sc.report._pictures import Picture, draw_figures, list_pictures
from indiseek_sc.report._write import collected_warnings, restored

from .conftest import make_audit
from .page import Page


@pytest.mark.slow
def test_data_and_open_figures_are_restored(with_latents, tmp_path):
    obs, uns, obsm, open_before = (
        with_latents.obs.copy(),
        set(with_latents.uns),
        set(with_latents.obsm),
        plt.get_fignums(),
    )
    write_report(tmp_path / "report.html", with_latents, label_key="cell_type")
    pd.testing.assert_frame_equal(with_latents.obs, obs)
    assert (set(with_latents.uns), set(with_latents.obsm), plt.get_fignums()) == (uns, obsm, open_before)


def test_wnn_weights_use_the_features_of_the_model_without_principal_components(trained):
    mdata = trained.adata
    before = set(mdata.obsm)
    with restored(mdata):
        _compute_rank_correlation(mdata, "cell_type", trained, audit=None, seed=0)
        # Components that were used for so few cells.
        n_components = len(trained.module.transforms["rna"].used)
        assert mdata.uns[_keys.WNN]["n_dimensions"] == {"rna": min(n_components, 30), "adt": 18}
        assert set(mdata.uns[f"{_keys.RANK_CORRELATION}_labels"]["label"]) <= set(mdata.obs["cell_type"])
    assert set(mdata.obsm) == before
    assert _keys.WNN not in mdata.uns


def test_overwritten_and_deleted_values_are_restored(with_latents):
    kept = with_latents.obsm["X_umap"].copy()
    with restored(with_latents):
        with_latents.obsm["X_umap"] = np.zeros_like(kept)
        with_latents.obsm["X_new"] = kept
        del with_latents.obs["cell_type"]
    np.testing.assert_array_equal(with_latents.obsm["X_umap"], kept)
    assert "X_new" not in with_latents.obsm
    assert "cell_type" in with_latents.obs


def test_missing_representations_raise_an_error(pbmc_small, tmp_path):
    with pytest.raises(KeyError, match="indiseek-sc fit first"):
        write_report(tmp_path / "report.html", pbmc_small)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_of_tables_is_rejected_before_any_computation(with_latents, tmp_path):
    with pytest.raises(ValueError, match="tables: .*there is no such folder. Create it first"):
        write_report(tmp_path / "report.html", with_latents, tables=tmp_path / "tables")
    assert list(tmp_path.iterdir()) == []


def test_unknown_labels_are_rejected(with_latents, tmp_path):
    with pytest.raises(KeyError, match="label_key='type'"):
        write_report(tmp_path / "report.html", with_latents, label_key="type")


def test_an_untrained_model_raises_an_error(pbmc_small, tmp_path):
    IndiSeek.setup_mudata(pbmc_small)
    with pytest.raises(RuntimeError, match=r"model\.train\(\)"):
        IndiSeek(pbmc_small).report(tmp_path / "report.html")


def test_a_failing_figure_does_not_affect_others():
    def fail():
        plt.figure()
        raise ValueError("too few cells")

    picture = Picture("x", "latents", "X", "Caption.", fail)
    (figure,) = draw_figures([picture])
    assert (figure.rows, figure.svg, figure.missing) == ((), "", "too few cells")
    assert plt.get_fignums() == []


def test_reasons_for_missing_tables_are_in_the_page(with_latents, tmp_path):
    with_latents.obs["cell_type"] = pd.Categorical([None] * with_latents.n_obs, categories=["a"])
    write_report(tmp_path / "none.html", with_latents, label_key="cell_type")
    assert "must have at least 2 labels" in Page(tmp_path / "none.html").text


def test_figures_are_drawable_when_their_tables_exist(with_latents):
    material = Material(with_latents, "cells")
    drawable = {picture.name for picture in list_pictures(material) if not picture.missing}
    assert drawable == {"umap-0"}
    for key in (_keys.IMPORTANCE, _keys.RANK_CORRELATION, _keys.RETRIEVAL, _keys.DIMENSIONS, _keys.CLUSTERS):
        with_latents.uns[key] = pd.DataFrame()
    lacking = {picture.name for picture in list_pictures(material) if picture.missing}
    assert lacking == {"attribution-rna", "attribution-adt", "audit", "prediction-0", "history"}


def test_cautions(with_latents):
    cautions = find_cautions(Material(with_latents, "cells", audit=make_audit()))
    # An undefined figure misses no aim.
    assert [caution for caution in cautions if "gain" in caution] == []
    with_latents.obs[_keys.SPLIT] = "train"
    assert any("No cells were held out" in caution for caution in find_cautions(Material(with_latents, "cells")))
    assert any("were not audited" in caution for caution in find_cautions(Material(with_latents, "cells")))
    labels = find_cautions(Material(with_latents, "cells", "leiden"))
    with_latents.uns[_keys.IMPORTANCE] = pd.DataFrame({"label": ["0"], "theta": [0.0], "reliable": [True]})
    assert len(find_cautions(Material(with_latents, "cells", "leiden"))) == len(labels) + 1


def test_a_small_leak_larger_than_chance_raises_a_caution(with_latents):
    audit = make_audit()
    material = Material(with_latents, "cells", audit=audit)
    (caution,) = (caution for caution in find_cautions(material) if "larger than chance" in caution)
    # The leak of rna misses its aim and so has another caution.
    assert caution.startswith(
        "The leak of adt (1\N{NO-BREAK SPACE}% of what its features explain, permutation p = 0.001) is small"
    )
    audit.table["leak_p"] = 0.2
    assert not any("larger than chance" in caution for caution in find_cautions(material))


@pytest.mark.parametrize(
    ("claims", "is_expected"), [(["neither", "neither", "rna"], True), (["neither", "adt", "rna"], False)]
)
def test_theta_near_chance_raises_a_caution(with_latents, claims, is_expected):
    table = pd.DataFrame({"label": list("abc"), "theta": 0.0, "reliable": True, "claim": claims})
    with_latents.uns[_keys.IMPORTANCE] = table
    assert (
        any("theta is near chance" in caution for caution in find_cautions(Material(with_latents, "cells")))
        == is_expected
    )


def test_labels_with_separated_batches_are_named(with_latents):
    rng = np.random.default_rng(0)
    facts = SimpleNamespace(batch_key="run", cautions=[], predictions={})
    with_latents.obs["run"] = rng.choice(["a", "b"], size=with_latents.n_obs)
    with_latents.obs["type"] = np.where(np.arange(with_latents.n_obs) % 2, "mixed", "apart")
    with_latents.obsm[_keys.JOINT] = rng.normal(size=(with_latents.n_obs, 3))
    moved = ((with_latents.obs["run"] == "a") & (with_latents.obs["type"] == "apart")).to_numpy()
    with_latents.obsm[_keys.JOINT][moved] += 6
    material = Material(
        with_latents, "cells", "type", facts=facts, mixing=measure_batch_mixing(with_latents, "type", "run", seed=0)
    )
    (caution,) = (caution for caution in find_cautions(material) if "Batch structure" in caution)
    assert "within 1 of 2 labels" in caution
    assert "apart (100%, 50% by chance)" in caution or "apart (100%, 51% by chance)" in caution
    assert measure_batch_mixing(with_latents, None, "run", seed=0) is None


def test_separated_batches_raise_a_caution(with_latents):
    rng = np.random.default_rng(0)
    material = Material(with_latents, "cells", facts=SimpleNamespace(batch_key="run", cautions=[], predictions={}))
    with_latents.obs["run"] = rng.choice(["a", "b"], size=with_latents.n_obs)
    assert not any("are separated" in caution for caution in find_cautions(material))
    with_latents.obsm[_keys.JOINT][:, 0] += 50 * (with_latents.obs["run"] == "a").to_numpy()
    (caution,) = (caution for caution in find_cautions(material) if "are separated" in caution)
    assert "100% (joint)" in caution
    share = float(re.search(r"(\d+)% \(rna-specific\)", caution).group(1))
    assert abs(share - 50) < 10  # chance level of two batches
    assert "cell types that occur in one batch only" in caution


def test_warnings_are_collected_once():
    logger, handlers = logging.getLogger("scvi.indiseek_sc"), logging.getLogger("scvi").handlers
    with collected_warnings() as collected:
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("too  few\ncells", UserWarning, stacklevel=1)
        warnings.warn("soon gone", FutureWarning, stacklevel=1)
        logger.warning("careful")
        logger.info("by the way")
    assert collected == ["too few cells", "careful"]
    assert logging.getLogger("scvi").handlers == handlers


def test_references_are_numbered_in_the_order_of_citation():
    cite = Citations()
    assert [cite("scanpy"), cite("umap"), cite("scanpy")] == ["[1]", "[2]", "[1]"]
    assert [work.text.split()[0] for work in cite.works] == ["Wolf", "McInnes"]
