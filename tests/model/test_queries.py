"""Query cells: features matched by name, one modality alone, and cells that lack a modality."""

from __future__ import annotations

import warnings

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek, _keys, tl
from indiseek_sc.data import MAX_MISSING
from indiseek_sc.model._cells import find_cells

from .conftest import all_latents, assert_equal_latents, fit

N_QUERY = 80


def change(mdata: MuData, name: str, order: np.ndarray | list[str], n_cells: int = N_QUERY) -> MuData:
    """Return the first cells, with selected features of one modality."""
    parts = {modality: adata[:n_cells].copy() for modality, adata in mdata.mod.items()}
    parts[name] = parts[name][:, order].copy()
    return MuData(parts)


def in_use(model: IndiSeek, name: str) -> np.ndarray:
    """Return the names of the features that the encoders read."""
    role = next(role for role, modality in model.modalities.items() if modality == name)
    return model.get_var_names()[name][model.module.transforms[role].features.numpy()]


# --- by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rna", "adt"])
def test_order_and_additional_features_have_no_influence(fitted, name, messages):
    model, mdata = fitted
    query = change(mdata, name, np.arange(mdata[name].n_vars)[::-1])
    others = ad.AnnData(np.full((N_QUERY, 3), 50.0, np.float32), query[name].obs[[]], pd.DataFrame(index=list("xyz")))
    query = MuData({**query.mod, name: ad.concat([others, query[name]], axis=1)})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        latents = all_latents(model, query)
    for kind, latent in all_latents(model, indices=np.arange(N_QUERY)).items():
        np.testing.assert_allclose(latents[kind], latent, atol=2e-5, err_msg=kind)
    logged = [record.message for record in messages.records if "by name" in record.message]
    assert len(logged) == 1  # once, not at each call
    assert logged[0].endswith("not read: 'x', 'y', 'z'.")
    other = {"rna": "adt", "adt": "rna"}[name]
    for source in ("rna", "adt"):
        expected = model.predict_modality(source, other if source == name else name, indices=np.arange(N_QUERY)).mean
        found = model.predict_modality(source, other if source == name else name, query).mean
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["rna", "adt"])
def test_missing_features_are_set_to_the_training_mean(fitted, name):
    """Missing features have the training mean, and the others hardly change."""
    model, mdata = fitted
    names, used = mdata[name].var_names, in_use(model, name)
    lacking = used[::8]
    query = change(mdata, name, list(names[~names.isin(lacking)]))
    with pytest.warns(
        UserWarning,
        match=f"{len(lacking):,} .* of the model are missing.*They are set to their means over training cells",
    ) as caught:
        features = model.get_features(query, modality=name)
    assert len([warning for warning in caught if "missing" in str(warning.message)]) == 1
    expected = model.get_features(modality=name, indices=np.arange(N_QUERY))
    if name == "adt":
        is_missing = np.isin(used, lacking)
        assert (features[:, is_missing] == 0).all()
        # The geometric mean of a cell is estimated from seven eighths of its proteins.
        np.testing.assert_allclose(features[:, ~is_missing], expected[:, ~is_missing], atol=0.15)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(features.T[:5], expected.T[:5], strict=True) if a.std() > 0]
    assert min(correlation) > 0.9
    latent = model.get_latent_representation(query, kind="shared", modality=name)
    whole = model.get_latent_representation(kind="shared", modality=name, indices=np.arange(N_QUERY))
    assert np.corrcoef(latent.ravel(), whole.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("which", ["many counts", "few counts"])
def test_normalisation_does_not_depend_on_missing_features(fitted, which):
    """Missing features with most or fewest counts do not shift library sizes and log-ratios."""
    model, mdata = fitted
    for name in ("rna", "adt"):
        used, transform = in_use(model, name), model.module.transforms[name]
        counts = np.asarray(mdata[name][:, used].X.sum(axis=0)).ravel()
        order = np.argsort(counts if which == "few counts" else -counts)
        lacking = used[order[: int(0.15 * used.size)]]
        query = change(mdata, name, list(mdata[name].var_names[~mdata[name].var_names.isin(lacking)]), mdata.n_obs)
        with pytest.warns(UserWarning, match="missing"):
            features = model.get_features(query, modality=name)
        expected = model.get_features(modality=name)
        shift = np.abs((features - expected).mean(axis=0)).max() / expected.std(axis=0).max()
        assert shift < 0.15, name
        assert transform.n_input == mdata[name].n_vars or name == "adt"


def test_too_many_missing_features_are_rejected_with_a_working_remedy(fitted):
    model, mdata = fitted
    used = in_use(model, "adt")
    query = change(mdata, "adt", list(used[used.size // 3 :]))
    calls = {
        "get_latent_representation": lambda **more: model.get_latent_representation(query, **more),
        "get_features": lambda **more: model.get_features(query, modality="adt", **more),
        "get_reconstruction": lambda **more: model.get_reconstruction(query, modality="adt", **more),
        "predict_modality": lambda **more: model.predict_modality("adt", "rna", query, **more),
        "feature_attribution": lambda **more: model.feature_attribution(query, modality="adt", max_cells=5, **more),
        "write_latents": lambda **more: model.write_latents(query, **more),
    }
    for name, call in calls.items():
        with pytest.raises(
            ValueError, match=rf"\(33%, more than max_missing=0.2\): '{used[0]}'.*max_missing=0.33"
        ) as error:
            call()
        assert not query.obsm.keys() - query.mod.keys(), name
        allowed = float(str(error.value).rpartition("max_missing=")[2].rstrip("."))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            call(max_missing=allowed)
    with pytest.raises(ValueError, match="max_missing must be a number"):
        model.get_latent_representation(query, max_missing="all")
    assert MAX_MISSING == 0.2


def test_unused_genes_may_be_missing(pbmc_small):
    model = fit(pbmc_small, n_top_genes=200)
    used = in_use(model, "rna")
    query = change(pbmc_small, "rna", list(used), pbmc_small.n_obs)
    with pytest.warns(UserWarning, match=r"800 of the 1,000 genes .* missing, 0 of them among the 200 in use \(0%\)"):
        latent = model.get_latent_representation(query, kind="shared", modality="rna")
    whole = model.get_latent_representation(kind="shared", modality="rna")
    assert np.corrcoef(latent.ravel(), whole.ravel())[0, 1] > 0.9


def test_a_model_loaded_with_missing_features_encodes_but_does_not_train(fitted, tmp_path):
    model, mdata = fitted
    model.save(tmp_path / "model")
    query = change(mdata, "rna", list(in_use(model, "rna")[5:]))
    with pytest.warns(UserWarning, match="5 of the 1,000 genes"):
        loaded = IndiSeek.load(tmp_path / "model", adata=query)
    assert loaded.get_latent_representation().shape[0] == N_QUERY
    with pytest.raises(ValueError, match="5 are missing .*more than max_missing=0"):
        loaded.train(1)
    loaded.save(tmp_path / "again")
    assert len(IndiSeek.load(tmp_path / "again", adata=False).get_var_names()["rna"]) == 1000


# --- one modality alone ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rna", "adt"])
def test_one_modality_alone_is_represented(fitted, name, tmp_path):
    model, mdata = fitted
    query = MuData({name: mdata[name][:N_QUERY].copy()})
    expected = all_latents(model, indices=np.arange(N_QUERY))
    for kind in ("shared", "specific"):
        latent = model.get_latent_representation(query, kind=kind, modality=name)
        np.testing.assert_allclose(latent, expected[f"{kind}_{name}"], atol=2e-5)
    assert np.isfinite(model.get_reconstruction(query, modality=name)).all()
    other = {"rna": "adt", "adt": "rna"}[name]
    with pytest.raises(ValueError, match=f"no modality '{other}' in mdata"):
        model.get_latent_representation(query)
    with pytest.raises(ValueError, match=f"no modality '{other}' in mdata"):
        model.get_latent_representation(query, kind="shared", modality=other)
    model.write_latents(query)
    assert set(query.obsm) - {name} == {_keys.shared(name), _keys.specific(name)}
    assert query.obs[_keys.has(name)].all()
    assert not query.obs[_keys.has(other)].any()
    model.save(tmp_path / "model", overwrite=True)
    alone = IndiSeek.load(tmp_path / "model", adata=False)
    again = MuData({name: mdata[name][:N_QUERY].copy()})
    assert_equal_latents(
        {"shared": alone.get_latent_representation(again, kind="shared", modality=name)},
        {"shared": query.obsm[_keys.shared(name)]},
    )


# --- cells with one modality ----------------------------------------------------------------------


def hide(mdata: MuData) -> MuData:
    """Remove proteins from a quarter of the cells and RNA from another; reorder one modality."""
    number = np.arange(mdata.n_obs)
    made = MuData(
        {"rna": mdata["rna"][number % 4 != 1].copy(), "adt": mdata["adt"][number[number % 4 != 2][::-1]].copy()}
    )
    for column in ("cell_type", "batch"):
        made.obs[column] = mdata.obs[column].reindex(made.obs_names)
    return made


@pytest.fixture(scope="module")
def mosaic(_pbmc_covid_once) -> tuple[IndiSeek, MuData, MuData]:
    whole = _pbmc_covid_once[::6].copy()
    mdata = hide(whole)
    return fit(mdata, setup={"batch_key": "batch"}, train={"held_out": np.arange(0, mdata.n_obs, 5)}), mdata, whole


def test_a_mosaic_trains_on_the_cells_with_both(mosaic):
    model, mdata, whole = mosaic
    paired = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    assert len(paired) == whole.n_obs // 2
    assert set(model.split_["cells"]) == set(paired)
    assert model.split.n_cells == len(paired)
    assert set(mdata.obs_names[model.split.test]) == set(paired) & set(mdata.obs_names[::5])


def test_representations_of_missing_modalities_are_nan(mosaic, messages):
    model, mdata, whole = mosaic
    model.write_latents()
    has = {name: mdata.obs_names.isin(mdata[name].obs_names) for name in ("rna", "adt")}
    expected = all_latents(model, whole)
    place = whole.obs_names.get_indexer(mdata.obs_names)
    for name, of in has.items():
        np.testing.assert_array_equal(mdata.obs[_keys.has(name)], of)
        for kind, key in (("shared", _keys.shared(name)), ("specific", _keys.specific(name))):
            latent = mdata.obsm[key]
            assert np.isnan(latent[~of]).all()
            np.testing.assert_allclose(latent[of], expected[f"{kind}_{name}"][place[of]], atol=2e-5)
            rows = model.get_latent_representation(kind=kind, modality=name, indices=[3, 2])
            np.testing.assert_allclose(rows, latent[[3, 2]], atol=2e-5)
    both = has["rna"] & has["adt"]
    np.testing.assert_allclose(mdata.obsm[_keys.JOINT][both], expected["joint"][place[both]], atol=2e-5)
    assert np.isnan(mdata.obsm[_keys.JOINT][~both]).all()
    assert mdata.obs[_keys.SPLIT].isna().to_numpy()[~both].all()
    logged = [
        record.message
        for record in messages.records
        if "Representations that need a missing modality are NaN" in record.message
    ]
    assert logged == [
        f"Of {mdata.n_obs:,} cells not all have both modalities: {has['rna'].sum()} (obs['indiseek_has_rna']); "
        f"{has['adt'].sum()} (obs['indiseek_has_adt']). Representations that need a missing modality are NaN."
    ]
    model.write_latents(whole)
    assert not {_keys.has("rna"), _keys.has("adt")} & set(whole.obs)


@pytest.mark.slow  # audits and attributes
def test_all_methods_accept_a_mosaic(mosaic, tmp_path):
    model, mdata, _ = mosaic
    model.train_prediction(2, enable_progress_bar=False)
    lone = ~find_cells(model, mdata, ["adt"])
    predicted = model.predict_modality("rna", "adt", indices=mdata.obs_names[lone])
    assert np.isfinite(predicted.mean.to_numpy()).all()
    assert model.audit_prediction("rna", "adt").table.notna().all(axis=None)
    assert np.isfinite(model.audit().table.to_numpy(dtype=float)).all()
    model.train({"specific": 1, "decoder": 1}, stages=("specific",), enable_progress_bar=False)
    assert np.isfinite(model.feature_attribution(modality="rna", max_cells=20)["attribution"]).all()
    model.write_latents()
    assert tl.modality_importance(mdata, "cell_type", n_bootstrap=5)["theta"].notna().any()
    assert tl.retrieval(mdata)["n_cells"].tolist() == [model.split.test.size] * 2
    model.report(tmp_path / "report.html", label_key="cell_type")
    model.save(tmp_path / "model", overwrite=True)
    loaded = IndiSeek.load(tmp_path / "model", adata=mdata)
    np.testing.assert_array_equal(loaded.split.test, model.split.test)


def test_set_up_logs_cells_that_lack_a_modality(_pbmc_covid_once, messages):
    mdata = hide(_pbmc_covid_once[::30].copy())
    IndiSeek.setup_mudata(mdata)
    (line,) = [record.message for record in messages.records if "not every cell" in record.message]
    assert "50 lack 'rna'" in line
    assert "50 lack 'adt'" in line
    assert line.endswith("The model is trained on the 100 cells with both.")


@pytest.mark.slow
def test_a_real_mosaic(shared_data):
    mdata = mudata.read_h5mu(shared_data / "quickstart_pbmc_mosaic.h5mu")
    model = fit(mdata, train={"held_out": None})
    assert model.split.n_cells == 800
    model.write_latents()
    finite = {key: np.isfinite(mdata.obsm[key]).all(axis=1).sum() for key in mdata.obsm if key not in mdata.mod}
    assert finite[_keys.JOINT] == 800
    assert finite[_keys.shared("rna")] == finite[_keys.specific("adt")] == 1200
