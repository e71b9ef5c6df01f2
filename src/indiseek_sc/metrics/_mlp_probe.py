"""The probe that finds what no line can tell: a small network, trained quickly."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from indiseek_sc.metrics._threads import single_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HIDDEN = 256
_LARGEST_BATCH = 256
_LEAST_BATCH = 32
_STEPS_PER_EPOCH = 16
"""Batches of small sets are cut so that an epoch has about so many steps."""
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
    """Predictions of an MLP with two hidden layers, shape ``(n_test, n_target)``.

    It is trained on ``fit`` with one cycle of the learning rate (Smith and Topin, arXiv 1708.07120), which gets as far in
    16 epochs as a constant rate in 40, until ``validation`` stops getting better; its best weights predict.
    """
    with single_thread():  # as fast for so small a network
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
    batch_size = int(np.clip(len(fit) // _STEPS_PER_EPOCH, _LEAST_BATCH, _LARGEST_BATCH))
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
