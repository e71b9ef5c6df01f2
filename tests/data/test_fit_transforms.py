from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA

import indiseek_sc as isk
from indiseek_sc.data import apply_transform, fit_transform, iterate_rows
from indiseek_sc.nn import FeatureTransform, InputKind, _transforms, build_transform, get_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from indiseek_sc._keys import Role

ALL = np.arange(60)
CASES: list[tuple[Role, InputKind]] = [
    ("rna", "counts"),
    ("rna", "normalized"),
    ("rna", "representation"),
    ("adt", "counts"),
    ("adt", "normalized"),
    ("adt", "representation"),
]
SOME_GENES = ("rna", "counts", {"n_top_genes": 10})


def fitted(
    role: Role, kind: InputKind, matrix: Any, rows: np.ndarray = ALL, *, seed: int = 0, **options: Any
) -> FeatureTransform:
    transform = build_transform(role, kind, matrix.shape[1], n_cells=matrix.shape[0], **options)
    fit_transform(transform, matrix, rows, seed=seed)
    return transform


def assert_equal_up_to_sign(actual: np.ndarray, expected: np.ndarray) -> None:
    signs = np.sign(np.sum(actual * expected, axis=0))
    np.testing.assert_allclose(actual, expected * signs, atol=2e-4)


@pytest.mark.parametrize("max_value", [10.0, 2.0])
def test_standardized_rna_equals_scanpy_and_sklearn(
    counts: np.ndarray, max_value: float, monkeypatch: pytest.MonkeyPatch
):
    recipe = replace(get_recipe("rna", "counts"), max_value=max_value, shared_scale=False, subtract_noise=False)
    monkeypatch.setitem(_transforms._RECIPES, ("rna", "counts"), recipe)
    actual = apply_transform(fitted("rna", "counts", counts, n_components=5), counts).numpy()
    adata = ad.AnnData(counts.astype(np.float64))
    sc.pp.normalize_total(adata)  # to the median
    sc.pp.log1p(adata)
    sc.pp.scale(adata, max_value=max_value)
    reference = PCA(5, svd_solver="full").fit_transform(adata.X)
    assert_equal_up_to_sign(actual, reference / reference[:, 0].std(ddof=1))


def scale_by_loop(counts: np.ndarray, logs: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the scale of each feature, up to a common factor."""
    scale = np.zeros(counts.shape[1])
    for j in range(counts.shape[1]):
        noise = [
            x * (np.log1p(f * x) - np.log1p(f * (x - 1))) ** 2 if x > 0 else 0.0
            for x, f in zip(counts[:, j].astype(float), factors, strict=True)
        ]
        scale[j] = np.sqrt(max(1 - np.mean(noise) / logs[:, j].var(ddof=1), 0.05))
    return scale


def overdispersed(n_cells: int = 60, n_features: int = 24) -> np.ndarray:
    """Return overdispersed counts whose fraction of counting noise differs between features."""
    rng = np.random.default_rng(8)
    rates = rng.gamma(3.0, np.geomspace(0.1, 10, n_features), size=(n_cells, n_features))
    return rng.poisson(rates).astype(np.float32)


def test_rna_counts_equal_a_loop_and_sklearn():
    counts = overdispersed()
    totals = counts.sum(axis=1).astype(np.float64)
    factors = np.median(totals) / totals
    logs = np.log1p(counts * factors[:, None])
    scale = scale_by_loop(counts, logs, factors)
    assert scale.min() < 0.6 * scale.max()
    reference = PCA(5, svd_solver="full").fit_transform(logs * scale)
    actual = apply_transform(fitted("rna", "counts", counts, n_components=5), counts).numpy()
    assert_equal_up_to_sign(actual, reference / reference[:, 0].std(ddof=1))


def test_normalized_rna_equals_sklearn(counts: np.ndarray):
    values = np.log1p(counts) + 3
    actual = apply_transform(fitted("rna", "normalized", values, n_components=4), values).numpy()
    reference = PCA(4, svd_solver="full").fit_transform(values.astype(np.float64))
    assert_equal_up_to_sign(actual, reference / reference[:, 0].std(ddof=1))


def test_adt_counts_equal_a_loop():
    counts = overdispersed()
    actual = apply_transform(fitted("adt", "counts", counts), counts).numpy()
    clr = np.zeros(counts.shape)
    for i, cell in enumerate(counts):
        logs = [np.log(1 + float(count)) for count in cell]
        for j, log in enumerate(logs):
            clr[i, j] = log - sum(logs) / len(logs)
    scaled = (clr - clr.mean(axis=0)) * scale_by_loop(counts, clr, np.ones(60))
    np.testing.assert_allclose(actual, scaled / scaled.std(axis=0, ddof=1).max(), atol=1e-4)


def test_proteins_with_counting_noise_only_have_small_weights():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2, size=(500, 1))
    signal = rng.poisson(20 * np.exp(1.5 * groups * rng.uniform(0.5, 1, 6)))
    noise = rng.poisson(rng.uniform(0.5, 3, 6), size=(500, 6))
    counts = np.hstack([signal, noise, rng.poisson(300, size=(500, 1))]).astype(np.float32)
    features = apply_transform(fitted("adt", "counts", counts, np.arange(500)), counts)
    spread = features.std(dim=0)
    assert spread.max() == pytest.approx(1, abs=1e-3)
    assert spread[:6].min() > 0.5
    plain = np.log1p(counts) - np.log1p(counts).mean(axis=1, keepdims=True)
    ratio = spread.numpy() / plain.std(axis=0)  # constant if log-ratios were not weighted
    assert ratio[6:12].max() < 0.6 * ratio[:6].min()


def test_proteins_without_signal_are_not_zero():
    counts = np.random.default_rng(0).poisson(2, size=(300, 8)).astype(np.float32)
    transform = fitted("adt", "counts", counts, np.arange(300))
    features = apply_transform(transform, counts)
    assert (features.std(dim=0) > 0).all()
    normalized = transform.normalize(torch.from_numpy(counts))
    torch.testing.assert_close(transform.unstandardize(features), normalized, atol=1e-5, rtol=1e-5)


def of_rank(rank: int, n_cells: int, n_genes: int = 800) -> np.ndarray:
    """Return counts of genes that depend on ``rank`` factors."""
    rng = np.random.default_rng(1)
    logs = rng.normal(size=(n_cells, rank)) @ rng.normal(size=(rank, n_genes)) * 0.5 / np.sqrt(rank)
    return rng.poisson(rng.uniform(0.3, 3, n_genes) * np.exp(logs)).astype(np.float32)


@pytest.mark.parametrize("rank", [6, 9])
def test_components_beyond_the_rank_are_dropped_with_few_cells(rank: int):
    both = of_rank(rank, 400)
    counts, new = both[:200], both[200:]
    transform = fitted("rna", "counts", counts, np.arange(200))
    assert transform.n_output == 50
    assert abs(len(transform.used) - rank) <= 2
    features = apply_transform(transform, counts)
    assert (features[:, len(transform.used) :] == 0).all()
    assert (features[:, : len(transform.used)].std(dim=0) > 0).all()
    ratio = apply_transform(transform, new).var(dim=0).sum() / features.var(dim=0).sum()
    every = fitted("rna", "counts", counts, np.arange(200), n_components=50)
    assert ratio > apply_transform(every, new).var(dim=0).sum() / apply_transform(every, counts).var(dim=0).sum() + 0.1


def test_reproducible_components_are_kept():
    assert len(fitted("rna", "counts", of_rank(60, 2000, 400), np.arange(2000)).used) == 50


def test_given_number_of_components_is_kept():
    assert len(fitted("rna", "counts", of_rank(6, 400), np.arange(400), n_components=20).used) == 20


@given(n_cells=st.integers(2, 60), n_genes=st.integers(2, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_small_data_have_finite_features(n_cells: int, n_genes: int, seed: int):
    counts = np.random.default_rng(seed).poisson(1.5, size=(n_cells, n_genes)).astype(np.float32)
    transform = fitted("rna", "counts", counts, np.arange(n_cells), seed=seed)
    features = apply_transform(transform, counts)
    assert features.shape == (n_cells, transform.n_output)
    assert features.isfinite().all()
    assert len(transform.used) <= transform.n_output <= 50
    unused = np.setdiff1d(np.arange(transform.n_output), transform.used.numpy())
    assert (features[:, unused] == 0).all()


def test_normalized_adt_keeps_relative_variances_and_is_not_clipped():
    values = np.random.default_rng(0).normal(2, 5, size=(400, 3)).astype(np.float32)
    values[0, 0] = 1e4
    actual = apply_transform(fitted("adt", "normalized", values, np.arange(400)), values).numpy()
    np.testing.assert_allclose(
        actual, (values - values.mean(axis=0)) / values.std(axis=0, ddof=1).max(), rtol=1e-3, atol=1e-4
    )
    assert actual.max() > 15


def test_representations_keep_relative_variances():
    values = (np.random.default_rng(0).normal(size=(60, 4)) * [8, 4, 2, 0] + 3).astype(np.float32)
    actual = apply_transform(fitted("rna", "representation", values), values).numpy()
    np.testing.assert_allclose(actual, (values - values.mean(axis=0)) / values.std(axis=0, ddof=1).max(), atol=1e-5)


@pytest.mark.parametrize(("role", "kind"), CASES)
def test_only_training_cells_are_used(counts: np.ndarray, role: Role, kind: InputKind):
    rows = np.random.default_rng(3).permutation(60)[:40]
    changed = counts.copy()
    changed[np.setdiff1d(ALL, rows)] = 1_000 * np.random.default_rng(4).integers(0, 9, size=(20, 24))
    if kind == "normalized":
        counts, changed = np.log1p(counts), np.log1p(changed)
    options = {"n_top_genes": 10} if role == "rna" else {}
    first, second = (fitted(role, kind, x, rows, **options).state_dict() for x in (counts, changed))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("role", "kind", "options"), [*((*case, {}) for case in CASES), SOME_GENES])
def test_formats_agree(
    as_format: Callable[[np.ndarray], Any], counts: np.ndarray, role: Role, kind: InputKind, options: dict[str, int]
):
    rows, matrix = np.random.default_rng(5).permutation(60)[:50], as_format(counts)
    expected, actual = (fitted(role, kind, x, rows, **options) for x in (counts, matrix))
    assert all(torch.equal(expected.state_dict()[name], value) for name, value in actual.state_dict().items())
    assert torch.equal(apply_transform(actual, matrix), apply_transform(expected, counts))


@pytest.mark.parametrize(("role", "kind"), CASES)
def test_result_does_not_depend_on_chunks(counts: np.ndarray, role: Role, kind: InputKind):
    whole = apply_transform(fitted(role, kind, counts), counts)
    with isk.settings.override(values_at_once=24 * 7):
        parts = apply_transform(fitted(role, kind, counts), counts)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("role", "kind"), CASES)
def test_state_dict_is_complete(counts: np.ndarray, role: Role, kind: InputKind):
    if kind == "normalized":
        counts = np.log1p(counts)
    options = {"n_top_genes": 10} if role == "rna" else {}
    transform = fitted(role, kind, counts, **options)
    fresh = build_transform(role, kind, 24, n_cells=60, **options)
    assert fresh.center.isnan().all()
    assert fresh(torch.from_numpy(counts)).isnan().all()
    fresh.load_state_dict(transform.state_dict())
    assert fresh.center.isfinite().all()
    assert torch.equal(fresh(torch.from_numpy(counts)), transform(torch.from_numpy(counts)))


def test_rows_are_returned_in_the_requested_order(counts: np.ndarray):
    transform = fitted("adt", "counts", counts)
    rows = np.array([9, 3, 7, 1, 3])
    assert torch.equal(
        apply_transform(transform, sp.csr_matrix(counts), rows), apply_transform(transform, counts)[rows]
    )


@pytest.mark.parametrize("kind", ["counts", "normalized"])
def test_genes_equal_scanpy(kind: InputKind):
    generator = np.random.default_rng(0)
    raw = generator.poisson(np.exp(generator.normal(0, 1.5, size=(1, 300)) + generator.normal(0, 0.6, size=(200, 300))))
    raw = raw.astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(raw))
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    transform = fitted("rna", kind, raw if kind == "counts" else adata.X, np.arange(200), n_top_genes=40)
    sc.pp.highly_variable_genes(adata, flavor="seurat", n_top_genes=40)
    np.testing.assert_array_equal(transform.features, np.flatnonzero(adata.var["highly_variable"]))
    assert kind == "normalized" or transform.library_size == np.median(raw.sum(axis=1))


def test_genes_of_many_cells_are_selected_on_a_seeded_sample():
    rows = np.arange(40_000)
    counts = np.random.default_rng(0).poisson(1.0, size=(rows.size, 24)).astype(np.float32)
    genes = [fitted("rna", "counts", counts, rows, seed=seed, n_top_genes=8).features.tolist() for seed in (0, 0, 1)]
    assert genes[0] == genes[1]
    assert genes[2] != genes[0]


@pytest.mark.parametrize(("values", "shown"), [(-2.0, "-2"), (60.0, "60")])
def test_gene_selection_rejects_other_values_than_logarithms(counts: np.ndarray, values: float, shown: str):
    counts = np.log1p(counts)
    counts[0, 0] = values
    with pytest.raises(ValueError, match=f"n_top_genes needs counts or log-normalised .* the data contain {shown}"):
        fitted("rna", "normalized", counts, n_top_genes=5)


def test_missing_components_are_zero(counts: np.ndarray):
    features = apply_transform(fitted("rna", "counts", counts, np.arange(4), n_components=10), counts)
    assert features.shape == (60, 10)
    assert (features[:, 3:] == 0).all()
    assert (features[:, :3].std(dim=0) > 0).all()


@pytest.mark.parametrize(("role", "kind"), CASES)
@settings(max_examples=25, deadline=None)
@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 6)),
        elements=st.one_of(st.just(0.0), st.sampled_from([1.0, 3.0, 1e6]), st.integers(0, 30).map(float)),
    ),
    n_rows=st.integers(1, 9),
)
def test_unusual_data_give_finite_features(role: Role, kind: InputKind, values: np.ndarray, n_rows: int):
    transform = fitted(role, kind, values, np.arange(min(n_rows, len(values))))
    features = apply_transform(transform, values)
    assert torch.isfinite(features).all()
    assert transform.center.isfinite().all()


@pytest.mark.parametrize(("role", "kind"), CASES)
@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, 12_345.678])
def test_constant_data_give_zero(role: Role, kind: InputKind, value: float):
    values = np.full((50, 7), value, dtype=np.float32)
    assert (apply_transform(fitted(role, kind, values, np.arange(50)), values) == 0).all()


def test_rounding_errors_are_not_scaled():
    equal_in_each_cell = np.repeat(np.arange(1, 51, dtype=np.float32)[:, None], 7, axis=1)
    assert (apply_transform(fitted("adt", "counts", equal_in_each_cell, np.arange(50)), equal_in_each_cell) == 0).all()
    last_digit = np.full((50, 2), 1e4, dtype=np.float32)
    last_digit[::2, 0] = np.nextafter(np.float32(1e4), np.float32(2e4))
    assert (apply_transform(fitted("adt", "normalized", last_digit, np.arange(50)), last_digit) == 0).all()


def test_constant_features_are_zero_in_new_cells(counts: np.ndarray):
    counts[:, 4] = 3
    transform = fitted("adt", "normalized", counts)
    counts[:, 4] = np.arange(60)
    assert (apply_transform(transform, counts)[:, 4] == 0).all()


@pytest.mark.parametrize("options", [{}, {"n_top_genes": 10}])
def test_input_is_unchanged(as_format: Callable[[np.ndarray], Any], counts: np.ndarray, options: dict[str, int]):
    matrix = as_format(counts)
    apply_transform(fitted("rna", "counts", matrix, **options), matrix)
    np.testing.assert_array_equal(np.concatenate(list(iterate_rows(matrix, ALL))), counts)


def test_invalid_arguments_raise(counts: np.ndarray):
    transform = build_transform("adt", "counts", 5, n_cells=60)
    with pytest.raises(ValueError, match="24 columns, but the transform reads 5"):
        fit_transform(transform, counts, ALL, seed=0)
    with pytest.raises(ValueError, match="rows: a transform cannot be fitted without cells"):
        fit_transform(transform, counts[:, :5], np.array([], dtype=int), seed=0)
