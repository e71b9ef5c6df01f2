from __future__ import annotations

import weakref

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indiseek_sc.train import DeviceBatches, StageData
from indiseek_sc.train._batches import MOST_VALIDATION_CELLS

sizes = {"n_cells": st.integers(1, 200), "batch_size": st.integers(1, 64)}


def draw_pass(batches: DeviceBatches) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@settings(deadline=None, max_examples=50)
@given(**sizes, shuffle=st.booleans(), seed=st.integers(0, 1000))
def test_pass_includes_every_cell_once_in_equal_batches(n_cells, batch_size, shuffle, seed):
    batches = DeviceBatches(torch.arange(n_cells), n_cells, batch_size, shuffle=shuffle, seed=seed)
    for _ in range(2):
        seen = draw_pass(batches)
        assert len(seen) == len(batches)
        assert sorted(sum(seen, [])) == list(range(n_cells))
        lengths = [len(batch) for batch in seen]
        assert max(lengths) - min(lengths) <= 1
        # No batch is smaller than requested, since the other cells of a batch are the negatives.
        assert min(lengths) >= min(batch_size, n_cells)


def test_order_depends_on_seed_and_pass():
    first, second, other = (DeviceBatches(torch.arange(50), 50, 10, seed=seed) for seed in (1, 1, 2))
    passes = [draw_pass(first) for _ in range(3)]
    torch.manual_seed(9)  # must not have any effect
    assert [draw_pass(second) for _ in range(3)] == passes
    assert passes[0] != passes[1] != passes[2]
    assert draw_pass(other) != passes[0]


def test_order_is_kept_without_shuffling():
    batches = DeviceBatches(torch.arange(10), 10, 3, shuffle=False)
    assert draw_pass(batches) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert draw_pass(batches) == draw_pass(batches)


@settings(deadline=None, max_examples=50)
@given(**sizes, n_extra=st.integers(1, 3))
def test_extra_batches_are_separate_passes(n_cells, batch_size, n_extra):
    batches = DeviceBatches(torch.arange(n_cells), n_cells, batch_size, n_extra=n_extra)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert all(len(extra) == n_extra for _, extra in seen)
    for k in range(n_extra):
        assert sorted(torch.cat([extra[k] for _, extra in seen]).tolist()) == list(range(n_cells))
        assert [len(extra[k]) for _, extra in seen] == [len(first) for first, _ in seen]


def test_extra_batches_have_other_cells():
    first, (second, third) = next(iter(DeviceBatches(torch.arange(1000), 1000, 100, n_extra=2)))
    assert not first.equal(second)
    assert not second.equal(third)


def test_rows_of_nested_tensors_stay_aligned():
    cells = {"rna": {"x": torch.arange(20), "y": torch.arange(20)[:, None] * 2.0}, "adt": {"x": -torch.arange(20)}}
    for batch in DeviceBatches(cells, 20, 6):
        assert torch.equal(batch["rna"]["y"][:, 0], 2.0 * batch["rna"]["x"])
        assert torch.equal(batch["adt"]["x"], -batch["rna"]["x"])


def test_training_and_validation_batches():
    train, validation = torch.tensor([7, 2, 9, 4]), torch.tensor([0, 5])
    data = StageData({"rna": torch.arange(10) * 10}, train, validation, batch_size=2, n_extra=1)
    seen = torch.cat([x["rna"] for first, extra in data.train_dataloader() for x in (first, *extra)])
    assert sorted(seen.tolist()) == sorted([20, 40, 70, 90] * 2)
    assert [x["rna"].tolist() for x in data.val_dataloader()] == [[0, 50]]
    assert [x["rna"].tolist() for x in data.val_dataloader()] == [[0, 50]]


def test_rows_are_selected_batch_by_batch():
    cells, rows = torch.arange(50) * 10, torch.tensor([4, 40, 9, 3, 31])
    batches = DeviceBatches(cells, 5, 2, rows=rows)
    assert batches.cells is cells
    assert sorted(sum(draw_pass(batches), [])) == [30, 40, 90, 310, 400]


@settings(deadline=None, max_examples=50)
@given(n_cells=st.integers(2, 30_000))
def test_validation_cells_are_subsampled_evenly(n_cells):
    data = StageData(torch.arange(n_cells), torch.arange(2), torch.arange(n_cells), batch_size=2)
    seen = torch.cat(list(data.val_dataloader()))
    assert min(n_cells, MOST_VALIDATION_CELLS // 2) <= len(seen) <= MOST_VALIDATION_CELLS
    assert len(set(seen.diff().tolist())) <= 1
    assert n_cells > MOST_VALIDATION_CELLS or len(seen) == n_cells


def test_released_data_are_freed():
    cells = {"rna": torch.arange(10)}
    data = StageData(cells, torch.arange(8), torch.arange(8, 10), batch_size=2)
    held = weakref.ref(cells["rna"])
    del cells
    assert held() is not None
    data.release()
    assert held() is None
    assert len(data.train_dataloader()) == 4
