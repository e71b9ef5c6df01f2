"""New batches after training: their effects are estimated, and the reference is not changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mudata import MuData
from scipy.sparse import csr_matrix

from indiseek_sc import IndiSeek, _keys
from indiseek_sc.baselines import JointOpt
from indiseek_sc.data import fit_added_offset, fit_offsets
from indiseek_sc.metrics import label_accuracy

from .conftest import all_latents, assert_equal_latents, fit

# --- the estimate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("composition", ["same", "different", "some states only"])
@pytest.mark.parametrize("shift", [0.0, 2.0, 5.0])  # states are 15 apart
def test_a_known_offset_is_recovered_for_any_composition(composition, shift):
    rng = np.random.default_rng(0)
    centers = 2 * rng.normal(size=(8, 30))
    shares = {
        "same": np.ones(8),
        "different": 0.6 ** np.arange(8),
        "some states only": (np.arange(8) > 4).astype(float),
    }
    x = centers[rng.integers(8, size=2000)] + rng.normal(size=(2000, 30))
    mean = x.mean(axis=0)
    new = centers[rng.choice(8, size=400, p=shares[composition] / shares[composition].sum())] + rng.normal(
        size=(400, 30)
    )
    added = rng.normal(size=30)
    added *= shift / np.linalg.norm(added)
    found = fit_offsets([x[:, :10] - mean[:10], x[:, 10:] - mean[10:]], np.zeros((len(x), 0)), seed=0)
    states = [offsets.states.numpy() for offsets in found]
    new = new + added - mean
    found = np.hstack(fit_added_offset([new[:, :10], new[:, 10:]], states))
    assert np.linalg.norm(found - added) < 0.7


def test_the_offset_of_few_cells_is_shrunk():
    states = [np.zeros((1, 3))]
    (one,) = fit_added_offset([np.full((1, 3), 21.0)], states)
    np.testing.assert_allclose(one, 1.0)
    (many,) = fit_added_offset([np.full((1980, 3), 1.0)], states)
    np.testing.assert_allclose(many, 0.99)


# --- the model ------------------------------------------------------------------------------------


def handle(mdata: MuData, *, name: str) -> MuData:
    """Return cells with a simulated batch effect, which scales some genes and most proteins."""
    rng = np.random.default_rng(1)
    mdata = mdata.copy()
    for modality, share in (("rna", 0.3), ("adt", 0.8)):
        values = mdata[modality].X.toarray()
        factors = np.where(rng.random(values.shape[1]) < share, rng.choice([0.4, 2.5], values.shape[1]), 1.0)
        mdata[modality].X = csr_matrix(np.round(values * factors).astype(np.float32))
    mdata.obs["batch"] = name
    return mdata


def pack(mdata: MuData) -> MuData:
    made = mdata.copy()
    made.obs["batch"] = made.obs["batch"].astype(str)
    return made


@pytest.fixture(scope="module")
def cells(_pbmc_covid_once) -> dict[str, MuData]:
    """Return training cells, and query cells of the same batches."""
    whole = pack(_pbmc_covid_once)
    return {"reference": whole[::5].copy(), "query": whole[2::10].copy()}


@pytest.fixture(scope="module")
def reference(cells) -> IndiSeek:
    return fit(cells["reference"].copy(), setup={"batch_key": "batch"})


def test_the_effect_of_a_new_batch_is_subtracted_and_the_reference_unchanged(cells, reference, tmp_path):
    before = all_latents(reference)
    names = list(reference.registry_["field_registries"]["batch"]["state_registry"]["categorical_mapping"])
    truth = all_latents(reference, cells["query"].copy())
    new = handle(cells["query"], name="new")
    with pytest.raises(
        ValueError, match=r"unknown to the model: 'new'.*model = IndiSeek\.load_query_data\(mdata, model\)"
    ) as error:
        reference.get_latent_representation(new)
    variables = {"mdata": new, "model": reference, "IndiSeek": IndiSeek}
    exec(str(error.value).partition("Estimate their offsets: ")[2].partition(";")[0], variables)
    model = variables["model"]
    assert model is not reference
    latents = all_latents(model)
    assert_equal_latents(before, all_latents(reference))
    assert_equal_latents(before, all_latents(model, cells["reference"].copy()))

    # For comparison: the cells assigned to a known batch, without an estimated offset.
    as_known = new.copy()
    as_known.obs["batch"] = names[0]
    without = all_latents(reference, as_known)
    labels = np.concatenate([x.obs["cell_type"].astype(str) for x in (reference.adata, new)])
    n = reference.adata.n_obs
    parts = np.arange(n), np.arange(n, len(labels))
    for kind in ("joint", "shared_rna", "shared_adt"):
        error_with, error_without = (np.square(x[kind] - truth[kind]).mean() for x in (latents, without))
        assert error_with < 0.7 * error_without, kind
        accuracy = [
            label_accuracy(np.vstack([before[kind], x[kind]]), labels, *parts) for x in (latents, without, truth)
        ]
        assert accuracy[0] > accuracy[1], kind
        assert accuracy[0] > accuracy[2] - 0.08, kind

    model.save(tmp_path / "model")
    loaded = IndiSeek.load(tmp_path / "model", adata=new)
    assert_equal_latents(latents, all_latents(loaded))
    both = IndiSeek.load_query_data(handle(cells["query"], name="newer"), tmp_path / "model")
    assert_equal_latents(latents, all_latents(both, new.copy()))
    model.write_latents()
    assert np.isfinite(new.obsm[_keys.JOINT]).all()
    assert np.isfinite(model.feature_attribution(modality="adt", max_cells=10)["attribution"]).all()
    with pytest.raises(ValueError, match=r"created by load_query_data.*IndiSeek\.setup_mudata\(mdata"):
        model.train(1)


@pytest.mark.parametrize("name", ["rna", "adt"])
def test_one_modality_suffices(cells, reference, name):
    new = handle(cells["query"], name="new")
    alone = MuData({name: new[name].copy()})
    alone.obs["batch"] = "new"
    model = IndiSeek.load_query_data(alone, reference)
    latent = model.get_latent_representation(kind="shared", modality=name)
    truth = reference.get_latent_representation(cells["query"].copy(), kind="shared", modality=name)
    known = alone.copy()
    known.obs["batch"] = reference.adata.obs["batch"].iloc[0]
    without = reference.get_latent_representation(known, kind="shared", modality=name)
    assert np.square(latent - truth).mean() < 0.7 * np.square(without - truth).mean()
    other = {"rna": "adt", "adt": "rna"}[name]
    role = next(r for r, m in model.modalities.items() if m == other)
    assert not model.module.covariate_offsets[role].overall[-1].any()


def test_cells_of_known_batches_are_not_changed(cells, reference):
    query = cells["query"].copy()
    model = IndiSeek.load_query_data(query, reference)
    assert model.module.design.n_added == 0
    assert_equal_latents(all_latents(model), all_latents(reference, cells["query"].copy()))
    mixed = handle(cells["query"], name="new")
    mixed.obs.loc[mixed.obs_names[:300], "batch"] = cells["query"].obs["batch"][:300]
    latents = all_latents(IndiSeek.load_query_data(mixed, reference), indices=np.arange(300))
    before = handle(cells["query"], name="any")[:300].copy()
    before.obs["batch"] = cells["query"].obs["batch"][:300]
    for kind, latent in all_latents(reference, before).items():
        np.testing.assert_allclose(latents[kind], latent, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"setup": None}, {"batch_offsets": False}, {"one": True}])
def test_references_with_one_batch_or_without_offsets(cells, settings):
    mdata = cells["reference"][::2].copy()
    if settings.pop("one", False):
        mdata.obs["batch"] = "only"
    setup = settings.pop("setup", {"batch_key": "batch"})
    model = fit(mdata, setup=setup, **settings)
    new = handle(cells["query"], name="new")
    query = IndiSeek.load_query_data(new, model)
    assert np.isfinite(query.get_latent_representation()).all()
    added = query.module.covariate_offsets["adt"].overall[model.module.design.n_columns :]
    assert added.shape[0] == (0 if setup is None else 1)
    assert bool(added.any()) == (setup is not None and not settings)
    assert_equal_latents(all_latents(model), all_latents(query, mdata.copy()))


def test_prediction_for_a_new_batch(cells, reference):
    reference.train_prediction(2, enable_progress_bar=False)
    alone = MuData({"rna": handle(cells["query"], name="new")["rna"].copy()})
    alone["rna"].obs["batch"] = "new"
    with pytest.raises(ValueError, match="unknown to the model: 'new'"):
        reference.predict_modality("rna", "adt", alone)
    predicted = IndiSeek.load_query_data(alone, reference).predict_modality("rna", "adt").mean
    truth = reference.predict_modality("rna", "adt", cells["query"]).mean
    assert np.corrcoef(predicted.to_numpy().ravel(), truth.to_numpy().ravel())[0, 1] > 0.7


def test_baselines_load_query_data(cells):
    mdata = cells["reference"][::4].copy()
    JointOpt.setup_mudata(mdata, batch_key="batch")
    model = JointOpt(mdata)
    model.train(1, enable_progress_bar=False)
    query = IndiSeek.load_query_data(handle(cells["query"], name="new"), model)
    assert type(query) is JointOpt
    assert torch.isfinite(torch.from_numpy(query.get_latent_representation())).all()


# --- prepared queries -----------------------------------------------------------------------------


def test_a_prepared_query_has_the_features_of_the_model(cells, reference, tmp_path):
    names = reference.get_var_names()
    lacking = list(names["adt"][::10])
    query = cells["query"].copy()
    query.mod["adt"] = query["adt"][:, ~query["adt"].var_names.isin(lacking)][:, ::-1].copy()
    query.mod["rna"].layers["counts"] = query["rna"].X.copy()
    query.update()
    query.obsm["X_other"] = np.ones((query.n_obs, 2))
    reference.save(tmp_path / "model", overwrite=True)
    found = IndiSeek.prepare_query_mudata(query, tmp_path / "model", return_reference_var_names=True)
    assert {name: list(index) for name, index in found.items()} == {name: list(x) for name, x in names.items()}
    with pytest.warns(UserWarning, match=f"{len(lacking)} of the 188 proteins"):
        prepared = IndiSeek.prepare_query_mudata(query, reference)
    for name, expected in names.items():
        assert list(prepared[name].var_names) == list(expected)
    assert list(prepared["adt"].var_names[prepared["adt"].var[_keys.PADDED]]) == lacking
    assert "counts" in prepared["rna"].layers
    assert (prepared.obs["cell_type"] == query.obs["cell_type"]).all()
    assert prepared.obsm["X_other"].shape == (query.n_obs, 2)
    with pytest.warns(UserWarning, match=f"{len(lacking)} of the 188 proteins"):
        latents = all_latents(reference, query)
    prepared.write_h5mu(tmp_path / "prepared.h5mu")
    with pytest.warns(UserWarning, match=f"{len(lacking)} of the 188 proteins"):
        for kind, latent in all_latents(reference, prepared).items():
            np.testing.assert_allclose(latents[kind], latent, atol=2e-5)
    with pytest.warns(UserWarning, match="missing"):
        again = IndiSeek.prepare_query_mudata(prepared, reference)
    assert list(again["adt"].var_names[again["adt"].var[_keys.PADDED]]) == lacking
