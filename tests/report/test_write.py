"""What writing a report does beside the page."""

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
from indiseek_sc.report._compute import _correlate, mix_batches
from indiseek_sc.report._page import Citations
from indiseek_sc.report._pictures import Picture, draw_figures, list_pictures
from indiseek_sc.report._write import gathered_warnings, unchanged

from .conftest import make_audit
from .page import Page


def test_the_data_and_pyplot_are_left_as_they_were(coded, tmp_path):
    obs, uns, obsm, open_before = coded.obs.copy(), set(coded.uns), set(coded.obsm), plt.get_fignums()
    write_report(tmp_path / "report.html", coded, label_key="cell_type")
    pd.testing.assert_frame_equal(coded.obs, obs)
    assert (set(coded.uns), set(coded.obsm), plt.get_fignums()) == (uns, obsm, open_before)


def test_weights_come_from_what_the_model_reads_where_there_are_no_components(trained):
    mdata = trained.adata
    before = set(mdata.obsm)
    with unchanged(mdata):
        _correlate(mdata, "cell_type", trained, audit=None, seed=0)
        n_components = len(trained.module.transforms["rna"].used)  # those that hold in so few cells
        assert mdata.uns[_keys.WNN]["n_dimensions"] == {"rna": min(n_components, 30), "adt": 18}
        assert set(mdata.uns[f"{_keys.RANK_CORRELATION}_labels"]["label"]) <= set(mdata.obs["cell_type"])
    assert set(mdata.obsm) == before
    assert _keys.WNN not in mdata.uns


def test_what_was_overwritten_or_deleted_is_put_back(coded):
    kept = coded.obsm["X_umap"].copy()
    with unchanged(coded):
        coded.obsm["X_umap"] = np.zeros_like(kept)
        coded.obsm["X_new"] = kept
        del coded.obs["cell_type"]
    np.testing.assert_array_equal(coded.obsm["X_umap"], kept)
    assert "X_new" not in coded.obsm
    assert "cell_type" in coded.obs


def test_without_representations_the_error_says_to_fit_first(pbmc_small, tmp_path):
    with pytest.raises(KeyError, match="indiseek-sc fit first"):
        write_report(tmp_path / "report.html", pbmc_small)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_tables_that_is_not_there_is_told_before_the_work(coded, tmp_path):
    with pytest.raises(ValueError, match="tables: .*there is no such folder. Make it first"):
        write_report(tmp_path / "report.html", coded, tables=tmp_path / "tables")
    assert list(tmp_path.iterdir()) == []


def test_unknown_labels_are_told(coded, tmp_path):
    with pytest.raises(KeyError, match="label_key='type'"):
        write_report(tmp_path / "report.html", coded, label_key="type")


def test_an_untrained_model_has_no_report(pbmc_small, tmp_path):
    IndiSeek.setup_mudata(pbmc_small)
    with pytest.raises(RuntimeError, match=r"model\.train\(\)"):
        IndiSeek(pbmc_small).report(tmp_path / "report.html")


def test_a_picture_that_fails_costs_that_picture_alone():
    def fail():
        plt.figure()
        raise ValueError("too few cells")

    picture = Picture("x", "latents", "X", "Look.", fail)
    (figure,) = draw_figures([picture])
    assert (figure.rows, figure.svg, figure.missing) == ((), "", "too few cells")
    assert plt.get_fignums() == []


def test_why_a_table_could_not_be_made_is_in_the_page(coded, tmp_path):
    coded.obs["cell_type"] = pd.Categorical([None] * coded.n_obs, categories=["a"])
    write_report(tmp_path / "none.html", coded, label_key="cell_type")
    assert "must have at least 2 labels" in Page(tmp_path / "none.html").text


def test_all_pictures_can_be_drawn_where_everything_is_there(coded):
    material = Material(coded, "cells")
    drawable = {picture.name for picture in list_pictures(material) if not picture.missing}
    assert drawable == {"umap-0"}
    for key in (_keys.IMPORTANCE, _keys.RANK_CORRELATION, _keys.RETRIEVAL, _keys.DIMENSIONS, _keys.CLUSTERS):
        coded.uns[key] = pd.DataFrame()
    lacking = {picture.name for picture in list_pictures(material) if picture.missing}
    assert lacking == {"attribution-rna", "attribution-adt", "audit", "prediction-0", "history"}


def test_cautions(coded):
    cautions = find_cautions(Material(coded, "cells", audit=make_audit()))
    assert [caution for caution in cautions if "gain" in caution] == []  # what is not defined misses no aim
    coded.obs[_keys.SPLIT] = "train"
    assert any("No cells were held out" in caution for caution in find_cautions(Material(coded, "cells")))
    assert any("were not audited" in caution for caution in find_cautions(Material(coded, "cells")))
    labels = find_cautions(Material(coded, "cells", "leiden"))
    coded.uns[_keys.IMPORTANCE] = pd.DataFrame({"label": ["0"], "theta": [0.0], "reliable": [True]})
    assert len(find_cautions(Material(coded, "cells", "leiden"))) == len(labels) + 1


def test_a_small_leak_that_is_larger_than_chance_is_told(coded):
    audit = make_audit()
    material = Material(coded, "cells", audit=audit)
    (caution,) = (caution for caution in find_cautions(material) if "larger than chance" in caution)
    # That of rna misses its aim.
    assert caution.startswith(
        "The leak of adt (1\N{NO-BREAK SPACE}% of what its features explain, permutation p = 0.001) is small"
    )
    audit.table["leak_p"] = 0.2
    assert not any("larger than chance" in caution for caution in find_cautions(material))


@pytest.mark.parametrize(
    ("claims", "is_told"), [(["neither", "neither", "rna"], True), (["neither", "adt", "rna"], False)]
)
def test_theta_near_chance_is_told(coded, claims, is_told):
    table = pd.DataFrame({"label": list("abc"), "theta": 0.0, "reliable": True, "claim": claims})
    coded.uns[_keys.IMPORTANCE] = table
    assert any("theta is near chance" in caution for caution in find_cautions(Material(coded, "cells"))) == is_told


def test_labels_within_which_batches_lie_apart_are_named(coded):
    rng = np.random.default_rng(0)
    facts = SimpleNamespace(batch_key="run", cautions=[], predictions={})
    coded.obs["run"] = rng.choice(["a", "b"], size=coded.n_obs)
    coded.obs["type"] = np.where(np.arange(coded.n_obs) % 2, "mixed", "apart")
    coded.obsm[_keys.JOINT] = rng.normal(size=(coded.n_obs, 3))
    moved = ((coded.obs["run"] == "a") & (coded.obs["type"] == "apart")).to_numpy()
    coded.obsm[_keys.JOINT][moved] += 6
    material = Material(coded, "cells", "type", facts=facts, mixing=mix_batches(coded, "type", "run", seed=0))
    (caution,) = (caution for caution in find_cautions(material) if "Batch structure" in caution)
    assert "within 1 of 2 labels" in caution
    assert "apart (100%, 50% by chance)" in caution or "apart (100%, 51% by chance)" in caution
    assert mix_batches(coded, None, "run", seed=0) is None


def test_batches_that_lie_apart_are_told_and_others_not(coded):
    rng = np.random.default_rng(0)
    material = Material(coded, "cells", facts=SimpleNamespace(batch_key="run", cautions=[], predictions={}))
    coded.obs["run"] = rng.choice(["a", "b"], size=coded.n_obs)
    assert not any("lie apart" in caution for caution in find_cautions(material))
    coded.obsm[_keys.JOINT][:, 0] += 50 * (coded.obs["run"] == "a").to_numpy()
    (caution,) = (caution for caution in find_cautions(material) if "lie apart" in caution)
    assert "100% (joint)" in caution
    share = float(re.search(r"(\d+)% \(rna-specific\)", caution).group(1))
    assert abs(share - 50) < 10  # two batches, of which this representation tells nothing
    assert "kinds of cells that only one batch has" in caution


def test_warnings_are_gathered_once_and_nothing_else():
    logger, loudest = logging.getLogger("scvi.indiseek_sc"), logging.getLogger("scvi").handlers
    with gathered_warnings() as told:
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("too  few\ncells", UserWarning, stacklevel=1)
        warnings.warn("soon gone", FutureWarning, stacklevel=1)
        logger.warning("careful")
        logger.info("by the way")
    assert told == ["too few cells", "careful"]
    assert logging.getLogger("scvi").handlers == loudest


def test_works_are_numbered_in_the_order_of_their_citation():
    cite = Citations()
    assert [cite("scanpy"), cite("umap"), cite("scanpy")] == ["[1]", "[2]", "[1]"]
    assert [work.text.split()[0] for work in cite.works] == ["Wolf", "McInnes"]
