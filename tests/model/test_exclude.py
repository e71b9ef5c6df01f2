"""Proteins that are excluded from the model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from mudata import MuData, read_h5mu

from indiseek_sc import IndiSeek, tl
from indiseek_sc.data import read_input

from .conftest import all_latents, assert_equal_latents, fit

CONTROLS = ["IgG1Kiso", "IgG2aKiso", "IgG2bKiso", "ratIgG2bKiso"]


def names_read(model: IndiSeek) -> list[str]:
    return read_input(model.registry_, "adt")[1]["column_names"].tolist()


def set_up(mdata: MuData, **arguments) -> IndiSeek:
    IndiSeek.setup_mudata(mdata, **arguments)
    return IndiSeek(mdata)


@pytest.fixture
def panel(pbmc_small: MuData) -> MuData:
    """Return cells with a protein that is 0 in all cells and four isotype controls."""
    values = pbmc_small["adt"].X.tolil()
    values[:, list(pbmc_small["adt"].var_names).index("CD19")] = 0
    pbmc_small["adt"].X = values.tocsr()
    return pbmc_small


def test_controls_and_empty_proteins_are_excluded_and_logged(panel: MuData, messages: pytest.LogCaptureFixture):
    model = set_up(panel)
    assert names_read(model) == [name for name in panel["adt"].var_names if name not in [*CONTROLS, "CD19"]]
    assert model.summary_stats.n_adt == model.module.transforms["adt"].n_input == 187
    assert panel["adt"].n_vars == 192
    (line,) = [record.message for record in messages.records if "left out" in record.message]
    assert line.startswith("adt: left out of the representations: 4 isotype controls ('IgG1Kiso', ")
    assert "1 empty ('CD19'); exclude=() would keep them." in line


def test_exclude_overrides_the_default(panel: MuData):
    assert names_read(set_up(panel, exclude=())) == panel["adt"].var_names.tolist()
    assert names_read(set_up(panel, exclude=["CD3"])) == [name for name in panel["adt"].var_names if name != "CD3"]


def test_invalid_names_change_nothing(panel: MuData):
    for wrong, error, message in (
        (["cd3"], ValueError, "exclude: there is no 'cd3'. Did you mean 'CD3'"),
        ("CD3", TypeError, r"must be a list of names: exclude=\['CD3'\]"),
        (panel["adt"].var_names.tolist(), ValueError, "no feature of .* is left"),
    ):
        with pytest.raises(error, match=message):
            IndiSeek.setup_mudata(panel, exclude=wrong)
    panel.obsm["X_adt"] = panel["adt"].X[:, :5].toarray()
    with pytest.raises(ValueError, match="is a representation"):
        IndiSeek.setup_mudata(panel, adt_obsm_key="X_adt", exclude=["CD3"])
    assert "_scvi_batch" not in panel.obs


def test_excluded_proteins_have_no_influence_and_may_be_missing(pbmc_small: MuData, tmp_path):
    model = fit(pbmc_small)
    latents = all_latents(model)
    model.save(tmp_path / "model")
    without = MuData({"rna": pbmc_small["rna"], "adt": pbmc_small["adt"][:, names_read(model)].copy()})
    changed = pbmc_small.copy()
    factor = np.where(changed["adt"].var_names.isin(CONTROLS), 50, 1)
    changed["adt"].X = sp.csr_matrix(changed["adt"].X.multiply(factor), dtype=np.float32)
    for query in (without, changed):
        assert_equal_latents(latents, all_latents(model, query))
        loaded = IndiSeek.load(tmp_path / "model", adata=query)
        assert_equal_latents(latents, all_latents(loaded))
        assert loaded.split.train.size == model.split.train.size
    table = model.feature_attribution(modality="adt", kind="shared", max_cells=50)
    assert not set(CONTROLS) & set(table["feature"])
    tl.write_attribution(pbmc_small, table)
    assert pbmc_small["adt"].varm["indiseek_shared"].shape[0] == 192


def test_a_backed_file_is_read_without_excluded_proteins(pbmc_small: MuData, tmp_path):
    pbmc_small.write_h5mu(tmp_path / "cells.h5mu")
    backed = read_h5mu(tmp_path / "cells.h5mu", backed="r")
    IndiSeek.setup_mudata(backed)
    source = read_input(IndiSeek(backed).registry_, "adt")[0]
    expected = pbmc_small["adt"][:, source.get_feature_names(backed)].X
    np.testing.assert_array_equal(source.get_values(backed)[:].toarray(), expected.toarray())
    backed.file.close()


# --- panels that differ by batch ------------------------------------------------------------------


def lose(mdata: MuData, names: list[str], value: float) -> tuple[MuData, str]:
    """Set proteins of the first batch to a value, as if they had not been measured."""
    first = mdata.obs["batch"].astype(str).iloc[0]
    values = mdata["adt"].X.toarray().astype(np.float32)
    rows = np.flatnonzero(mdata.obs["batch"].astype(str) == first)
    values[np.ix_(rows, mdata["adt"].var_names.get_indexer(names))] = value
    mdata["adt"].X = values
    return mdata, first


def test_proteins_with_nan_are_named_with_a_working_remedy(pbmc_small: MuData):
    mdata, first = lose(pbmc_small, ["CD3", "CD19"], np.nan)
    mdata["adt"].X[0] = 1.0  # values in one cell of the batch show that its panel contains them
    with pytest.raises(
        ValueError, match=f"in 2 of 192 proteins, and in .* cells of the batches '{first}'. Leave"
    ) as error:
        IndiSeek.setup_mudata(mdata, batch_key="batch")
    assert "They are in" in str(error.value)
    remedy = str(error.value).partition("Leave these out: ")[2].partition(";")[0]
    names = eval(f"dict({remedy})")["exclude"]
    assert set(names) == {"CD3", "CD19", *CONTROLS}
    IndiSeek.setup_mudata(mdata, batch_key="batch", exclude=names)
    model = IndiSeek(mdata)
    assert not {"CD3", "CD19"} & set(names_read(model))
    model.train(1, enable_progress_bar=False)
    model.write_latents()
    assert np.isfinite(mdata.obsm["X_indiseek"]).all()
    # Without batches, or if all proteins are affected, the message is shorter.
    with pytest.raises(ValueError, match=r"They are in 2 of 192 proteins\. Leave these out"):
        IndiSeek.setup_mudata(mdata)
    mdata["adt"].X[0] = np.nan
    with pytest.raises(ValueError, match="Remove these cells or features, or fill the values in"):
        IndiSeek.setup_mudata(mdata, batch_key="batch")


def test_proteins_that_are_0_in_one_batch_cause_a_warning(pbmc_small: MuData):
    mdata, first = lose(pbmc_small, ["CD3", "CD19"], 0.0)
    with pytest.warns(
        UserWarning, match=f"2 proteins are 0 in all cells of a batch .*\\({first}: 'CD3', 'CD19'\\)"
    ) as caught:
        IndiSeek.setup_mudata(mdata, batch_key="batch")
    (message,) = [str(warning.message) for warning in caught if "its panel" in str(warning.message)]
    names = eval(f"dict({message.partition('leave them out: ')[2].partition(';')[0]})")["exclude"]
    assert set(names) == {"CD3", "CD19", *CONTROLS}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        IndiSeek.setup_mudata(mdata, batch_key="batch", exclude=names)
