"""Feature importance of trained models, compared with finite differences and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from indiseek_sc import IndiSeek
from indiseek_sc.data import read_standardized
from indiseek_sc.datasets import synthetic
from indiseek_sc.model._importance import _draw_evaluated_and_others

FEW = {"shared": 1, "specific": 1, "decoder": 1}
COLUMNS = ["feature", "importance", "standard_error", "method", "kind", "modality"]


@pytest.fixture(scope="module")
def linear() -> IndiSeek:
    """Model of Gaussian data, both stages, uninformative batches, half of the cells held out."""
    mdata = synthetic.make("S1", 400, n_copies=2)
    mdata.obs["batch"] = pd.Categorical(np.arange(400) % 3)
    IndiSeek.setup_mudata(mdata, batch_key="batch")
    model = IndiSeek(mdata)
    model.train(max_epochs=FEW, held_out=np.arange(0, 400, 2), enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def counts() -> IndiSeek:
    """Model of counts, stage 1 only, 20 of 60 genes in use, no cells held out."""
    mdata = synthetic.make("S6", 300, n_genes=60, n_proteins=12)
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata, n_top_genes=20)
    model.train(max_epochs=FEW, stages=("shared",), enable_progress_bar=False)
    return model


@pytest.mark.parametrize("kind", ["shared", "specific"])
@pytest.mark.parametrize("modality", ["rna", "adt"])
def test_jacobian_matches_finite_differences(linear, kind: str, modality: str) -> None:
    """Public methods only: change one raw feature slightly and encode again."""
    table = linear.feature_importance(modality=modality, kind=kind)
    mdata, test = linear.adata, linear.split.test
    width = mdata[modality].X[linear.split.train].std(axis=0, ddof=1, dtype=np.float64)
    features = mdata[modality].X[test] / width
    step = 1e-2
    for j in (0, 3, mdata[modality].n_vars - 1):
        latents = []
        for sign in (1, -1):
            moved = mdata.copy()
            moved[modality].X[:, j] += sign * step * width[j]
            latents.append(linear.get_latent_representation(moved, kind=kind, modality=modality, indices=test))
        slopes = (latents[0].astype(float) - latents[1]) / (2 * step)
        expected = (slopes**2).sum(axis=1) * features[:, j].var()
        assert table["importance"][j] == pytest.approx(expected.mean(), rel=0.02)
        assert table["standard_error"][j] == pytest.approx(expected.std(ddof=1) / test.size**0.5, rel=0.1, abs=1e-3)


def test_importance_for_a_linear_encoder_matches_its_closed_form(linear) -> None:
    """Without its network and offsets of states, the shared encoder is a known matrix."""
    module = linear.module
    silenced = [*module.encoders["adt"].network[-1].parameters(), module.covariate_offsets["adt"].of_states]
    kept = [p.detach().clone() for p in silenced]
    with torch.no_grad():
        for p in silenced:
            p.zero_()
    table = linear.feature_importance(modality="adt", kind="shared")
    permuted = linear.feature_importance(modality="adt", kind="shared", method="permutation", n_repeats=50)
    weight = (module.rotations["adt"].weight.T @ module.encoders["adt"].linear.weight).detach().numpy()
    x = read_standardized(module.transforms["adt"], linear.adata["adt"].X, linear.split.test).numpy()
    squares = (weight**2).sum(axis=0) * x.var(axis=0)
    np.testing.assert_allclose(table["importance"], squares, rtol=1e-4)
    np.testing.assert_allclose(table["standard_error"], 0, atol=1e-4)
    whole = (x @ weight.T).var(axis=0).sum()
    np.testing.assert_allclose(permuted["importance"], squares / whole, rtol=0.1)
    with torch.no_grad():
        for p, values in zip(silenced, kept, strict=True):
            p.copy_(values)


def test_probes_predict_features_from_the_representation(linear) -> None:
    groups = linear.adata.uns["synthetic"]["coordinates"].set_index("coordinate")["group"]
    split = linear.split
    seen = np.concatenate([split.train, split.validation])
    for kind, contained, removed in (("shared", "shared", None), ("specific", "private", "shared")):
        table = linear.feature_importance(modality="rna", kind=kind, method="probe")
        latent = linear.get_latent_representation(kind=kind, modality="rna")
        x = linear.adata["rna"].X
        line = LinearRegression().fit(latent[seen], x[seen]).predict(latent[split.test])
        reference = r2_score(x[split.test], line, multioutput="raw_values")
        assert (table["importance"] > reference - 0.05).all()
        best = table.groupby(table["feature"].map(groups))["importance"].max()
        assert best[contained] > 0.6
        assert removed is None or best[removed] < 0.15


@pytest.mark.parametrize("method", ["jacobian", "permutation", "probe"])
def test_columns_and_rows_of_the_tables(counts, method: str) -> None:
    used = counts.module.transforms["rna"].features.numpy()
    names = {"rna": counts.adata["rna"].var_names[used], "adt": counts.adata["adt"].var_names}
    for modality, expected in names.items():
        options = {"modality": modality, "kind": "shared", "method": method, "n_repeats": 2}
        table = counts.feature_importance(**options)
        assert table.columns.tolist() == COLUMNS
        assert table["feature"].tolist() == expected.tolist()
        assert len(table) == {"rna": 20, "adt": 12}[modality]
        assert np.isfinite(table["importance"]).all()
        # With so few cells the encoder is linear, so its slopes are the same in every cell.
        assert (table["standard_error"] > 0).all() or method == "jacobian"
        assert (table[["method", "kind", "modality"]] == [method, "shared", modality]).all(axis=None)
        pd.testing.assert_frame_equal(table, counts.feature_importance(**options))


def test_the_model_is_unchanged(linear) -> None:
    before = linear.get_latent_representation()
    state = torch.get_rng_state()
    for method in ("jacobian", "permutation"):
        linear.feature_importance(modality="adt", method=method, n_repeats=1)
    np.testing.assert_array_equal(before, linear.get_latent_representation())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in linear.module.parameters())


def test_importance_uses_held_out_or_validation_cells(linear, counts) -> None:
    for model, name in ((linear, "test"), (counts, "validation")):
        evaluated, others = _draw_evaluated_and_others(model, model.adata, 10, np.random.default_rng(0))
        assert set(evaluated) <= set(getattr(model.split, name))
        assert not set(others) & set(getattr(model.split, name))
        assert len(evaluated) == len(others) == 10


def test_an_untrained_representation_raises_an_error(counts) -> None:
    with pytest.raises(RuntimeError, match="specific representations are not trained"):
        counts.feature_importance(modality="rna")
