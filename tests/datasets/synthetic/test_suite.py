from __future__ import annotations

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from indiseek_sc import IndiSeek, _keys
from indiseek_sc._keys import ROLES
from indiseek_sc.data import read_input
from indiseek_sc.datasets import synthetic

FACTORS = (_keys.FACTOR_SHARED, *(_keys.factor_private(role) for role in ROLES))


def values_of(mdata: mudata.MuData, role: str) -> np.ndarray:
    values = mdata[role].X
    return values.toarray() if sparse.issparse(values) else values


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_factors_are_independent_with_mean_0_and_variance_1(name: str) -> None:
    mdata = synthetic.make(name, 20_000, seed=3, **({"n_genes": 10, "n_proteins": 10} if name == "S6" else {}))
    factors = np.hstack([mdata.obsm[key] for key in FACTORS])
    np.testing.assert_allclose(factors.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(factors.var(axis=0), 1, atol=0.1)
    # Squares of factors are uncorrelated as well, with each other and with other factors.
    squares = (factors**2).clip(max=9)
    both = np.corrcoef(np.hstack([factors, squares]), rowvar=False)
    between = ~np.tile(np.eye(factors.shape[1], dtype=bool), (2, 2))
    assert np.abs(both[between]).max() < 0.04


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_data_are_determined_by_the_seed(name: str) -> None:
    first, again, other = (synthetic.make(name, 50, seed=seed) for seed in (1, 1, 2))
    for role in ROLES:
        np.testing.assert_array_equal(values_of(first, role), values_of(again, role))
        differs = first[role].shape != other[role].shape or (values_of(first, role) != values_of(other, role)).any()
        assert differs
    pd.testing.assert_frame_equal(first.uns["synthetic"]["factors"], again.uns["synthetic"]["factors"])
    assert first.uns["synthetic"]["seed"] == 1


def test_global_random_state_is_unchanged() -> None:
    before = np.random.get_state()[1].copy()
    synthetic.make("S6", 20)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_data_can_be_registered_with_the_model(name: str) -> None:
    mdata = synthetic.make(name, 60)
    IndiSeek.setup_mudata(mdata, batch_key="batch" if name == "S6" else None)
    model = IndiSeek(mdata)
    assert set(model.modalities) == set(ROLES)
    kinds = {read_input(model.registry_, role)[1]["kind"] for role in ROLES}
    assert kinds == {"counts" if name == "S6" else "normalized"}


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_truth_refers_to_existing_data(name: str, tmp_path) -> None:
    mdata = synthetic.make(name, 30)
    truth = mdata.uns["synthetic"]
    assert truth["name"] == name
    assert "not from the paper" in truth["description"]
    factors, coordinates = truth["factors"], truth["coordinates"]
    widths = {key: mdata.obsm[key].shape[1] for key in factors["obsm"].unique()}
    assert widths == factors.groupby("obsm")["column"].count().to_dict()
    assert factors["factor"].is_unique
    assert coordinates["coordinate"].is_unique
    assert coordinates["coordinate"].tolist() == [*mdata["rna"].var_names, *mdata["adt"].var_names]
    named = {factor for row in coordinates["factors"] for factor in row.split(", ") if factor}
    assert named == {f for f in factors["factor"] if not f.startswith("shared_squared")}
    of_rna = coordinates.loc[coordinates["modality"] == "rna", "factors"]
    assert not of_rna.str.contains("private_adt").any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata.write(tmp_path / "synthetic.h5mu")  # uns and obsm can be written to a file
        again = mudata.read_h5mu(tmp_path / "synthetic.h5mu")
    assert again.uns["synthetic"]["factors"]["specific_rna"].tolist() == factors["specific_rna"].tolist()


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_factor_table_states_which_representations_may_contain_factors(name: str) -> None:
    factors = synthetic.make(name, 30).uns["synthetic"]["factors"].set_index("factor")
    for factor, row in factors.iterrows():
        for role in ROLES:
            latent = row[f"specific_{role}"]
            assert latent == ("should" if factor.startswith(f"private_{role}") else "must not")
            if factor.startswith(f"private_{_keys.other(role)}"):
                assert row[f"shared_{role}"] == "must not"
                assert row[f"limit_{role}"] == 0
            elif not factor.startswith("shared_squared"):
                assert 0.9 < row[f"limit_{role}"] < 1
    assert (factors.query("kind == 'shared'")[["shared_rna", "shared_adt"]] == "should").all(axis=None)
    assert factors["given_shared"].any() == (name == "S4")


def test_given_shared_representations_contain_private_factors() -> None:
    mdata = synthetic.make("S3", 100, n_shared=2, n_private=3, n_redundant=2)
    for role in ROLES:
        private = mdata.obsm[_keys.factor_private(role)]
        latent = np.hstack([mdata.obsm["factor_shared"], private[:, :2]])
        np.testing.assert_array_equal(mdata.obsm[f"oracle_shared_{role}"], latent)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("S7", {}, "name='S7' is not in the suite: S1, S2"),
        ("S1", {"n_cells": 1}, "n_cells=1"),
        ("S1", {"n_private": 0}, "n_private=0"),
        ("S2", {"noise": -0.1}, "noise=-0.1"),
        ("S3", {"n_redundant": 4}, "n_redundant=4 must not exceed n_private=3"),
        ("S6", {"n_genes": 10}, "n_genes=10 must be at least n_proteins=80"),
        ("S6", {"dispersion": -1.0}, "dispersion=-1.0"),
        ("S6", {"gene_counts": 0.0}, "gene_counts=0.0"),
    ],
)
def test_invalid_arguments_are_rejected(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic.make(name, **options)
