"""Probes: models that predict one set of variables from another, evaluated on held-out cells."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

PROBES = ("ridge", "mlp", "neighbors")
"""All kinds of probes."""

REGRESSIONS = ("ridge", "mlp")
"""Probes other than nearest neighbours."""

_VALIDATION_SHARE = 1 / 8
"""Share of the training cells that determine the best epoch and the number of neighbours."""

_NEIGHBORS = (5, 15, 45)
"""Candidate numbers of neighbours."""

_MAX_NEIGHBOR_CELLS = 10_000
"""Largest number of cells among which neighbours are sought."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of several probes for test cells, and the true values.

    Attributes
    ----------
    predictions
        By kind of probe, shape ``(n_test, n_target)``; empty if ``truth`` is constant.
    truth
        True values, centred over the training cells and divided by a common scale, shape
        ``(n_test, n_target)``.
    """

    predictions: dict[str, NDArray[np.floating]]
    truth: NDArray[np.floating]

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """Squared distance of each cell from the training mean, shape ``(n_test,)``."""
        return (self.truth.astype(np.float64) ** 2).sum(axis=1)

    @cached_property
    def explained(self) -> NDArray[np.float64]:
        """``squares`` minus the squared error of the best probe, shape ``(n_test,)``.

        Negative where the prediction is worse than the mean.
        """
        explained = [
            self.squares - ((predicted - self.truth).astype(np.float64) ** 2).sum(axis=1)
            for predicted in self.predictions.values()
        ]
        return max(explained, key=np.sum) if explained else np.full(len(self.truth), np.nan)

    @property
    def r2(self) -> float:
        """Share of the variance of the truth that the best probe predicts.

        NaN if the truth is constant. The reference is the mean of the training cells, so that the
        share can be negative.
        """
        return float(self.explained.sum() / self.squares.sum()) if self.predictions else float("nan")


def probe(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    probes: Collection[str] = REGRESSIONS,
    seed: int = 0,
) -> HeldOut:
    """Predict ``target`` by probes of several kinds.

    Columns of ``source`` are standardised; columns of ``target`` count in proportion to their
    variance.

    Parameters
    ----------
    source
        Predictors, shape ``(n_cells, n_source)``.
    target
        Values to predict, shape ``(n_cells, n_target)``.
    train, test
        Row numbers of the cells on which the probes are fitted and evaluated.
    probes
        Kinds of probes, of :data:`PROBES`: a ridge regression, an MLP, and the mean of the nearest
        training cells, which captures dependence that is too irregular for an MLP.
    seed
        Seed of the weights and batches of the MLP and of the draw of validation cells.
    """
    if target.shape[1] == 0 or any(np.ptp(target[part], axis=0).max() == 0 for part in (train, test)):
        return HeldOut({}, target[test])
    source, target = standardise(source, train), _one_scale(target, train)
    rng = np.random.default_rng(seed)
    order = rng.permutation(train)
    n_validation = max(1, int(len(order) * _VALIDATION_SHARE))
    validation, fit = order[:n_validation], order[n_validation:]
    predict = {
        "ridge": lambda: fit_ridge(source[train], target[train]).predict(source[test]).reshape(len(test), -1),
        "mlp": lambda: predict_by_mlp(source, target, fit, validation, test, rng, seed),
        "neighbors": lambda: _predict_by_neighbors(source, target, fit, validation, test),
    }
    return HeldOut({kind: predict[kind]() for kind in PROBES if kind in probes}, target[test])


def held_out_r2(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    seed: int = 0,
) -> float:
    """Compute the share of the variance of ``target`` that can be predicted from ``source``.

    The better of a ridge regression and an MLP counts.

    Parameters
    ----------
    source
        Predictors, shape ``(n_cells, n_source)``.
    target
        Values to predict, shape ``(n_cells, n_target)``; columns count in proportion to their
        variance.
    train, test
        Row numbers of the cells on which the probes are fitted and evaluated.
    seed
        Seed of the MLP.

    Returns
    -------
    R2 on test cells; NaN if ``target`` is constant.

    Examples
    --------
    >>> source = np.random.default_rng(0).normal(size=(60, 2))
    >>> target = source @ [[1.0], [2.0]]
    >>> round(isk.metrics.held_out_r2(source, target, np.arange(32), np.arange(32, 60)), 1)
    1.0
    """
    return probe(source, target, train, test, seed=seed).r2


def fit_ridge(source: NDArray[np.floating], target: NDArray[np.floating]) -> RidgeCV:
    """Return a ridge regression whose penalty is selected by leave-one-out error."""
    return RidgeCV(alphas=np.logspace(-2, 4, 7)).fit(source, target)


def _predict_by_neighbors(
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    fit: NDArray[np.intp],
    validation: NDArray[np.intp],
    test: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Return the mean of the nearest cells of ``fit``.

    The number of neighbours is the one that predicts ``validation`` best.
    """
    known = fit[:_MAX_NEIGHBOR_CELLS]  # in random order
    choices = [min(k, len(known)) for k in _NEIGHBORS]
    search = NearestNeighbors(n_neighbors=max(choices), algorithm="brute").fit(source[known])

    def predict(rows: NDArray[np.intp], k: int) -> NDArray[np.float32]:
        return target[known[nearest[rows][:, :k]]].mean(axis=1)

    cells = np.concatenate([validation, test])
    nearest = search.kneighbors(source[cells], return_distance=False)
    of_validation, of_test = np.arange(len(validation)), np.arange(len(validation), len(cells))
    best = min(choices, key=lambda k: float(((predict(of_validation, k) - target[validation]) ** 2).sum()))
    return predict(of_test, best)


def standardise(matrix: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return columns with mean 0 and standard deviation 1 over the training cells.

    Constant columns become 0.
    """
    matrix = matrix.astype(np.float64)
    width = matrix[train].std(axis=0)
    return ((matrix - matrix[train].mean(axis=0)) / np.where(width > 1e-8, width, 1.0)).astype(np.float32)


def _one_scale(matrix: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return columns centred over the training cells and divided by a common scale.

    The largest standard deviation becomes 1.
    """
    matrix = matrix.astype(np.float64)
    return ((matrix - matrix[train].mean(axis=0)) / matrix[train].std(axis=0).max()).astype(np.float32)


_HIDDEN = 256
_MAX_BATCH = 256
_MIN_BATCH = 32
_STEPS_PER_EPOCH = 16
"""Approximate number of steps per epoch to which the batch size of small data sets is adapted."""
_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 1e-3
_MAX_EPOCHS = 16
_PATIENCE = 8


def predict_by_mlp(
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    fit: NDArray[np.intp],
    validation: NDArray[np.intp],
    test: NDArray[np.intp],
    rng: np.random.Generator,
    seed: int,
) -> NDArray[np.float32]:
    """Return predictions of an MLP with two hidden layers, shape ``(n_test, n_target)``.

    It is trained on ``fit`` with one cycle of the learning rate (Smith and Topin, arXiv
    1708.07120), with which 16 epochs are as good as 40 with a constant learning rate, and with
    early stopping on ``validation``. The weights of the best epoch are used.
    """
    with limit_threads():  # one thread is equally fast for such a small network
        network = _fit_mlp(source, target, fit, validation, rng, seed)
        return _predict(network, source[test])


def _fit_mlp(
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    fit: NDArray[np.intp],
    validation: NDArray[np.intp],
    rng: np.random.Generator,
    seed: int,
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(source.shape[1], _HIDDEN), nn.GELU(),
            nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(),
            nn.Linear(_HIDDEN, target.shape[1]),
        )  # fmt: skip
    batch_size = int(np.clip(len(fit) // _STEPS_PER_EPOCH, _MIN_BATCH, _MAX_BATCH))
    n_steps = _MAX_EPOCHS * -(-len(fit) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=max(n_steps, 1))
    inputs, outputs = torch.from_numpy(source), torch.from_numpy(target)
    best_error, best_state, since_best = np.inf, deepcopy(network.state_dict()), 0
    for _ in range(_MAX_EPOCHS):
        for batch in torch.from_numpy(rng.permutation(fit)).split(batch_size):
            loss = nn.functional.mse_loss(network(inputs[batch]), outputs[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
        error = float(((_predict(network, source[validation]) - target[validation]) ** 2).mean())
        since_best += 1
        if error < best_error:
            best_error, best_state, since_best = error, deepcopy(network.state_dict()), 0
        if since_best == _PATIENCE:
            break
    network.load_state_dict(best_state)
    return network


def _predict(network: nn.Module, source: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return network(torch.from_numpy(source)).numpy()


@contextmanager
def limit_threads(n_threads: int = 1) -> Iterator[None]:
    """Limit the number of CPU threads of torch within a context.

    With one thread, sums do not depend on the number of cores, and small networks are hardly
    slower: on a busy machine, several threads that wait for each other at every layer made training
    ten times slower.

    Parameters
    ----------
    n_threads
        Number of threads.

    Examples
    --------
    >>> with isk.metrics.limit_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
