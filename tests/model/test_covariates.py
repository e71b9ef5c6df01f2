"""Covariates other than the batch: set-up, training, queries, files and messages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek, _keys
from indiseek_sc.data import find_covariates

from .conftest import all_latents, assert_equal_latents, fit

SETUP = {
    "batch_key": "batch",
    "categorical_covariate_keys": ["donor", "rna:kit"],
    "continuous_covariate_keys": ["age"],
}


def add_columns(mdata: MuData) -> MuData:
    """Add columns of uninformative covariates."""
    rng = np.random.default_rng(0)
    mdata = mdata.copy()
    mdata.obs["batch"] = mdata.obs["batch"].astype(str)
    mdata.obs["donor"] = rng.integers(0, 3, mdata.n_obs)  # numbers are levels too
    mdata["rna"].obs["kit"] = pd.Categorical(rng.choice(["v2", "v3"], mdata.n_obs))
    mdata.obs["age"] = rng.normal(50, 10, mdata.n_obs)
    return mdata


@pytest.fixture(scope="module")
def mdata(_pbmc_covid_once) -> MuData:
    return add_columns(_pbmc_covid_once[::10].copy())


@pytest.fixture(scope="module")
def model(mdata) -> IndiSeek:
    return fit(mdata, setup=SETUP)


def test_all_covariates_are_in_the_design(model, mdata):
    covariates = find_covariates(model.registry_)
    assert (covariates.batch, list(covariates.levels), covariates.values) == (
        "batch",
        ["batch", "donor", "rna:kit"],
        ["age"],
    )
    n_batches = mdata.obs["batch"].nunique()
    assert covariates.n_levels == [n_batches, 3, 2]
    assert model.module.n_condition == model.module.n_shared + n_batches + 3 + 2 + 1
    assert dict(model.summary_stats)["n_extra_categorical_covs"] == 2
    minibatch = next(iter(model._make_data_loader(mdata, indices=[0, 1], batch_size=2)))
    np.testing.assert_array_equal(minibatch["extra_categorical_covs"][:, 0], mdata.obs["donor"][:2])
    np.testing.assert_allclose(minibatch["extra_continuous_covs"][:, 0], mdata.obs["age"][:2], rtol=1e-6)


def test_covariates_are_named_in_uns(model, mdata):
    written = mdata.copy()
    model.write_latents(written)
    noted = written.uns[_keys.SETTINGS]
    assert list(noted["categorical_covariate_keys"]) == ["donor", "rna:kit"]
    assert list(noted["continuous_covariate_keys"]) == ["age"]


def test_covariates_are_saved(model, mdata, tmp_path):
    model.save(tmp_path / "model")
    loaded = IndiSeek.load(tmp_path / "model", adata=mdata.copy())
    assert_equal_latents(all_latents(model), all_latents(loaded))
    assert find_covariates(loaded.registry_) == find_covariates(model.registry_)


def test_levels_of_a_query_are_matched_by_name(model, mdata):
    query = mdata[:40].copy()
    query.obs["donor"] = pd.Categorical(query.obs["donor"].astype(str), categories=["2", "1", "0"])
    query["rna"].obs["kit"] = query["rna"].obs["kit"].astype(str)
    assert_equal_latents(all_latents(model, query), all_latents(model, mdata, indices=np.arange(40)))
    moved = mdata[:40].copy()
    moved.obs["age"] += 30
    latent = model.get_latent_representation(moved, kind="specific", modality="rna")
    assert not np.allclose(
        latent, model.get_latent_representation(kind="specific", modality="rna", indices=np.arange(40))
    )


def test_a_query_may_have_a_new_batch_but_no_new_donor(model, mdata):
    query = mdata[:200].copy()
    query.obs["batch"] = "new"
    later = IndiSeek.load_query_data(query, model)
    assert np.isfinite(later.get_latent_representation()).all()
    assert_equal_latents(all_latents(model), all_latents(later, mdata.copy()))
    query.obs["donor"] = "unknown"
    with pytest.raises(
        ValueError, match=r"categorical_covariate_keys: 200 cells of mdata.obs\['donor'\] are of levels"
    ):
        IndiSeek.load_query_data(query, model)


@pytest.mark.slow
def test_a_query_with_one_modality_needs_the_covariates(model, mdata):
    alone = MuData({"adt": mdata["adt"][:30].copy()})
    for column in ("batch", "donor", "age"):
        alone.obs[column] = mdata.obs[column]
    with pytest.raises(ValueError, match=r"set up with a covariate, but .*'rna:kit'.*Add the column"):
        model.predict_modality("adt", "rna", alone)
    alone.obs["kit"] = mdata["rna"].obs["kit"]
    predicted = model.predict_modality("adt", "rna", alone)
    assert np.isfinite(predicted.mean).all(axis=None)


def test_linear_effects_of_a_continuous_covariate_are_removed(mdata):
    """An effect in both modalities is not part of the shared representation."""
    rng = np.random.default_rng(1)
    cells = mdata.copy()
    cells.obs["depth"] = rng.uniform(-1, 1, cells.n_obs)
    for name in ("rna", "adt"):
        values = np.log1p(cells[name].X.toarray())
        cells[name].X = (values + np.outer(cells.obs["depth"], 2 * rng.normal(size=values.shape[1]))).astype(np.float32)
    explained = {}
    for given in ([], ["depth"]):
        with_it = fit(cells.copy(), setup={"continuous_covariate_keys": given}, train={"stages": ("shared",)})
        latent = with_it.get_latent_representation(kind="shared", modality="rna")
        table = np.column_stack([np.ones(len(latent)), latent])
        residual = cells.obs["depth"] - table @ np.linalg.lstsq(table, cells.obs["depth"], rcond=None)[0]
        explained[bool(given)] = 1 - residual.var() / cells.obs["depth"].var()
    assert explained[False] > 0.8
    assert explained[True] < 0.25


@pytest.mark.parametrize(
    ("change", "setup", "message"),
    [
        (
            None,
            {"categorical_covariate_keys": ["donr"]},
            r"categorical_covariate_keys='donr' is not a column.*Did you mean 'donor'",
        ),
        (None, {"categorical_covariate_keys": 3}, r"categorical_covariate_keys must be a list"),
        (None, {"batch_key": "donor", "categorical_covariate_keys": "donor"}, r"name 'donor' more than once"),
        (
            None,
            {"continuous_covariate_keys": "batch"},
            r"continuous_covariate_keys: mdata.obs\['batch'\] is not a finite number for 600 cells: '.*' for '.*categorical_covariate_keys",
        ),
        (
            ("donor", None),
            {"categorical_covariate_keys": ["donor"]},
            r"600 cells have no value in mdata.obs\['donor'\]",
        ),
        (
            ("age", np.inf),
            {"continuous_covariate_keys": ["age"]},
            r"\['age'\] is not a finite number for 600 cells: inf for '",
        ),
        (("age", np.nan), {"continuous_covariate_keys": ["age"]}, r"600 cells have no value in mdata.obs\['age'\]"),
        (None, {"batch_key": ["batch", "donor"]}, r"batch_key='batch', categorical_covariate_keys=\['donor'\]"),
    ],
)
def test_invalid_columns_are_rejected(mdata, change, setup, message):
    cells = mdata.copy()
    if change is not None:
        cells.obs[change[0]] = change[1]
    before = set(cells.obs), set(cells.obsm), set(cells.uns)
    with pytest.raises(ValueError, match=message):
        IndiSeek.setup_mudata(cells, **setup)
    assert (set(cells.obs), set(cells.obsm), set(cells.uns)) == before
