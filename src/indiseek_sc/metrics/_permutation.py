"""Whether a code tells anything at all: a permutation test on held-out cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

N_PERMUTATIONS = 999

_MOST_CELLS = 5_000
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
    if len(truth) > _MOST_CELLS:
        few = rng.permutation(len(truth))[:_MOST_CELLS]
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
