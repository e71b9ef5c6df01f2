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

from indiseek_sc.data import _fit_transforms, apply_transform, fit_transform, iterate_rows
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
def test_rna_counts_equal_scanpy_and_sklearn(counts: np.ndarray, max_value: float, monkeypatch: pytest.MonkeyPatch):
    recipe = replace(get_recipe("rna", "counts"), max_value=max_value)
    monkeypatch.setitem(_transforms._RECIPES, ("rna", "counts"), recipe)
    actual = apply_transform(fitted("rna", "counts", counts, n_components=5), counts).numpy()
    adata = ad.AnnData(counts.astype(np.float64))
    sc.pp.normalize_total(adata)  # to the median
    sc.pp.log1p(adata)
    sc.pp.scale(adata, max_value=max_value)
    reference = PCA(5, svd_solver="full").fit_transform(adata.X)
    assert_equal_up_to_sign(actual, reference / reference[:, 0].std(ddof=1))


def test_normalized_rna_equals_scanpy_and_sklearn(counts: np.ndarray):
    values = np.log1p(counts) + 3
    actual = apply_transform(fitted("rna", "normalized", values, n_components=4), values).numpy()
    adata = ad.AnnData(values.astype(np.float64))
    sc.pp.scale(adata, max_value=10)
    reference = PCA(4, svd_solver="full").fit_transform(adata.X)
    assert_equal_up_to_sign(actual, reference / reference[:, 0].std(ddof=1))


def test_adt_counts_equal_a_loop(counts: np.ndarray):
    actual = apply_transform(fitted("adt", "counts", counts), counts).numpy()
    clr = np.zeros(counts.shape)
    for i, cell in enumerate(counts):
        logs = [np.log(1 + float(count)) for count in cell]
        for j, log in enumerate(logs):
            clr[i, j] = log - sum(logs) / len(logs)
    np.testing.assert_allclose(actual, (clr - clr.mean(axis=0)) / clr.std(axis=0, ddof=1), atol=1e-4)


def test_normalized_adt_is_standardized_and_not_clipped():
    values = np.random.default_rng(0).normal(2, 5, size=(400, 3)).astype(np.float32)
    values[0, 0] = 1e4
    actual = apply_transform(fitted("adt", "normalized", values, np.arange(400)), values).numpy()
    np.testing.assert_allclose(
        actual, (values - values.mean(axis=0)) / values.std(axis=0, ddof=1), rtol=1e-3, atol=1e-4
    )
    assert actual.max() > 15


def test_a_representation_keeps_relative_variances():
    values = (np.random.default_rng(0).normal(size=(60, 4)) * [8, 4, 2, 0] + 3).astype(np.float32)
    actual = apply_transform(fitted("rna", "representation", values), values).numpy()
    np.testing.assert_allclose(actual, (values - values.mean(axis=0)) / values.std(axis=0, ddof=1).max(), atol=1e-5)


@pytest.mark.parametrize(("role", "kind"), CASES)
def test_only_training_cells_have_influence(counts: np.ndarray, role: Role, kind: InputKind):
    rows = np.random.default_rng(3).permutation(60)[:40]
    changed = counts.copy()
    changed[np.setdiff1d(ALL, rows)] = 1_000 * np.random.default_rng(4).integers(0, 9, size=(20, 24))
    if kind == "normalized":
        counts, changed = np.log1p(counts), np.log1p(changed)
    options = {"n_top_genes": 10} if role == "rna" else {}
    first, second = (fitted(role, kind, x, rows, **options).state_dict() for x in (counts, changed))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("role", "kind", "options"), [*((*case, {}) for case in CASES), SOME_GENES])
def test_every_format_gives_equal_numbers(
    as_format: Callable[[np.ndarray], Any], counts: np.ndarray, role: Role, kind: InputKind, options: dict[str, int]
):
    rows, matrix = np.random.default_rng(5).permutation(60)[:50], as_format(counts)
    expected, actual = (fitted(role, kind, x, rows, **options) for x in (counts, matrix))
    assert all(torch.equal(expected.state_dict()[name], value) for name, value in actual.state_dict().items())
    assert torch.equal(apply_transform(actual, matrix), apply_transform(expected, counts))


@pytest.mark.parametrize(("role", "kind"), CASES)
def test_chunks_do_not_matter(counts: np.ndarray, role: Role, kind: InputKind, monkeypatch: pytest.MonkeyPatch):
    whole = apply_transform(fitted(role, kind, counts), counts)
    monkeypatch.setattr("indiseek_sc.data._matrix.N_VALUES", 24 * 7)
    torch.testing.assert_close(apply_transform(fitted(role, kind, counts), counts), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("role", "kind"), CASES)
def test_a_state_dict_carries_everything(counts: np.ndarray, role: Role, kind: InputKind):
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


def test_rows_come_back_in_the_order_asked_for(counts: np.ndarray):
    transform = fitted("adt", "counts", counts)
    rows = np.array([9, 3, 7, 1, 3])
    assert torch.equal(
        apply_transform(transform, sp.csr_matrix(counts), rows), apply_transform(transform, counts)[rows]
    )


@pytest.mark.parametrize("kind", ["counts", "normalized"])
def test_genes_are_those_of_scanpy(kind: InputKind):
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


def test_genes_are_chosen_on_a_sample_drawn_by_the_seed(counts: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_fit_transforms, "N_CELLS_FOR_GENES", 20)
    genes = [fitted("rna", "counts", counts, seed=seed, n_top_genes=8).features.tolist() for seed in (0, 0, 1, 2, 3)]
    assert genes[0] == genes[1]
    assert any(other != genes[0] for other in genes[2:])


@pytest.mark.parametrize(("values", "shown"), [(-2.0, "-2"), (60.0, "60")])
def test_genes_of_values_that_are_no_logarithms_cannot_be_chosen(counts: np.ndarray, values: float, shown: str):
    counts = np.log1p(counts)
    counts[0, 0] = values
    with pytest.raises(ValueError, match=f"n_top_genes needs counts or log-normalised values, but there is {shown}"):
        fitted("rna", "normalized", counts, n_top_genes=5)


def test_missing_components_are_zero(counts: np.ndarray):
    features = apply_transform(fitted("rna", "counts", counts, np.arange(4), n_components=10), counts)
    assert features.shape == (60, 10)
    assert (features[:, 3:] == 0).all()
    assert (features[:, :3].std(dim=0) > 0).all()


@pytest.mark.parametrize(("role", "kind"), CASES)
@settings(max_examples=25)
@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 6)),
        elements=st.one_of(st.just(0.0), st.sampled_from([1.0, 3.0, 1e6]), st.integers(0, 30).map(float)),
    ),
    n_rows=st.integers(1, 9),
)
def test_odd_data_give_finite_features(role: Role, kind: InputKind, values: np.ndarray, n_rows: int):
    transform = fitted(role, kind, values, np.arange(min(n_rows, len(values))))
    features = apply_transform(transform, values)
    assert torch.isfinite(features).all()
    assert transform.center.isfinite().all()


@pytest.mark.parametrize(("role", "kind"), CASES)
@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, 12_345.678])
def test_constant_data_give_zero(role: Role, kind: InputKind, value: float):
    values = np.full((50, 7), value, dtype=np.float32)
    assert (apply_transform(fitted(role, kind, values, np.arange(50)), values) == 0).all()


def test_rounding_errors_are_no_variance():
    equal_in_each_cell = np.repeat(np.arange(1, 51, dtype=np.float32)[:, None], 7, axis=1)
    assert (apply_transform(fitted("adt", "counts", equal_in_each_cell, np.arange(50)), equal_in_each_cell) == 0).all()
    last_digit = np.full((50, 2), 1e4, dtype=np.float32)
    last_digit[::2, 0] = np.nextafter(np.float32(1e4), np.float32(2e4))
    assert (apply_transform(fitted("adt", "normalized", last_digit, np.arange(50)), last_digit) == 0).all()


def test_a_constant_feature_stays_zero_in_new_cells(counts: np.ndarray):
    counts[:, 4] = 3
    transform = fitted("adt", "normalized", counts)
    counts[:, 4] = np.arange(60)
    assert (apply_transform(transform, counts)[:, 4] == 0).all()


@pytest.mark.parametrize("options", [{}, {"n_top_genes": 10}])
def test_the_input_is_unchanged(as_format: Callable[[np.ndarray], Any], counts: np.ndarray, options: dict[str, int]):
    matrix = as_format(counts)
    apply_transform(fitted("rna", "counts", matrix, **options), matrix)
    np.testing.assert_array_equal(np.concatenate(list(iterate_rows(matrix, ALL))), counts)


def test_bad_arguments_are_named(counts: np.ndarray):
    transform = build_transform("adt", "counts", 5, n_cells=60)
    with pytest.raises(ValueError, match="24 columns, but the transform reads 5"):
        fit_transform(transform, counts, ALL, seed=0)
    with pytest.raises(ValueError, match="rows: a transform cannot be fitted on no cells"):
        fit_transform(transform, counts[:, :5], np.array([], dtype=int), seed=0)
