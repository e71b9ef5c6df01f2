"""Refits: models trained again on halves of the cells."""

from __future__ import annotations

import pickle
import warnings

import mudata
import numpy as np
import pytest
import torch

from indiseek_sc import IndiSeek, _keys, tl
from indiseek_sc.baselines import JointOpt
from indiseek_sc.model._refits import _Parts

from .conftest import FEW, fit

FEW_OF_REFITS = dict.fromkeys(FEW, 1)
QUICK = {"max_epochs": FEW_OF_REFITS, "enable_progress_bar": False}


@pytest.fixture(scope="module")
def refitted(_pbmc_covid_once):
    mdata = _pbmc_covid_once[::20].copy()
    model = fit(mdata, train={"held_out": None})
    model.write_latents()
    before = {name: x.clone() for name, x in model.module.state_dict().items()}
    keys = set(mdata.obsm)
    model.write_refits(4, **QUICK)
    return model, mdata, before, keys


def test_pairs_of_refits_hold_out_complementary_halves(refitted):
    _, mdata, _, _ = refitted
    held_out = mdata.obsm[_keys.REFITS_HELD_OUT]
    assert held_out.shape == (mdata.n_obs, 4)
    for pair in (held_out[:, :2], held_out[:, 2:]):
        np.testing.assert_array_equal(pair[:, 0], ~pair[:, 1])
        assert abs(pair[:, 0].sum() - mdata.n_obs / 2) <= 1
    assert 0.3 < (held_out[:, 0] == held_out[:, 2]).mean() < 0.7


def test_written_entries(refitted):
    model, mdata, before, keys = refitted
    assert set(mdata.obsm) - keys == {_keys.refits("rna"), _keys.refits("adt"), _keys.REFITS_HELD_OUT}
    noted = mdata.uns[_keys.REFITS]
    for role in ("rna", "adt"):
        latents = mdata.obsm[_keys.refits(role)]
        assert latents.dtype == np.float32
        assert latents.shape == (mdata.n_obs, noted[f"widths_{role}"].sum())
        assert np.isfinite(latents).all()
    for name, x in model.module.state_dict().items():  # the model itself is not changed
        assert torch.equal(x, before[name])


def test_refits_are_models_of_these_cells(refitted):
    """A refit equals a model with the same settings, seed and held-out cells."""
    model, mdata, _, _ = refitted
    alone = IndiSeek(mdata, seed=1)
    alone.train(
        held_out=mdata.obsm[_keys.REFITS_HELD_OUT][:, 0],
        lambda_=model.lambda_,
        **{**QUICK, "max_epochs": FEW_OF_REFITS | {"decoder": 0}},
    )
    width = mdata.uns[_keys.REFITS]["widths_rna"][0]
    latents = mdata.obsm[_keys.refits("rna")][:, : width.sum()]
    np.testing.assert_allclose(
        latents[:, : width[0]], alone.get_latent_representation(kind="shared", modality="rna"), atol=1e-5
    )
    np.testing.assert_allclose(
        latents[:, width[0] :], alone.get_latent_representation(kind="specific", modality="rna"), atol=1e-5
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_refits(refitted, capfd):
    model, mdata, _, _ = refitted
    first = mdata.obsm[_keys.refits("adt")].copy()
    model.write_refits(4, n_jobs=2, **QUICK)  # in other processes, where filters of this one have no effect
    np.testing.assert_array_equal(mdata.obsm[_keys.refits("adt")], first)
    assert "Warning" not in capfd.readouterr().err


def test_data_of_a_file_can_be_pickled(_pbmc_covid_once, tmp_path):
    """This applies to data in memory and to backed data."""
    _pbmc_covid_once[::60].copy().write(tmp_path / "cells.h5mu")
    for backed in (False, "r"):
        mdata = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=backed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = pickle.loads(pickle.dumps(_Parts.of(mdata))).join()
        assert again.obs_names.equals(mdata.obs_names)
        for name in ("rna", "adt"):
            assert (again[name].X != _pbmc_covid_once[::60][name].X).nnz == 0


def test_modality_importance_uses_refits(refitted):
    _, mdata, _, _ = refitted
    table = tl.modality_importance(mdata, "cell_type")
    assert table["information_rna"].notna().any()
    assert table["claim"].isin(["rna", "adt", "undecided", "neither", "not assessed"]).all()


def test_samples_are_not_divided(refitted):
    model, mdata, _, _ = refitted
    mdata.obs["donor"] = np.random.default_rng(0).choice([f"d{i}" for i in range(12)], mdata.n_obs)
    model.write_refits(4, sample_key="donor", max_epochs=0, enable_progress_bar=False)
    for column in mdata.obsm[_keys.REFITS_HELD_OUT].T:
        of_donor = [set(column[(mdata.obs["donor"] == donor).to_numpy()]) for donor in mdata.obs["donor"].unique()]
        assert all(len(values) == 1 for values in of_donor)
        assert 0.3 < column.mean() < 0.7
    assert mdata.uns[_keys.REFITS]["sample_key"] == "donor"


def test_a_half_without_a_batch_is_rejected(_pbmc_covid_once):
    mdata = _pbmc_covid_once[::20].copy()
    mdata.obs["donor"] = np.random.default_rng(0).choice([f"d{i}" for i in range(6)], mdata.n_obs)
    model = fit(mdata, setup={"batch_key": "donor"}, train={"held_out": None, "max_epochs": 0})
    model.write_latents()
    with pytest.raises(ValueError, match=r"sample_key='donor'.*lacks \d batches.*tl.modality_importance alone"):
        model.write_refits(4, sample_key="donor", **QUICK)
    assert _keys.REFITS not in mdata.uns


@pytest.mark.slow
def test_halves_of_samples_contain_all_batches(_pbmc_covid_once):
    """The two samples of a small batch are always in different halves."""
    mdata = _pbmc_covid_once[::20].copy()
    mdata.obs["sample"] = np.random.default_rng(0).choice([f"s{i}" for i in range(8)], mdata.n_obs)
    mdata.obs["run"] = np.where(mdata.obs["sample"].isin(["s0", "s1"]), "small", "large")
    model = fit(mdata, setup={"batch_key": "run"}, train={"held_out": None, "max_epochs": 0})
    model.write_latents()
    model.write_refits(6, sample_key="sample", max_epochs=0, enable_progress_bar=False)
    for column in mdata.obsm[_keys.REFITS_HELD_OUT].T:
        assert set(mdata.obs["run"][column]) == set(mdata.obs["run"][~column]) == {"small", "large"}


def test_refits_of_a_baseline(_pbmc_covid_once):
    mdata = _pbmc_covid_once[::30].copy()
    JointOpt.setup_mudata(mdata)
    model = JointOpt(mdata)
    model.train(max_epochs=2, enable_progress_bar=False)
    model.write_latents()
    model.write_refits(4, max_epochs=2, enable_progress_bar=False)
    assert mdata.obsm[_keys.refits("rna")].shape[0] == mdata.n_obs


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_refits": 5}, ValueError, "n_refits=5 must be even"),
        ({"n_refits": 2}, ValueError, "n_refits"),
        ({"sample_key": "nowhere"}, KeyError, "nowhere"),
        ({"sample_key": "one"}, ValueError, r"sample_key='one' has 1 samples.*Leave it out"),
        ({"sample_key": "gaps"}, ValueError, r"sample_key='gaps' is missing in cells .*Fill it in"),
        ({"held_out": [1]}, TypeError, "held_out: it is set by write_refits"),
        ({"no_such": 1}, TypeError, "no_such"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_invalid_arguments_are_rejected(refitted, arguments, error, message):
    model, mdata, _, _ = refitted
    mdata.obs["one"] = "sample"
    mdata.obs["gaps"] = [None, *(f"s{i % 7}" for i in range(1, mdata.n_obs))]
    before = dict(mdata.uns[_keys.REFITS]), mdata.obsm[_keys.REFITS_HELD_OUT].copy()
    with pytest.raises(error, match=message):
        model.write_refits(**{**QUICK, **arguments})
    np.testing.assert_array_equal(mdata.obsm[_keys.REFITS_HELD_OUT], before[1])
    assert mdata.uns[_keys.REFITS].keys() == before[0].keys()


def test_refits_require_written_representations(_pbmc_covid_once):
    mdata = _pbmc_covid_once[::20].copy()
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    with pytest.raises(RuntimeError, match="not trained"):
        model.write_refits()
    model.train(max_epochs=0, enable_progress_bar=False)
    with pytest.raises(KeyError, match=r"Call model.write_latents\(\) first"):
        model.write_refits()
