"""Feature attribution of trained models, compared with finite differences and closed forms."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch

import indiseek_sc as isk
from indiseek_sc import IndiSeek, tl
from indiseek_sc.datasets import synthetic
from indiseek_sc.model import _attribution_methods
from indiseek_sc.model._cells import get_design

FEW = {"shared": 1, "flow": 2, "specific": 1, "decoder": 2}
COLUMNS = [
    *("modality", "kind", "method", "dimension", "group", "n_cells", "feature"),
    *("attribution", "standard_error", "magnitude"),
]


def train(mdata, **settings) -> IndiSeek:
    IndiSeek.setup_mudata(mdata, batch_key="batch" if "batch" in mdata.obs else None)
    model = IndiSeek(mdata, **settings)
    model.train(max_epochs=FEW, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def counts() -> IndiSeek:
    """Model of counts, with 30 of 60 genes in use."""
    mdata = synthetic.make("S6", 300, n_genes=60, n_proteins=12)
    mdata.obs["half"] = pd.Categorical(np.where(np.arange(300) < 140, "first", "second"), ["second", "first"])
    return train(mdata, n_top_genes=30, n_components=10)


@pytest.fixture(scope="module")
def linear() -> IndiSeek:
    """Model of Gaussian data with known private features."""
    return train(synthetic.make("S1", 400, n_copies=2))


def wide(table: pd.DataFrame, modality: str, column: str = "attribution") -> np.ndarray:
    """Return one column of the table as an array of features by dimensions."""
    return table[table["modality"] == modality].pivot(index="feature", columns="dimension", values=column).to_numpy()


@pytest.mark.parametrize("kind", ["shared", "specific"])
@pytest.mark.parametrize("modality", ["rna", "adt"])
def test_jacobian_is_the_slope_of_decoded_features(counts, kind: str, modality: str) -> None:
    module, transform, rows = counts.module, counts.module.transforms[modality], np.arange(0, 300, 10)
    table = counts.feature_attribution(modality=modality, kind=kind, indices=rows)
    batch = get_design(counts, counts.adata, rows)
    with torch.no_grad():
        features = torch.from_numpy(counts.get_features(modality=modality, indices=rows))
        shared = module.shared(modality, features)
        specific = module.specific(modality, features, module.condition(modality, shared, batch))
        moved = specific if kind == "specific" else shared
        used = (
            module.encoder_decoders[modality].used.tolist()
            if kind == "specific"
            else range(module.rotations[modality].n_kept)
        )
        assert wide(table, modality).shape[1] == len(used)
        for dimension, column in enumerate(used):
            step = torch.zeros_like(moved)
            step[:, column] = 0.02 * moved[:, column].std(correction=0)
            ends = []
            for sign in (1, -1):
                z, c = (specific + sign * step, shared) if kind == "specific" else (specific, shared + sign * step)
                ends.append(module.encoder_decoders[modality].decode(z, module.condition(modality, c, batch)))
            slope = (ends[0] - ends[1]).double().numpy() / 0.04
            if modality == "rna":  # transform components to features, then remove the scaling
                slope = slope @ np.linalg.pinv(transform.components.double().numpy())
            slope = slope / transform.scale.numpy()
            of_dimension = table[table["dimension"] == dimension]
            np.testing.assert_allclose(of_dimension["attribution"], slope.mean(axis=0), rtol=0.05, atol=5e-3)
            np.testing.assert_allclose(
                of_dimension["magnitude"], np.sqrt((slope**2).mean(axis=0)), rtol=0.05, atol=5e-3
            )


def test_unused_dimensions_are_left_out(counts) -> None:
    """Dimensions are numbered as the columns of the representation that users receive."""
    in_use = counts.module.encoder_decoders["rna"].in_use
    kept = in_use.clone()
    before = wide(counts.feature_attribution(modality="rna", indices=range(20)), "rna")
    try:
        in_use[1] = 0
        after = wide(counts.feature_attribution(modality="rna", indices=range(20)), "rna")
    finally:
        in_use.copy_(kept)
    assert after.shape[1] == before.shape[1] - 1
    # Later dimensions change slightly, since each is decoded given the preceding ones.
    for column, same in enumerate([0, *range(2, before.shape[1])]):
        assert np.corrcoef(after[:, column], before[:, same])[0, 1] > 0.8


def test_jacobian_of_the_joint_representation_is_its_loadings(counts) -> None:
    table = counts.feature_attribution(kind="joint")
    latent = counts.get_latent_representation()
    module, specific, conditions = counts.module, {}, {}
    with torch.no_grad():
        for m in ("rna", "adt"):
            features = torch.from_numpy(counts.get_features(modality=m, indices=[0, 1]))
            conditions[m] = module.condition(m, module.shared(m, features), get_design(counts, counts.adata, [0, 1]))
            specific[m] = module.specific(m, features, conditions[m])
        decoded = np.hstack(module.join(specific, conditions))
    assert (table["standard_error"] < 1e-6).all()
    slopes = np.vstack([wide(table, "rna"), wide(table, "adt")]) / np.maximum(latent.std(axis=0), 1e-12)
    transforms = counts.module.transforms
    change = (latent[0] - latent[1]) @ slopes.T
    for modality, part, moved in (
        ("rna", change[:30], (decoded[0] - decoded[1])[:10]),
        ("adt", change[30:], (decoded[0] - decoded[1])[10:]),
    ):  # all components together reproduce the decoded features
        expected = transforms[modality].undo_change(torch.from_numpy(moved[None])).numpy()[0]
        np.testing.assert_allclose(part, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("values", ["normalized", "raw"])
@pytest.mark.parametrize("kind", ["shared", "specific", "joint"])
def test_contributions_add_up_in_every_group(counts, kind: str, values: str) -> None:
    """Sums over features equal the distance between the representations of cells and baseline."""
    pytest.importorskip("captum")
    rows, options = np.arange(0, 300, 30), {"kind": kind, "values": values, "method": "integrated_gradients"}
    table = counts.feature_attribution(groups="half", indices=rows, **options)
    batch = get_design(counts, counts.adata, rows)
    modules, latents, starts = counts.module.transforms, {}, {}
    with torch.no_grad():
        for role in ("rna", "adt"):
            x = torch.from_numpy(counts.adata[role].X[rows].toarray())
            transform = modules[role]
            latents[role] = transform(x)
            zero = torch.zeros(1, transform.n_features)
            start = transform.project(zero) if values == "normalized" else transform(x.mean(dim=0, keepdim=True))
            correct = counts.module.covariate_offsets[role]
            latents[role], starts[role] = (correct(y.expand(len(rows), -1), batch) for y in (latents[role], start))
        ends = [counts.module.describe(features, batch)[kind] for features in (latents, starts)]
    is_first = (counts.adata.obs["half"] == "first").to_numpy()[rows]
    for group, chosen in (("first", is_first), ("second", ~is_first)):
        of_group = table[table["group"] == group]
        for role in ("rna", "adt") if kind != "joint" else ("both",):
            here = of_group if role == "both" else of_group[of_group["modality"] == role]
            total = here.groupby("dimension")["attribution"].sum().to_numpy()
            distance = (ends[0] - ends[1] if role == "both" else ends[0][role] - ends[1][role])[chosen].mean(dim=0)
            assert here["n_cells"].eq(chosen.sum()).all()
            np.testing.assert_allclose(total, distance.numpy(), atol=0.02 * float(distance.abs().max()) + 2e-3)


def test_contributions_to_a_linear_representation_match_their_closed_form(linear) -> None:
    pytest.importorskip("captum")
    module = linear.module
    network = module.encoders["adt"].network[-1]
    kept = {name: p.detach().clone() for name, p in network.named_parameters()}
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    rows = np.arange(50)
    table = linear.feature_attribution(modality="adt", kind="shared", method="integrated_gradients", indices=rows)
    weight = (module.rotations["adt"].weight.T @ module.encoders["adt"].linear.weight).detach().numpy()
    x = linear.get_features(modality="adt", indices=rows)
    n = wide(table, "adt").shape[1]
    names = linear.adata["adt"].var_names
    expected = {"attribution": x.mean(axis=0), "magnitude": np.sqrt((x**2).mean(axis=0))}
    for column, size in expected.items():
        found = table.pivot(index="feature", columns="dimension", values=column).loc[names].to_numpy()
        factor = weight[:n].T if column == "attribution" else np.abs(weight[:n].T)
        np.testing.assert_allclose(found, size[:, None] * factor, atol=1e-4)
    network.load_state_dict(kept)


@pytest.mark.parametrize("method", ["decoder_jacobian", "integrated_gradients"])
def test_groups_are_averaged_over_their_cells(counts, method: str) -> None:
    if method == "integrated_gradients":
        pytest.importorskip("captum")
    labels = np.array([None] * 300, dtype=object)
    labels[[3, 50, 120]], labels[7] = "b", "a"
    options = {"modality": "adt", "method": method}
    table = counts.feature_attribution(groups=labels, **options)
    assert list(table["group"].cat.categories) == ["a", "b"]
    cells = [counts.feature_attribution(indices=[row], **options) for row in (3, 50, 120)]
    if method == "decoder_jacobian":  # the standard deviation over a single cell is 0
        assert all((cell["attribution"] == 0).all() for cell in cells)
        return
    each = np.stack([cell["attribution"] for cell in cells])
    of_b = table[table["group"] == "b"]
    np.testing.assert_allclose(of_b["attribution"], each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(of_b["standard_error"], each.std(axis=0, ddof=1) / 3**0.5, atol=1e-5)
    np.testing.assert_allclose(of_b["magnitude"], np.sqrt((each**2).mean(axis=0)), atol=1e-5)
    assert table.loc[table["group"] == "a", "standard_error"].isna().all()


def test_columns_and_rows_of_the_table(counts) -> None:
    table = counts.feature_attribution(groups="half", max_cells=20, seed=1)
    assert table.columns.tolist() == COLUMNS
    used = counts.adata["rna"].var_names[counts.module.transforms["rna"].features.numpy()]
    assert table.loc[table["modality"] == "rna", "feature"].unique().tolist() == used.tolist()
    assert table.loc[table["modality"] == "adt", "feature"].unique().tolist() == counts.adata["adt"].var_names.tolist()
    width = {m: counts.get_latent_representation(kind="specific", modality=m).shape[1] for m in ("rna", "adt")}
    assert len(table) == 2 * (30 * width["rna"] + 12 * width["adt"])
    assert table["n_cells"].eq(20).all()
    assert table["group"].cat.categories.tolist() == ["second", "first"]  # order of the column
    assert np.isfinite(table[["attribution", "standard_error", "magnitude"]]).all(axis=None)
    assert (table["magnitude"] >= table["attribution"].abs() - 1e-9).all()
    pd.testing.assert_frame_equal(table, counts.feature_attribution(groups="half", max_cells=20, seed=1))
    assert not table["attribution"].equals(counts.feature_attribution(groups="half", max_cells=20)["attribution"])


def test_contributions_of_raw_values_include_all_genes(counts) -> None:
    pytest.importorskip("captum")
    options = {"modality": "rna", "method": "integrated_gradients", "indices": range(20)}
    table = counts.feature_attribution(values="raw", **options)
    assert table["feature"].unique().tolist() == counts.adata["rna"].var_names.tolist()
    used = table["feature"].isin(counts.feature_attribution(**options)["feature"])
    # An unused gene contributes only through the library size.
    assert 0 < table.loc[~used, "magnitude"].mean() < 0.2 * table.loc[used, "magnitude"].mean()


@pytest.mark.slow
@pytest.mark.parametrize("values", ["normalized", "raw"])
@pytest.mark.parametrize("method", ["decoder_jacobian", "integrated_gradients"])
def test_chunks_are_small_and_do_not_change_results(counts, method: str, values: str, monkeypatch) -> None:
    if (method, values) == ("decoder_jacobian", "raw"):
        pytest.skip("decoders do not return raw values")
    if method == "integrated_gradients":
        pytest.importorskip("captum")
    options = {"modality": "rna", "method": method, "values": values, "indices": range(30)}
    whole = counts.feature_attribution(**options)
    sizes = []
    add = _attribution_methods.CellMoments.add
    monkeypatch.setattr(
        _attribution_methods.CellMoments, "add", lambda self, x: (sizes.append(x.numel()), add(self, x))
    )
    with isk.settings.override(values_at_once=240):
        parts = counts.feature_attribution(**options)
    assert 0 < max(sizes) <= 240
    for column in ("attribution", "standard_error", "magnitude"):
        np.testing.assert_allclose(parts[column], whole[column], rtol=1e-3, atol=1e-5)


def test_matrix_format_does_not_change_results(counts) -> None:
    other = counts.adata.copy()
    other["rna"].X, other["adt"].X = other["rna"].X.tocsc(), other["adt"].X.toarray()
    tables = [counts.feature_attribution(mdata, indices=range(20)) for mdata in (counts.adata, other)]
    pd.testing.assert_frame_equal(*tables)


def test_specific_dimensions_are_attributed_to_private_features(linear) -> None:
    """In S1, features that copy private factors are decoded from the specific part only."""
    truth = linear.adata.uns["synthetic"]["coordinates"].set_index("coordinate")["group"]
    for kind, group in (("specific", "private"), ("shared", "shared")):
        block = tl.block_attribution(linear.feature_attribution(kind=kind))
        shares = block.groupby(["modality", block["feature"].astype(str).map(truth)], observed=True)["share"].sum()
        assert shares.xs(group, level="feature").min() > 0.95


def test_too_few_steps_raise_a_warning(counts) -> None:
    pytest.importorskip("captum")
    options = {"modality": "rna", "method": "integrated_gradients", "values": "raw", "indices": range(10)}
    with pytest.warns(UserWarning, match="n_steps=1: the sums of contributions differ .* by"):
        counts.feature_attribution(n_steps=1, **options)


def test_the_model_is_unchanged(counts) -> None:
    pytest.importorskip("captum")
    before, state = counts.get_latent_representation(), torch.get_rng_state()
    for method in ("decoder_jacobian", "integrated_gradients"):
        counts.feature_attribution(method=method, indices=range(5))
    np.testing.assert_array_equal(before, counts.get_latent_representation())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in counts.module.parameters())


def test_a_missing_captum_raises_an_error_with_the_remedy(counts, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"pip install \"indiseek_sc\[attribution\]\", or use method='decoder"):
        counts.feature_attribution(method="integrated_gradients")


@pytest.mark.slow
@pytest.mark.parametrize("values", ["normalized", "raw"])
def test_20000_genes_fit_in_little_memory(values: str) -> None:
    """An array of cells by genes by steps by dimensions would need tens of gigabytes."""
    pytest.importorskip("captum")
    resource = pytest.importorskip("resource")
    model = train(synthetic.make("S6", 300, n_genes=20_000, n_proteins=30, gene_counts=20_000.0), n_top_genes=20_000)
    model.feature_attribution(modality="rna", indices=range(2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_dimensions = model.module.encoder_decoders["rna"].n_used
    n_cells = 300 if values == "normalized" else 60
    table = model.feature_attribution(
        modality="rna", method="integrated_gradients", values=values, max_cells=n_cells, n_steps=16
    )
    assert len(table) == 20_000 * n_dimensions
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 600 * 1024  # KiB
