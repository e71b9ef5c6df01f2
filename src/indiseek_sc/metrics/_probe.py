"""What one set of variables tells of another: held-out predictions of freshly trained models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from indiseek_sc.metrics._mlp_probe import predict_by_mlp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VALIDATION_SHARE = 1 / 8

_NEIGHBORS = (5, 15, 45)
"""Numbers of neighbours to choose from."""

_MOST_NEIGHBORS_FROM = 10_000
"""Neighbours are sought among at most so many cells."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of test cells by several probes, and the truth.

    Attributes
    ----------
    predictions
        By probe (``"ridge"``, ``"mlp"``, ``"neighbors"``), shape ``(n_test, n_target)``; none where ``truth`` does not vary.
    truth
        Columns centred over the training cells and divided by one number, shape ``(n_test, n_target)``.
    """

    predictions: dict[str, NDArray[np.floating]]
    truth: NDArray[np.floating]

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """Squared distance of each cell from the mean of the training cells, shape ``(n_test,)``."""
        return (self.truth.astype(np.float64) ** 2).sum(axis=1)

    @cached_property
    def told(self) -> NDArray[np.float64]:
        """``squares`` less the squared error of the best probe, shape ``(n_test,)``; less than 0 where that misleads."""
        told = [
            self.squares - ((predicted - self.truth).astype(np.float64) ** 2).sum(axis=1)
            for predicted in self.predictions.values()
        ]
        return max(told, key=np.sum) if told else np.full(len(self.truth), np.nan)

    @property
    def r2(self) -> float:
        """Share of the variance of the truth that the best probe predicts; NaN where it has none.

        The mean that a prediction has to beat is that of the training cells, so the share can be less than 0.
        """
        return float(self.told.sum() / self.squares.sum()) if self.predictions else float("nan")


def probe(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    neighbors: bool = False,
    seed: int = 0,
) -> HeldOut:
    """Predict ``target`` from ``source`` by a ridge regression and an MLP, and by nearest neighbours if asked.

    Columns of ``source`` are standardised; those of ``target`` weigh by their variance.

    Parameters
    ----------
    source
        What is known, shape ``(n_cells, n_source)``.
    target
        What is to be told, shape ``(n_cells, n_target)``.
    train, test
        Row numbers of the cells to fit on and to judge on.
    neighbors
        Also predict by the mean of the nearest training cells, which sees what is too ragged for an MLP.
    seed
        Seed of the MLP, its weights and its batches, and of the draw of validation cells.
    """
    if target.shape[1] == 0 or any(np.ptp(target[part], axis=0).max() == 0 for part in (train, test)):
        return HeldOut({}, target[test])
    source, target = standardise(source, train), _one_scale(target, train)
    rng = np.random.default_rng(seed)
    order = rng.permutation(train)
    n_validation = max(1, int(len(order) * _VALIDATION_SHARE))
    validation, fit = order[:n_validation], order[n_validation:]
    predictions = {
        "ridge": fit_ridge(source[train], target[train]).predict(source[test]).reshape(len(test), -1),
        "mlp": predict_by_mlp(source, target, fit, validation, test, rng, seed),
    }
    if neighbors:
        predictions["neighbors"] = _predict_by_neighbors(source, target, fit, validation, test)
    return HeldOut(predictions, target[test])


def held_out_r2(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    seed: int = 0,
) -> float:
    """Share of the variance of ``target`` that ``source`` predicts, by the better of a ridge and an MLP; see :func:`probe`."""
    return probe(source, target, train, test, seed=seed).r2


def fit_ridge(source: NDArray[np.floating], target: NDArray[np.floating]) -> RidgeCV:
    """Ridge regression whose penalty is chosen by leave-one-out error."""
    return RidgeCV(alphas=np.logspace(-2, 4, 7)).fit(source, target)


def _predict_by_neighbors(
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    fit: NDArray[np.intp],
    validation: NDArray[np.intp],
    test: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Mean of the nearest cells of ``fit``, of as many as predict ``validation`` best."""
    known = fit[:_MOST_NEIGHBORS_FROM]  # in random order
    choices = [min(k, len(known)) for k in _NEIGHBORS]
    search = NearestNeighbors(n_neighbors=max(choices), algorithm="brute").fit(source[known])

    def predict(rows: NDArray[np.intp], k: int) -> NDArray[np.float32]:
        return target[known[nearest[rows][:, :k]]].mean(axis=1)

    cells = np.concatenate([validation, test])
    nearest = search.kneighbors(source[cells], return_distance=False)
    judged, wanted = np.arange(len(validation)), np.arange(len(validation), len(cells))
    best = min(choices, key=lambda k: float(((predict(judged, k) - target[validation]) ** 2).sum()))
    return predict(wanted, best)


def standardise(matrix: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Columns with mean 0 and standard deviation 1 over the training cells; constant ones are 0."""
    matrix = matrix.astype(np.float64)
    width = matrix[train].std(axis=0)
    return ((matrix - matrix[train].mean(axis=0)) / np.where(width > 1e-8, width, 1.0)).astype(np.float32)


def _one_scale(matrix: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Columns centred over the training cells and divided by one number, so that the widest has width 1."""
    matrix = matrix.astype(np.float64)
    return ((matrix - matrix[train].mean(axis=0)) / matrix[train].std(axis=0).max()).astype(np.float32)
