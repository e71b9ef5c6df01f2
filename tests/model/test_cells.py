"""Selection of cells by rows, names or masks, and recognition of cells by name and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from indiseek_sc import IndiSeek, _keys
from indiseek_sc.datasets import synthetic
from indiseek_sc.model._cells import as_rows, find_split, read_features, sum_rows

QUICK = {"max_epochs": 1, "enable_progress_bar": False}
N_CELLS = 240
HELD_OUT = np.arange(0, N_CELLS, 4)


def names(n_cells: int) -> pd.Index:
    return pd.Index([f"cell{i}" for i in range(n_cells)])


# Selection of cells


@st.composite
def cells_and_rows(draw: Callable, least: int | None = None) -> tuple[int, list[int]]:
    """Draw a number of cells and row numbers, also negative ones if ``least`` is not given."""
    n_cells = draw(st.integers(1, 120))
    lowest = -n_cells if least is None else least
    return n_cells, draw(st.lists(st.integers(lowest, n_cells - 1), max_size=30))


@given(cells_and_rows(), st.sampled_from(["list", "tuple", "int64", "int16", "int8", "series", "index"]))
def test_row_numbers_are_read_as_by_numpy(cells: tuple[int, list[int]], form: str) -> None:
    n_cells, rows = cells
    forms: dict[str, Callable] = {"list": list, "tuple": tuple, "series": pd.Series, "index": pd.Index}
    given_as = forms[form](rows) if form in forms else np.array(rows, dtype=form)
    if form == "series":
        given_as = pd.Series(rows, dtype=np.int64, index=np.arange(len(rows)) + 7)
    found = as_rows(given_as, names(n_cells))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.arange(n_cells)[np.array(rows, dtype=np.int64)])


@given(cells_and_rows(least=0), st.sampled_from(["uint8", "uint16", "uint32", "uint64"]))
def test_unsigned_row_numbers(cells: tuple[int, list[int]], dtype: str) -> None:
    n_cells, rows = cells
    np.testing.assert_array_equal(as_rows(np.array(rows, dtype=dtype), names(n_cells)), rows)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_masks_and_results_of_numpy_where(mask: list[bool]) -> None:
    expected = np.arange(len(mask))[np.array(mask)]
    for form in (mask, np.array(mask), pd.Series(mask), np.where(mask), np.nonzero(mask), np.flatnonzero(mask)):
        np.testing.assert_array_equal(as_rows(form, names(len(mask))), expected)


@given(st.integers(1, 50), st.data())
def test_a_single_row(n_cells: int, data: Any) -> None:
    row = data.draw(st.integers(-n_cells, n_cells - 1))
    for form in (row, np.int64(row), np.int8(row), np.array(row)):
        assert as_rows(form, names(n_cells)).tolist() == [row % n_cells]


@pytest.mark.parametrize("form", [list, tuple, np.array, pd.Index, pd.Series, pd.Categorical])
def test_names_give_rows_in_their_order(form: Callable) -> None:
    assert as_rows(form(["cell7", "cell2", "cell7"]), names(9)).tolist() == [7, 2, 7]
    assert as_rows("cell3", names(9)).tolist() == [3]
    assert as_rows(np.str_("cell3"), names(9)).tolist() == [3]


@pytest.mark.parametrize("dtype", ["bool", "boolean"])
def test_a_mask_is_aligned_by_its_index_of_names(dtype: str) -> None:
    mask = pd.Series([True, False, True], index=["cell2", "cell0", "cell1"], dtype=dtype)
    assert sorted(as_rows(mask, names(3))) == [1, 2]
    assert as_rows(mask.set_axis(names(3)), names(3)).tolist() == [0, 2]


def test_all_rows_and_no_rows() -> None:
    assert as_rows(None, names(3)).tolist() == [0, 1, 2]
    assert as_rows(range(1, 3), names(3)).tolist() == [1, 2]
    for none in ([], (), np.array([]), np.where([False] * 3)):
        found = as_rows(none, names(3))
        assert found.dtype == np.int64
        assert found.size == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([240], "held_out must lie below the number of cells, 240, but reach 240 to 240"),
        ([3, -241], "held_out must lie below the number of cells, 240, but reach -241 to 3"),
        (np.array([2**64 - 1], dtype=np.uint64), "held_out must lie below the number of cells, 240"),
        ([True, False], r"held_out: a mask needs one value per cell \(240\), but has shape \(2,\)"),
        (True, r"held_out: a mask needs one value per cell \(240\), but has shape \(1,\)"),
        ([1.0, 2.0], r"held_out must be row numbers \(integers\), names of cells or a mask, but are of type float64"),
        (
            ["cell1", "cell_1", "a"],
            "held_out: 2 names are not names of cells: 'cell_1', 'a'. Names of cells are, for example, 'cell0', 'cell1'",
        ),
        ([[1, 2], [3, 4]], r"held_out must be one list of cells or a mask, but has shape \(2, 2\)"),
        (np.where(np.eye(3)), r"held_out must be one list of cells or a mask, but has shape \(2, 3\)"),
    ],
)
def test_invalid_rows_are_rejected(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_rows(rows, names(N_CELLS), "held_out")


# Sums of values, which distinguish cells with equal names


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint16"])
def test_sums_do_not_depend_on_the_matrix_format(dtype: str) -> None:
    values = np.random.default_rng(0).poisson(2.0, size=(50, 20)).astype(dtype)
    if dtype.startswith("float"):
        values -= values.mean(axis=1, keepdims=True).astype(dtype)  # sums are 0 except for rounding
    expected = np.abs(values.astype(float)).sum(axis=1)
    forms = (np.asarray, np.asfortranarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, lambda x: x.astype("float32"))
    for form in forms:
        np.testing.assert_allclose(sum_rows(form(values)), expected, rtol=1e-6)


# Cells that a model was trained with


def make_cells(seed: int = 0) -> mudata.MuData:
    return synthetic.make("S6", N_CELLS, n_genes=60, n_proteins=12, seed=seed)


@pytest.fixture(scope="module")
def known() -> IndiSeek:
    mdata = make_cells()
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    model.train(held_out=HELD_OUT, **QUICK)
    model.write_latents()
    return model


@pytest.fixture(scope="module")
def folder(known: IndiSeek, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("known") / "model"
    known.save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def truth(known: IndiSeek) -> pd.Series:
    """Return the part of each cell by its name."""
    return known.adata.obs[_keys.SPLIT].astype(str)


def names_of(model: IndiSeek, part: str) -> set[str]:
    return set(model.adata.obs_names[getattr(model.split, part)])


def test_parts_are_written_for_all_cells(known: IndiSeek, truth: pd.Series) -> None:
    assert truth.value_counts()["test"] == HELD_OUT.size
    for part in ("train", "validation", "test"):
        assert set(truth.index[truth == part]) == names_of(known, part)
    np.testing.assert_array_equal(known.test_indices, HELD_OUT)
    np.testing.assert_array_equal(known.train_indices, known.split.train)
    np.testing.assert_array_equal(known.validation_indices, known.split.validation)


def test_parts_do_not_depend_on_the_order_of_cells(known: IndiSeek, folder: str, truth: pd.Series) -> None:
    backwards = make_cells()[::-1].copy()
    loaded = IndiSeek.load(folder, adata=backwards)
    for part in ("train", "validation", "test"):
        assert names_of(loaded, part) == names_of(known, part)
    assert names_of(loaded, "test") == {f"cell_{row}" for row in HELD_OUT}
    loaded.write_latents()
    pd.testing.assert_series_equal(backwards.obs[_keys.SPLIT].astype(str), truth[::-1])


def test_the_audit_does_not_depend_on_the_order_of_cells(
    known: IndiSeek, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows change but the order within each part does not, so that probes draw the same cells."""
    monkeypatch.setattr(
        "indiseek_sc.metrics._evaluator.add_noise_floor", lambda latent, train, rng: latent
    )  # noise by row
    order = np.r_[HELD_OUT, np.setdiff1d(np.arange(N_CELLS), HELD_OUT)]
    loaded = IndiSeek.load(folder, adata=make_cells()[order].copy())
    own, other = (model.audit(probes=("ridge", "neighbors")) for model in (known, loaded))
    assert (other.n_train, other.n_test) == (own.n_train, own.n_test) == (N_CELLS - HELD_OUT.size, HELD_OUT.size)
    np.testing.assert_allclose(other.table, own.table, atol=1e-4)


NEEDS: dict[str, tuple[Callable[[IndiSeek], Any], tuple[str, ...]]] = {
    "audit": (lambda model: model.audit(), ("train", "validation", "test")),
    "lambda_path": (lambda model: model.lambda_path([10], **QUICK), ("train", "validation")),
    "train_prediction": (lambda model: model.train_prediction(**QUICK), ("train", "validation")),
    "train(stages=('specific',))": (lambda model: model.train(stages=("specific",), **QUICK), ("train", "validation")),
    "feature_importance": (
        lambda model: model.feature_importance(modality="rna"),
        ("train", "validation", "test"),
    ),
    "audit_prediction": (lambda model: model.audit_prediction("rna", "adt"), ("test",)),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_subset_of_cells_can_be_encoded_but_not_audited_or_trained(name: str, folder: str, truth: pd.Series) -> None:
    some = make_cells()[:100].copy()
    loaded = IndiSeek.load(folder, adata=some)
    ask, parts = NEEDS[name]
    left, whole = Counter(truth[:100]), Counter(truth)
    lacking = " and ".join(f"{whole[part] - left[part]} of {whole[part]} {part} cells" for part in parts)
    before = {key: list(getattr(some, key)) for key in ("obs", "obsm", "uns")}
    with pytest.raises(RuntimeError) as caught:
        ask(loaded)
    assert str(caught.value).startswith(
        f"{name} needs the cells that the model was trained with, but the data lack {lacking} (by name and values)."
    )
    assert {key: list(getattr(some, key)) for key in before} == before
    assert loaded.stages_ == ["shared", "specific"]
    loaded.write_latents()
    pd.testing.assert_series_equal(some.obs[_keys.SPLIT].astype(str), truth[:100])


def test_new_cells_are_in_no_part(known: IndiSeek, folder: str, truth: pd.Series, tmp_path: Any) -> None:
    """The part of new cells is missing, and the column can be written to a file."""
    both = {}
    for name, cells in make_cells(seed=1)[:20].copy().mod.items():
        cells.obs_names = [f"new_{cell}" for cell in cells.obs_names]
        both[name] = anndata.concat([make_cells()[name][:30], cells])
    mixed = mudata.MuData(both)
    IndiSeek.load(folder, adata=mixed).write_latents()
    column = mixed.obs[_keys.SPLIT]
    assert column[30:].isna().all()
    assert (column[:30].astype(str) == truth[:30]).all()
    mixed.write(tmp_path / "mixed.h5mu")
    back = mudata.read_h5mu(tmp_path / "mixed.h5mu").obs[_keys.SPLIT]
    pd.testing.assert_series_equal(back.astype(object), column.astype(object))


@pytest.mark.parametrize("has_own_names", [True, False])
def test_other_cells_are_not_mistaken_for_training_cells(has_own_names: bool, folder: str) -> None:
    """Equal names do not suffice, since barcodes may coincide between sequencing runs."""
    other = make_cells(seed=1)
    if has_own_names:
        for cells in other.mod.values():
            cells.obs_names = [f"other_{name}" for name in cells.obs_names]
        other.update()
    other.obs[_keys.SPLIT] = "train"  # written by another model
    loaded = IndiSeek.load(folder, adata=other)
    assert loaded.split.n_cells == 0
    loaded.write_latents()
    assert _keys.SPLIT not in other.obs
    assert np.isfinite(other.obsm[_keys.JOINT]).all()
    with pytest.raises(RuntimeError, match="audit needs the cells .* 60 of 60 test cells"):
        loaded.audit()


def test_nothing_is_written_before_an_error(known: IndiSeek) -> None:
    new = make_cells(seed=1)
    new["rna"].X = new["rna"].X.toarray()
    new["rna"].X[5, 3] = np.nan
    before = {key: list(getattr(new, key)) for key in ("obs", "obsm", "uns")}
    with pytest.raises(ValueError, match="not finite"):
        known.write_latents(new)
    assert {key: list(getattr(new, key)) for key in before} == before


def test_a_model_without_data_encodes_a_query_and_stays_without_data(
    known: IndiSeek, folder: str, truth: pd.Series, tmp_path: Any
) -> None:
    loaded = IndiSeek.load(folder, adata=False)
    query = make_cells(seed=1)[:40].copy()
    loaded.write_latents(query)
    assert loaded.adata is None
    assert _keys.SPLIT not in query.obs
    assert query.obsm[_keys.JOINT].shape[0] == 40
    own = make_cells()[:40].copy()
    loaded.write_latents(own)
    assert loaded.adata is None
    pd.testing.assert_series_equal(own.obs[_keys.SPLIT].astype(str), truth[:40])
    np.testing.assert_allclose(own.obsm[_keys.JOINT], known.adata.obsm[_keys.JOINT][:40], atol=1e-5)
    assert loaded.train_indices is loaded.validation_indices is loaded.test_indices is None
    with pytest.raises(AttributeError, match="split: the model is not trained, or has no data"):
        _ = loaded.split
    with pytest.raises(ValueError, match="loaded without data"):
        loaded.write_latents()
    loaded.save(str(tmp_path / "again"))
    again = IndiSeek.load(str(tmp_path / "again"), adata=make_cells())
    np.testing.assert_array_equal(again.get_latent_representation(), known.get_latent_representation())


def test_cells_are_recognised_in_any_matrix_format(known: IndiSeek) -> None:
    """Rounding of sums of centred values must not distinguish formats of the same matrix."""
    mdata = make_cells()
    counts = np.log1p(mdata["adt"].X.toarray().astype(np.float64))
    mdata["adt"].layers["ratios"] = counts - counts.mean(axis=1, keepdims=True)
    IndiSeek.setup_mudata(mdata, adt_layer="ratios")
    model = IndiSeek(mdata)
    model.train(stages=("shared",), held_out=HELD_OUT, **QUICK)
    for form in (np.asfortranarray, sp.csr_matrix, sp.csc_matrix, lambda x: x.astype(np.float32)):
        same = make_cells()
        same["adt"].layers["ratios"] = form(mdata["adt"].layers["ratios"])
        IndiSeek.setup_mudata(same, adt_layer="ratios")
        assert find_split(model, model._validate_anndata(same)).n_cells == N_CELLS


def test_values_that_became_invalid_after_the_set_up_are_named(known: IndiSeek) -> None:
    """Registered values are checked in a sample of cells, features in all cells."""
    mdata = make_cells()
    mdata["adt"].X = mdata["adt"].X.toarray()
    known._validate_anndata(mdata)
    mdata["adt"].X[[7, 9], 3] = np.nan
    assert np.isfinite(read_features(known, mdata, "adt", np.array([8, 10]))).all()
    with pytest.raises(ValueError, match=r"mdata\['adt'\]: the values of 2 cells are not finite.*'cell_9', 'cell_7'"):
        read_features(known, mdata, "adt", np.array([9, 8, 7]))
