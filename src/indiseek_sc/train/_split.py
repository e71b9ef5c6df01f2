"""Split of cells into training, validation and test cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from indiseek_sc._checks import check_share

VALIDATION_SHARE = 0.1
"""Default fraction of validation cells."""

FEWEST_VALIDATION_CELLS = 150
"""Smallest default number of validation cells, as far as the largest fraction allows."""

LARGEST_VALIDATION_SHARE = 0.25
"""Largest default fraction of validation cells, reached on small data."""

FEWEST_TRAINING_CELLS = 32
"""Smallest number of training cells."""


@dataclass(frozen=True)
class Rows:
    """Row numbers of training and validation cells, as one-dimensional tensors on a device."""

    train: torch.Tensor
    validation: torch.Tensor


@dataclass(frozen=True)
class Split:
    """Row numbers of training, validation and test cells, each one-dimensional and sorted.

    The three parts are disjoint.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cells in all parts."""
        return self.train.size + self.validation.size + self.test.size

    def for_judging(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells to fit probes on, and the held-out cells to evaluate them on.

        Probes are evaluated on the test cells and fitted on all others; without test cells, they
        are evaluated on the validation cells and fitted on the training cells.
        """
        if self.test.size:
            return np.concatenate([self.train, self.validation]), self.test
        return self.train, self.validation

    def among(self, rows: np.ndarray) -> Split:
        """Return positions within ``rows``, which are sorted and include all cells of the split."""
        return Split(*(np.searchsorted(rows, part) for part in (self.train, self.validation, self.test)))

    def of(self, rows: np.ndarray) -> Split:
        """Return row numbers for positions within ``rows``: the inverse of :meth:`among`."""
        return Split(rows[self.train], rows[self.validation], rows[self.test])

    def on(self, device: torch.device) -> Rows:
        """Return the row numbers of training and validation cells on a device."""
        return Rows(*(torch.from_numpy(part).to(device) for part in (self.train, self.validation)))

    def as_column(self, n_cells: int | None = None) -> np.ndarray:
        """Return the part of each cell, such as ``"train"``, or None, shape ``(n_cells,)``."""
        column = np.full(self.n_cells if n_cells is None else n_cells, None, dtype=object)
        column[self.train], column[self.validation], column[self.test] = "train", "validation", "test"
        return column


def draw_split(
    n_cells: int,
    *,
    seed: int,
    train_size: float | None = None,
    validation_size: float | None = None,
    held_out: np.ndarray | None = None,
) -> Split:
    """Draw a random split.

    Parameters
    ----------
    n_cells
        Number of cells.
    seed
        Seed of the split.
    train_size
        Number of training cells as a fraction of the cells that are not held out; by default all
        except the validation cells.
    validation_size
        Number of validation cells as a fraction of the same cells; by default the cells that
        ``train_size`` leaves, or, without it, 0.1, and more on small data.
    held_out
        Row numbers of test cells, shape ``(n_held_out,)``.

    Raises
    ------
    ValueError
        If a fraction is out of range, or too few cells remain.
    """
    held_out = np.array([], dtype=int) if held_out is None else np.unique(held_out)
    if held_out.size and (held_out[0] < 0 or held_out[-1] >= n_cells):
        raise ValueError(f"held_out: row numbers must lie in 0 to {n_cells - 1}, but reach {held_out[[0, -1]]}.")
    free = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(n_cells), held_out))
    n_train, n_validation = _sizes(free.size, train_size, validation_size)
    if n_train < FEWEST_TRAINING_CELLS or n_validation < 2:
        remedy = (
            "hold out fewer cells, or change train_size" if n_cells >= FEWEST_TRAINING_CELLS + 2 else "use more cells"
        )
        raise ValueError(
            f"Too few cells: {n_train} to train on and {n_validation} to validate on, of {n_cells} with {held_out.size} held "
            f"out. At least {FEWEST_TRAINING_CELLS} and 2 are needed: {remedy}."
        )
    rest = free[n_train + n_validation :]
    return Split(
        train=np.sort(free[:n_train]),
        validation=np.sort(free[n_train : n_train + n_validation]),
        test=np.sort(np.concatenate([rest, held_out]).astype(int)),
    )


def _sizes(n_free: int, train_size: float | None, validation_size: float | None) -> tuple[int, int]:
    for name, share in (("train_size", train_size), ("validation_size", validation_size)):
        if share is not None:
            check_share(name, share)
    if validation_size is None and train_size is None:
        wanted = max(VALIDATION_SHARE * n_free, min(FEWEST_VALIDATION_CELLS, LARGEST_VALIDATION_SHARE * n_free))
        return n_free - int(wanted), int(wanted)
    if validation_size is None:
        n_train = round(train_size * n_free)  # type: ignore[operator]
        return n_train, n_free - n_train
    n_validation = round(validation_size * n_free)
    n_train = n_free - n_validation if train_size is None else round(train_size * n_free)
    if n_train + n_validation > n_free:
        raise ValueError(f"train_size + validation_size must be at most 1, but is {train_size} + {validation_size}.")
    return n_train, n_validation
