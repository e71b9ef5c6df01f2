from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiseek_sc.train import Split, draw_split

fractions = st.one_of(st.none(), st.floats(0.35, 0.6))


@settings(max_examples=60, deadline=None)
@given(st.integers(200, 2000), st.integers(0, 2**32 - 1), fractions, fractions.map(lambda x: x and x / 2), st.data())
def test_every_cell_is_in_one_part(n_cells, seed, train_size, validation_size, data):
    held_out = np.array(data.draw(st.lists(st.integers(0, n_cells - 1), max_size=50)), dtype=int)
    options = {"seed": seed, "train_size": train_size, "validation_size": validation_size, "held_out": held_out}
    split = draw_split(n_cells, **options)
    everyone = np.concatenate([split.train, split.validation, split.test])
    assert np.array_equal(np.sort(everyone), np.arange(n_cells))
    assert np.isin(held_out, split.test).all()
    for rows in (split.train, split.validation, split.test):
        assert np.array_equal(rows, np.sort(rows))
    n_free = n_cells - np.unique(held_out).size
    if train_size is not None:
        assert split.train.size == round(train_size * n_free)
    if validation_size is not None:
        assert split.validation.size == round(validation_size * n_free)
    if train_size is None or validation_size is None:
        assert split.train.size + split.validation.size == n_free
    again = draw_split(n_cells, **options)
    assert np.array_equal(split.train, again.train)
    assert np.array_equal(split.validation, again.validation)


@pytest.mark.parametrize(("n_cells", "n_validation"), [(100, 25), (600, 150), (1000, 150), (1500, 150), (6000, 600)])
def test_fraction_of_validation_cells_is_larger_in_small_data(n_cells, n_validation):
    split = draw_split(n_cells, seed=0)
    assert split.validation.size == n_validation
    assert split.train.size == n_cells - n_validation
    assert split.test.size == 0


def test_split_depends_on_the_seed_only():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    assert not np.array_equal(draw_split(200, seed=0).train, draw_split(200, seed=1).train)
    assert np.array_equal(np.random.get_state()[1], state)


def test_repeated_held_out_rows():
    assert draw_split(200, seed=0, held_out=np.array([9, 3, 9])).test.tolist() == [3, 9]


def test_column_of_parts():
    split = draw_split(200, seed=0, train_size=0.5, validation_size=0.2, held_out=np.arange(10))
    column = split.as_column()
    for part in ("train", "validation", "test"):
        assert np.array_equal(np.flatnonzero(column == part), getattr(split, part))


@settings(max_examples=60, deadline=None)
@given(st.integers(200, 600), st.integers(0, 300), st.integers(0, 2**32 - 1), fractions, st.data())
def test_column_of_parts_among_other_cells(n_cells, n_others, seed, train_size, data):
    held_out = np.array(data.draw(st.lists(st.integers(0, n_cells - 1), max_size=50)), dtype=int)
    drawn = draw_split(n_cells, seed=seed, train_size=train_size, held_out=held_out)
    assert (drawn.as_column() == drawn.as_column(n_cells)).all()
    assert drawn.n_cells == n_cells
    assert set(drawn.as_column()) <= {"train", "validation", "test"}
    # The same split among other cells.
    where = np.sort(np.random.default_rng(seed).permutation(n_cells + n_others)[:n_cells])
    split = Split(*(where[rows] for rows in (drawn.train, drawn.validation, drawn.test)))
    column = split.as_column(n_cells + n_others)
    assert column.shape == (n_cells + n_others,)
    assert (column[where] == drawn.as_column()).all()
    assert all(part is None for part in np.delete(column, where))
    for part in ("train", "validation", "test"):
        assert np.array_equal(np.flatnonzero(column == part), getattr(split, part))


@pytest.mark.parametrize("held_out", [np.arange(10), np.array([], dtype=int)])
def test_evaluation_on_test_cells_or_else_on_validation_cells(held_out):
    split = draw_split(200, seed=0, held_out=held_out)
    fitted_on, evaluated_on = split.for_judging()
    if held_out.size:
        assert evaluated_on.tolist() == held_out.tolist()
        assert np.array_equal(np.sort(fitted_on), np.arange(10, 200))
        assert np.array_equal(fitted_on, np.concatenate([split.train, split.validation]))
    else:
        assert evaluated_on is split.validation
        assert fitted_on is split.train


@settings(max_examples=30, deadline=None)
@given(st.integers(200, 600), st.integers(0, 2**32 - 1), st.booleans())
def test_probes_are_fitted_and_evaluated_on_different_cells(n_cells, seed, has_test):
    split = draw_split(n_cells, seed=seed, held_out=np.arange(20) if has_test else None)
    fitted_on, evaluated_on = split.for_judging()
    assert not np.intersect1d(fitted_on, evaluated_on).size
    assert np.array_equal(np.sort(np.concatenate([fitted_on, evaluated_on])), np.arange(n_cells))


def test_row_numbers_on_a_device():
    split = draw_split(200, seed=0, held_out=np.arange(10))
    rows = split.on(torch.device("cpu"))
    for part in ("train", "validation"):
        moved = getattr(rows, part)
        assert (moved.device.type, moved.dtype) == ("cpu", torch.int64)
        assert np.array_equal(moved.numpy(), getattr(split, part))


@pytest.mark.parametrize("name", ["train_size", "validation_size"])
@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0, float("nan"), "0.5"])
def test_invalid_fractions_are_rejected(name, share):
    with pytest.raises(ValueError, match=f"^{name}(=.*)? must .*{share}|^{name}={share} must lie between 0 and 1"):
        draw_split(200, seed=0, **{name: share})


def test_fractions_above_1_in_total_are_rejected():
    with pytest.raises(ValueError, match=r"train_size \+ validation_size must be at most 1, but is 0.8 \+ 0.3"):
        draw_split(200, seed=0, train_size=0.8, validation_size=0.3)


@pytest.mark.parametrize("row", [-1, 200])
def test_unknown_rows_are_rejected(row):
    with pytest.raises(ValueError, match="held_out: row numbers must lie in 0 to 199"):
        draw_split(200, seed=0, held_out=np.array([5, row]))


@pytest.mark.parametrize(
    ("n_cells", "options"),
    [(30, {}), (200, {"held_out": np.arange(170)}), (200, {"train_size": 0.1}), (200, {"train_size": 0.999})],
)
def test_too_few_cells_are_rejected(n_cells, options):
    with pytest.raises(ValueError, match="Too few cells: .*: (hold out fewer cells, or change train_size|use more cells)"):
        draw_split(n_cells, seed=0, **options)
