"""What one set of variables tells of another on held-out cells: fresh models, a permutation test, and the directions that count."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    """Share of the variance of ``target`` that ``source`` predicts, by the better of a ridge regression and an MLP."""
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
    with limit_threads():  # as fast for so small a network
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


@contextmanager
def limit_threads(n_threads: int = 1) -> Iterator[None]:
    """Let torch use so many threads on the CPU within the block.

    With one, sums are the same on every machine, and networks as small as ours are hardly slower: on a busy machine, several
    threads that wait for each other at every layer made training ten times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


N_PERMUTATIONS = 999

_MOST_PERMUTED = 5_000
"""Of more cells so many are drawn, which leaves the test exact."""

_ROUNDING = 1e-9
"""Agreements as near as this are one agreement: sums in another order are off by rounding."""


def permutation_p_value(
    predictions: Iterable[NDArray[np.floating]],
    truth: NDArray[np.floating],
    rng: np.random.Generator,
    groups: NDArray[np.intp] | None = None,
    *,
    n_permutations: int = N_PERMUTATIONS,
) -> float:
    r"""How often chance alone makes predictions of held-out cells agree with the truth as well as they do.

    The agreement is the sum over columns of the correlation between prediction and truth, of the best prediction. Its
    null distribution comes from giving each cell the truth of another one. The models that predict were fitted on other
    cells, so where source and truth are independent all pairings are equally likely, and the test is exact: the chance of
    a value of at most :math:`\alpha` is at most :math:`\alpha` (Phipson and Smyth, arXiv 1603.05766, for the 1 in
    :math:`(1 + \mathrm{count}) / (1 + n)`). The best prediction is sought anew for each pairing, so that the choice
    does not spoil this.

    Parameters
    ----------
    predictions
        Of each model, shape ``(n_cells, n_columns)``.
    truth
        Shape ``(n_cells, n_columns)``.
    rng
        Draws the pairings.
    groups
        Number of the group of each cell, such as its batch, shape ``(n_cells,)``; cells are paired within their group, and
        the question is then whether the source tells anything beyond the group.
    n_permutations
        Number of pairings.

    Returns
    -------
    At least ``1 / (1 + n_permutations)`` and at most 1.
    """
    if len(truth) > _MOST_PERMUTED:
        few = rng.permutation(len(truth))[:_MOST_PERMUTED]
        predictions, truth, groups = [p[few] for p in predictions], truth[few], None if groups is None else groups[few]
    n_cells = len(truth)
    groups = np.zeros(n_cells, dtype=np.intp) if groups is None else groups
    # Sorted by group, any order of random numbers within groups pairs cells of a group with each other.
    by_group = np.argsort(groups, kind="stable")
    groups = groups[by_group]
    columns = np.stack([_unit_columns(predicted[by_group]).ravel() for predicted in predictions])
    target = _unit_columns(truth[by_group])
    observed = (columns @ target.ravel()).max() - _ROUNDING
    n_as_good = 0
    for _ in range(n_permutations):
        pairing = np.argsort(groups + rng.random(n_cells))
        n_as_good += int((columns @ target[pairing].ravel()).max() >= observed)
    return (1 + n_as_good) / (1 + n_permutations)


def _unit_columns(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Columns centred and of length 1; constant ones are 0."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=0)
    return centred / np.where(length > 1e-8, length, np.inf)


FLOOR = 0.05
"""Height of the floor, as a share of the standard deviation of a representation's widest direction."""


def through_floor(
    latent: NDArray[np.floating], train: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Principal directions of ``latent`` with the noise of the floor added to each, for praise.

    What a representation hides at a tiny scale is lost, so that it earns nothing by it. Shape ``(n_cells, n_features)`` in and
    out, or fewer columns where there are fewer training cells than features.
    """
    turned, widths = _principal_directions(latent, train)
    return turned + FLOOR * widths.max() * rng.standard_normal(turned.shape)


def flat_directions(latent: NDArray[np.floating], train: NDArray[np.intp]) -> NDArray[np.float64]:
    """Principal directions of ``latent`` that rise above the floor, each scaled to a standard deviation of 1.

    Shape ``(n_cells, n_directions)``; no columns at all where ``latent`` is constant.
    """
    turned, widths = _principal_directions(latent, train)
    above = widths > FLOOR * widths.max()
    return turned[:, above] / widths[above]


def _principal_directions(
    latent: NDArray[np.floating], train: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``latent`` turned to the principal axes of its training cells, and its standard deviation there along each."""
    centred = latent.astype(np.float64) - latent[train].mean(axis=0, dtype=np.float64)
    # Rounding may leave a constant representation a width of its own; it has none.
    if np.ptp(latent[train], axis=0).max() == 0:
        return centred, np.zeros(latent.shape[1])
    turned = PCA(random_state=0).fit(centred[train]).transform(centred)
    return turned, turned[train].std(axis=0)
