"""Permutation test of dependence between predictions and true values of held-out cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


N_PERMUTATIONS = 999

_MAX_PERMUTED_CELLS = 5_000
"""A random subset of this size is used if there are more cells; the test remains exact."""

_ROUNDING = 1e-9
"""Agreements that differ by less count as equal, since sums in another order differ by rounding."""


def permutation_p_value(
    predictions: Iterable[NDArray[np.floating]],
    truth: NDArray[np.floating],
    rng: np.random.Generator,
    groups: NDArray[np.intp] | None = None,
    *,
    n_permutations: int = N_PERMUTATIONS,
) -> float:
    r"""Test by permutation whether predictions of held-out cells agree with the truth.

    The agreement is the sum over columns of the correlation between prediction and truth, maximised
    over predictions. Its null distribution is obtained by permuting the truth among cells. Since
    the models were fitted on other cells, all permutations are equally likely if source and truth
    are independent, and the test is exact: the probability of a value of at most :math:`\alpha` is
    at most :math:`\alpha` (Phipson and Smyth, arXiv 1603.05766, for the 1 in
    :math:`(1 + \mathrm{count}) / (1 + n)`). The maximum over predictions is taken again for each
    permutation, so that the selection does not bias the test.

    Parameters
    ----------
    predictions
        Predictions of each model, shape ``(n_cells, n_columns)``.
    truth
        True values, shape ``(n_cells, n_columns)``.
    rng
        Generator of the permutations.
    groups
        Integer group of each cell, such as its batch, shape ``(n_cells,)``. Cells are permuted
        within groups, which tests for dependence beyond that explained by the group.
    n_permutations
        Number of permutations.

    Returns
    -------
    At least ``1 / (1 + n_permutations)`` and at most 1.
    """
    if len(truth) > _MAX_PERMUTED_CELLS:
        subset = rng.permutation(len(truth))[:_MAX_PERMUTED_CELLS]
        predictions, truth = [p[subset] for p in predictions], truth[subset]
        groups = None if groups is None else groups[subset]
    n_cells = len(truth)
    groups = np.zeros(n_cells, dtype=np.intp) if groups is None else groups
    # With cells sorted by group, sorting by group plus a random number permutes within groups.
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
    """Return columns centred and of length 1; constant columns become 0."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=0)
    return centred / np.where(length > 1e-8, length, np.inf)
