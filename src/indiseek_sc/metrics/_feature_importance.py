"""Importance of input features: sensitivity of an encoder, and content of its representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from indiseek_sc._settings import settings
from indiseek_sc.metrics._probes import probe, standardise

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Encode = Callable[[Tensor, slice], Tensor]
    """Maps inputs of some cells, shape ``(n_cells, n_inner)``, and their slice among all cells to
    their representation, shape ``(n_cells, n_latent)``. The representation of a cell must
    depend on that cell alone."""

_COLUMNS_PER_PROBE = 256


class FeatureImportance(NamedTuple):
    """Importance of each feature and its standard error over cells, of shape ``(n_features,)``.

    Attributes
    ----------
    value
        Importance of each feature.
    standard_error
        Its standard error over cells.

    Examples
    --------
    >>> isk.metrics.FeatureImportance(np.array([0.9, 0.1]), np.array([0.02, 0.01])).value
    array([0.9, 0.1])
    """

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]


def mean_squared_jacobian(encode: Encode, inner: Tensor, components: Tensor | None = None) -> FeatureImportance:
    r"""Compute the mean squared derivatives of a representation with respect to each feature.

    For feature :math:`j`, this is the mean over cells of
    :math:`\sum_k (\partial z_k / \partial x_j)^2`.

    Parameters
    ----------
    encode
        Function that maps inputs of some cells, and the slice of these cells among all cells, to
        their representation.
    inner
        Input of ``encode``, shape ``(n_cells, n_inner)``.
    components
        Matrix of shape ``(n_features, n_inner)`` if the input is ``x @ components`` for features x.
        The chain rule is then applied to a few cells at a time, so that memory does not limit the
        number of features.

    Returns
    -------
    Importance of each feature.

    Examples
    --------
    >>> weight = torch.tensor([[1.0], [-2.0]])
    >>> inputs = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> isk.metrics.mean_squared_jacobian(lambda x, cells: x @ weight, inputs).value
    array([1., 4.])
    """
    n_features = inner.shape[1] if components is None else components.shape[0]
    n_at_once = min(settings.cells_at_once, settings.rows_at_once(n_features))
    total = _Moments(n_features)
    for start in range(0, len(inner), n_at_once):
        chosen = slice(start, start + n_at_once)
        cells = inner[chosen].detach().requires_grad_(True)
        with torch.enable_grad():
            latent = encode(cells, chosen)
        squares = torch.zeros(len(cells), n_features, dtype=inner.dtype, device=inner.device)
        for dimension in range(latent.shape[1]):
            # Cells are independent, so row i of the gradient of the sum is the gradient of cell i.
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
    r"""Compute how far a representation moves when one feature is permuted among cells.

    The value
    :math:`E \lVert z(x_{j \leftarrow \pi}) - z(x) \rVert^2 / 2 \sum_k \operatorname{Var} z_k` is 1
    for a feature that alone determines the representation and 0 for one without influence.
    Permutation breaks the dependence among features, so that the encoder is also evaluated on
    combinations that do not occur.

    Parameters
    ----------
    encode, inner
        As in :func:`mean_squared_jacobian`.
    features
        Values of the features, shape ``(n_cells, n_features)``.
    components
        As in :func:`mean_squared_jacobian`.
    n_repeats
        Number of permutations.
    seed
        Seed of the permutations.

    Returns
    -------
    Importance of each feature.

    Examples
    --------
    >>> weight = torch.tensor([[1.0], [0.0]])
    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> isk.metrics.permutation_importance(lambda x, cells: x @ weight, x, x).value.round(1)
    array([1., 0.])
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
            else:  # changing one feature moves the input along one row of components
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
    """Compute the held-out R2 of each feature, predicted from a representation.

    All features share a ridge regression and an MLP, the better of which counts for each feature.

    Parameters
    ----------
    latent
        Any representation of the cells, shape ``(n_cells, n_dimensions)``.
    features
        Features to predict, shape ``(n_cells, n_features)``.
    train, test
        Row numbers of the cells on which the probes are fitted and evaluated, shapes ``(n_train,)``
        and ``(n_test,)``.
    seed
        Seed of the MLP.

    Returns
    -------
    R2 with its standard error over test cells (delta method); NaN for a constant feature.

    Examples
    --------
    >>> latent = np.random.default_rng(0).normal(size=(60, 2))
    >>> features = np.column_stack([latent.sum(axis=1), np.ones(60)])
    >>> isk.metrics.probe_r2(latent, features, np.arange(32), np.arange(32, 60)).value.round(1)
    array([ 1., nan])
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
    """Mean over cells and its standard error, accumulated over parts of the cells."""

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
