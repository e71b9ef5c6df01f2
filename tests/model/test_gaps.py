"""Panels that differ by batch: proteins that are NaN in a whole batch are not measured there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from mudata import MuData
from scipy.sparse import csr_matrix

from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES
from indiseek_sc.model._cells import get_design

from .conftest import all_latents, assert_equal_latents, fit

LACKING = ("CD3", "CD19", "CD14", "CD56", "CD8")


def drop_proteins(mdata: MuData, *, is_sparse: bool = False) -> MuData:
    """Set some proteins of the first batch to NaN."""
    mdata = mdata.copy()
    values = mdata["adt"].X.toarray().astype(np.float32)
    rows, columns = find_gaps(mdata)
    values[np.ix_(rows, columns)] = np.nan
    mdata["adt"].X = csr_matrix(values) if is_sparse else values
    return mdata


def find_gaps(mdata: MuData) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of missing values."""
    batches = mdata.obs["batch"].astype(str)
    return np.flatnonzero(batches == batches.iloc[0]), mdata["adt"].var_names.get_indexer(LACKING)


@pytest.fixture(scope="module")
def whole(_pbmc_covid_once) -> MuData:
    return _pbmc_covid_once[::6].copy()


@pytest.fixture(scope="module")
def mdata(whole) -> MuData:
    return drop_proteins(whole)


@pytest.fixture(scope="module")
def model(mdata) -> IndiSeek:
    return fit(mdata, setup={"batch_key": "batch", "exclude": ()})


def test_unmeasured_proteins_are_named_and_kept(mdata, messages):
    cells = mdata.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        IndiSeek.setup_mudata(cells, batch_key="batch")
    first, names = mdata.obs["batch"].astype(str).iloc[0], mdata["adt"].var_names
    listed = [name for name in names if name in LACKING]
    assert f"count as not measured there ({first}: {listed[0]!r}, {listed[1]!r}" in messages.text
    assert set(LACKING) <= set(IndiSeek(cells).get_var_names()["adt"])


@pytest.mark.slow
def test_log_ratios_are_relative_to_proteins_measured_in_all_batches(model, mdata):
    """Compare features with a computation in numpy."""
    transform, (rows, columns) = model.module.transforms["adt"], find_gaps(mdata)
    values = mdata["adt"].X
    logs = np.log1p(values.astype(np.float64))
    common = np.setdiff1d(np.arange(values.shape[1]), columns)
    ratios = logs - logs[:, common].mean(axis=1, keepdims=True)
    train = model.split.train
    np.testing.assert_allclose(transform.center, np.nanmean(ratios[train], axis=0), atol=1e-5)
    expected = (ratios - transform.center.numpy()) * transform.scale.numpy()
    expected[np.ix_(rows, columns)] = 0  # the mean
    found = transform(torch.from_numpy(values))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    offsets = model.module.covariate_offsets["adt"]
    features = model.get_features(modality="adt")
    np.testing.assert_allclose(features, offsets(found, get_design(model, mdata, np.arange(mdata.n_obs))), atol=1e-4)


@pytest.mark.slow
def test_the_scale_is_estimated_from_measured_values(model, whole):
    """The scale is close to that of all values if the missing batch is a random sample."""
    complete = fit(whole.copy(), setup={"batch_key": "batch", "exclude": ()}, train={"stages": ("shared",)})
    _, columns = find_gaps(whole)
    ratio = model.module.transforms["adt"].scale[columns] / complete.module.transforms["adt"].scale[columns]
    assert ((ratio > 0.6) & (ratio < 1.5)).all()


def test_missing_features_are_estimated_from_cells_of_the_same_state(model, whole):
    """Offsets of states shift missing values from the mean towards values of similar cells."""
    rows, columns = find_gaps(whole)
    filled = model.get_features(modality="adt")[np.ix_(rows, columns)]
    measured = np.log1p(whole["adt"].X.toarray()[rows][:, columns])
    correlations = [np.corrcoef(x, y)[0, 1] for x, y in zip(filled.T, measured.T, strict=True)]
    assert np.mean(correlations) > 0.4


def test_missing_values_do_not_contribute_to_losses(model, mdata):
    module, rows = model.module, np.arange(mdata.n_obs)
    gap_rows, columns = find_gaps(mdata)
    features = {role: torch.from_numpy(model.get_features(modality=model.modalities[role])) for role in ROLES}
    widths = {role: module.n_features[role] for role in ROLES}
    full = {role: torch.zeros(len(rows), widths[role]) for role in ROLES}
    for role in ROLES:
        full[role][:, module.transforms[role].used] = features[role]
    design = get_design(model, mdata, rows)

    def find_losses(changed: torch.Tensor) -> tuple[float, float]:
        with torch.no_grad():
            latents = module.encoders["adt"](full["adt"])
            prediction = module._prediction_error(
                "rna", {"rna": latents, "adt": latents}, {**full, "adt": changed, "design": design}, lambda x: x
            )
            condition = module.condition("adt", module.shared("adt", full["adt"]), design)
            specific = module.specific("adt", full["adt"], condition)
            closed = module.encoder_decoders["adt"].decode_closed(specific, condition)
            cells = {"features": changed, "closed": closed, "specific": specific, "condition": condition}
            return float(prediction), float(module.decoding_error("adt", cells))

    changed = full["adt"].clone()
    changed[np.ix_(gap_rows, columns)] += 100
    assert find_losses(changed) == pytest.approx(find_losses(full["adt"]), rel=1e-5)
    elsewhere = full["adt"].clone()
    elsewhere[np.ix_(np.setdiff1d(rows, gap_rows), columns)] += 1
    assert find_losses(elsewhere)[1] > 1.05 * find_losses(full["adt"])[1]


@pytest.mark.slow
def test_representations_predictions_and_audit_are_finite(model, mdata, tmp_path):
    latents = all_latents(model)
    assert all(np.isfinite(latent).all() for latent in latents.values())
    assert np.isfinite(model.audit().table.to_numpy(float)).all()
    model.save(tmp_path / "model")
    loaded = IndiSeek.load(tmp_path / "model", adata=mdata.copy())
    assert_equal_latents(latents, all_latents(loaded))
    loaded.train_prediction(5, enable_progress_bar=False)
    report = loaded.audit_prediction("rna", "adt", units="normalized")
    rows, _ = find_gaps(mdata)
    assert not set(report.measured.index) & set(mdata.obs_names[rows])
    assert np.isfinite(report.measured.to_numpy()).all() and 0 < len(report.measured)


def test_sparse_values_give_the_same_representations(model, whole):
    sparse = drop_proteins(whole, is_sparse=True)
    latents = all_latents(model, sparse, indices=np.arange(60))
    for name, latent in all_latents(model, indices=np.arange(60)).items():
        np.testing.assert_allclose(latents[name], latent, atol=1e-5, err_msg=name)


def test_a_query_may_lack_only_the_same_proteins(model, whole):
    query = drop_proteins(whole[:80].copy())
    np.testing.assert_allclose(
        model.get_latent_representation(query), model.get_latent_representation(indices=np.arange(80)), atol=1e-5
    )
    query["adt"].X[3, query["adt"].var_names.get_loc("CD4")] = np.nan
    with pytest.raises(ValueError, match=r"1 values that are not finite: nan in cell .*'CD4'"):
        model.get_latent_representation(query)


def test_a_protein_that_no_batch_measured_is_rejected(whole):
    mdata = whole.copy()
    values = mdata["adt"].X.toarray().astype(np.float32)
    values[:, 0] = np.nan
    mdata["adt"].X = values
    with pytest.raises(ValueError, match="not finite"):
        IndiSeek.setup_mudata(mdata, batch_key="batch")
