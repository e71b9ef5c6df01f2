"""Importance of input features: what an encoder uses, and what its representation contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from indiseek_sc.metrics._probes import probe, standardise

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Encode = Callable[[Tensor, slice], Tensor]
    """From what the encoder reads of some cells, shape ``(n_cells, n_inner)``, and which of all cells these are, to their
    representation, shape ``(n_cells, n_latent)``. The representation of a cell depends on that cell alone."""

_VALUES_AT_ONCE = 2**23
"""Numbers held at once in arrays of cells by features: 32 MB."""

_CELLS_AT_ONCE = 4096

_COLUMNS_PER_PROBE = 256


class FeatureImportance(NamedTuple):
    """Importance of each feature and its standard error over cells, both of shape ``(n_features,)``."""

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]


def mean_squared_jacobian(encode: Encode, inner: Tensor, components: Tensor | None = None) -> FeatureImportance:
    r"""Mean over cells of :math:`\sum_k (\partial z_k / \partial x_j)^2`, the squared slopes of a representation.

    Parameters
    ----------
    encode
        The encoder.
    inner
        What it reads, shape ``(n_cells, n_inner)``.
    components
        If it reads ``x @ components`` instead of features x, shape ``(n_features, n_inner)``: the derivative is carried
        through, a few cells at a time, so that any number of features goes.
    """
    n_features = inner.shape[1] if components is None else components.shape[0]
    n_at_once = min(_CELLS_AT_ONCE, max(1, _VALUES_AT_ONCE // n_features))
    total = _Moments(n_features)
    for start in range(0, len(inner), n_at_once):
        chosen = slice(start, start + n_at_once)
        cells = inner[chosen].detach().requires_grad_(True)
        with torch.enable_grad():
            latent = encode(cells, chosen)
        squares = torch.zeros(len(cells), n_features, dtype=inner.dtype, device=inner.device)
        for dimension in range(latent.shape[1]):
            # Cells do not depend on each other, so the gradient of the sum has the gradient of each in its row.
            (slope,) = torch.autograd.grad(latent[:, dimension].sum(), cells, retain_graph=True)
            squares += (slope if components is None else slope @ components.T) ** 2
        total.add(squares)
    return total.finish()


@torch.no_grad()
def permutation_importance(
    encode: Encode,
    inner: Tensor,
    features: Tensor,
    components: Tensor | None = None,
    *,
    n_repeats: int = 5,
    seed: int = 0,
) -> FeatureImportance:
    r"""How far a representation moves when one feature is exchanged among cells, as a share of twice the variance of the representation.

    :math:`E \lVert z(x_{j \leftarrow \pi}) - z(x) \rVert^2 / 2 \sum_k \operatorname{Var} z_k`: 1 for a feature that alone
    decides the representation, 0 for one that has no influence. It breaks the dependence among features, so the encoder is
    also asked about cells that do not exist.

    Parameters
    ----------
    encode, inner, components
        As in :func:`mean_squared_jacobian`.
    features
        Values of the features, shape ``(n_cells, n_features)``.
    n_repeats
        Number of exchanges.
    seed
        Decides them.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(inner), generator=generator).to(inner.device) for _ in range(n_repeats)]
    every = slice(0, len(inner))
    latent = encode(inner, every)
    scale = 2 * float(latent.var(dim=0, correction=0).sum())
    values, errors = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    if scale == 0:
        return FeatureImportance(values, errors)
    for j, own in enumerate(features.T):
        moved = torch.zeros(len(inner), dtype=torch.float64, device=inner.device)
        for order in orders:
            change = own[order] - own
            if components is None:
                exchanged = inner.clone()
                exchanged[:, j] += change
            else:  # a change of one feature is a change along one row of the components
                exchanged = inner + change[:, None] * components[j]
            moved += ((encode(exchanged, every) - latent) ** 2).sum(dim=1).double()
        moved /= n_repeats * scale
        values[j], errors[j] = float(moved.mean()), float(moved.std()) / len(moved) ** 0.5
    return FeatureImportance(values, errors)


def probe_r2(
    latent: NDArray[np.floating],
    features: NDArray[np.floating],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    seed: int = 0,
) -> FeatureImportance:
    """Held-out R2 from a representation to each feature: the better of a ridge regression and an MLP, which columns share.

    Parameters
    ----------
    latent
        Shape ``(n_cells, n_latent)``.
    features
        Shape ``(n_cells, n_features)``.
    train, test
        Row numbers of the cells to fit on and to judge on.
    seed
        Seed of the MLP.

    Returns
    -------
    R2, NaN for a feature that does not vary, with its standard error over the test cells (delta method).
    """
    values, errors = np.full(features.shape[1], np.nan), np.full(features.shape[1], np.nan)
    for start in range(0, features.shape[1], _COLUMNS_PER_PROBE):
        columns = slice(start, start + _COLUMNS_PER_PROBE)
        target = standardise(features[:, columns], train)
        held_out = probe(latent, target, train, test, seed=seed)
        if not held_out.predictions:
            continue
        squares = held_out.truth.astype(np.float64) ** 2
        guesses = held_out.predictions.values()
        missed = np.stack([(guess - held_out.truth).astype(np.float64) ** 2 for guess in guesses])
        missed = np.take_along_axis(missed, missed.mean(axis=1).argmin(axis=0)[None, None], axis=0)[0]
        varies = (target[train].std(axis=0) > 0) & (squares.mean(axis=0) > 0)
        whole = np.where(varies, squares.mean(axis=0), np.nan)
        values[columns] = 1 - missed.mean(axis=0) / whole
        influence = missed - (1 - values[columns]) * squares
        errors[columns] = influence.std(axis=0) / whole / np.sqrt(len(test))
    return FeatureImportance(values, errors)


class _Moments:
    """Mean over cells and its standard error, cells coming in parts."""

    def __init__(self, n_columns: int) -> None:
        self.n = 0
        self.total, self.squares = np.zeros(n_columns), np.zeros(n_columns)

    def add(self, part: Tensor) -> None:
        self.n += len(part)
        part = part.double()
        self.total += part.sum(dim=0).cpu().numpy()
        self.squares += (part**2).sum(dim=0).cpu().numpy()

    def finish(self) -> FeatureImportance:
        mean = self.total / self.n
        variance = np.maximum(self.squares / self.n - mean**2, 0.0) * self.n / max(1, self.n - 1)
        return FeatureImportance(mean, np.sqrt(variance / self.n))
