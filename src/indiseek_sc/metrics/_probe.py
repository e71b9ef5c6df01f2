"""What one set of variables tells of another: held-out R2 of freshly trained models."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_HIDDEN = 256
_BATCH_SIZE = 256
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 1e-3
_MAX_EPOCHS = 40
_PATIENCE = 10
_VALIDATION_SHARE = 1 / 8


def held_out_r2(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    seed: int = 0,
) -> float:
    """Share of the variance of ``target`` that ``source`` predicts: the better of a ridge regression and an MLP.

    Columns of ``source`` are standardised; those of ``target`` weigh by their variance. The mean that a prediction
    has to beat is that of the training cells, so the share can be less than 0.

    Parameters
    ----------
    source
        What is known, shape ``(n_cells, n_source)``.
    target
        What is to be told, shape ``(n_cells, n_target)``.
    train, test
        Row numbers of the cells to fit on and to judge on.
    seed
        Seed of the MLP: its weights, its batches and its validation cells.

    Returns
    -------
    R2 on ``test``; NaN where ``target`` does not vary.
    """
    if target.shape[1] == 0 or any(np.ptp(target[part], axis=0).max() == 0 for part in (train, test)):
        return float("nan")
    source = _standardise(source, train)
    target = _one_scale(target, train)
    rng = np.random.default_rng(seed)
    order = rng.permutation(train)
    n_validation = max(1, int(len(order) * _VALIDATION_SHARE))
    ridge = fit_ridge(source[train], target[train]).predict(source[test]).reshape(len(test), -1)
    with _one_thread():
        mlp = _fit_mlp(source, target, order[n_validation:], order[:n_validation], rng, seed)
        return max(_r2(ridge, target[test]), _r2(_predict(mlp, source[test]), target[test]))


def fit_ridge(source: NDArray[np.floating], target: NDArray[np.floating]) -> RidgeCV:
    """Ridge regression whose penalty is chosen by leave-one-out error."""
    return RidgeCV(alphas=np.logspace(-2, 4, 7)).fit(source, target)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: as fast for so small a network, and the same sums on every machine, however busy."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _standardise(matrix: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Columns with mean 0 and standard deviation 1 over the training cells; constant ones are 0."""
    matrix = matrix.astype(np.float64)
    width = matrix[train].std(axis=0)
    return ((matrix - matrix[train].mean(axis=0)) / np.where(width > 1e-8, width, 1.0)).astype(np.float32)


def _one_scale(matrix: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Columns centred over the training cells and divided by one number, so that the widest has width 1."""
    matrix = matrix.astype(np.float64)
    return ((matrix - matrix[train].mean(axis=0)) / matrix[train].std(axis=0).max()).astype(np.float32)


def _r2(predicted: NDArray[np.floating], target: NDArray[np.floating]) -> float:
    """One minus the error over the squares of ``target``, which is centred already."""
    return 1.0 - float(((predicted - target) ** 2).sum(dtype=np.float64) / (target**2).sum(dtype=np.float64))


def _predict(network: nn.Module, source: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return network(torch.from_numpy(source)).numpy()


def _fit_mlp(
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    fit: NDArray[np.intp],
    validation: NDArray[np.intp],
    rng: np.random.Generator,
    seed: int,
) -> nn.Module:
    """Two hidden layers, trained on ``fit`` until ``validation`` stops getting better; the best weights are kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(source.shape[1], _HIDDEN), nn.GELU(),
            nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(),
            nn.Linear(_HIDDEN, target.shape[1]),
        )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    inputs, outputs = torch.from_numpy(source), torch.from_numpy(target)
    best_error, best_state, since_best = np.inf, deepcopy(network.state_dict()), 0
    for _ in range(_MAX_EPOCHS):
        for batch in torch.from_numpy(rng.permutation(fit)).split(_BATCH_SIZE):
            loss = nn.functional.mse_loss(network(inputs[batch]), outputs[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        error = float(((_predict(network, source[validation]) - target[validation]) ** 2).mean())
        since_best += 1
        if error < best_error:
            best_error, best_state, since_best = error, deepcopy(network.state_dict()), 0
        if since_best == _PATIENCE:
            break
    network.load_state_dict(best_state)
    return network
