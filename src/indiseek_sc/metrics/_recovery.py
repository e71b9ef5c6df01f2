"""What can be told from a representation of unseen cells: labels, and true factors where they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_split
from indiseek_sc.metrics._probes import held_out_r2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike


def label_accuracy(
    latent: ArrayLike, labels: ArrayLike, train: ArrayLike, test: ArrayLike, *, n_neighbors: int = 15
) -> float:
    """Share of test cells whose label is the commonest among their nearest training cells.

    Parameters
    ----------
    latent
        Positions of the cells, shape ``(n_cells, n_features)``.
    labels
        One label a cell, shape ``(n_cells,)``; cells without one are left out of both parts.
    train, test
        Row numbers of the cells to learn from and to judge on, shapes ``(n_train,)`` and ``(n_test,)``.
    n_neighbors
        Number of training cells that vote.

    Returns
    -------
    Accuracy between 0 and 1.

    Raises
    ------
    ValueError
        If ``latent`` is not a finite matrix, ``train`` and ``test`` overlap or point outside, or a part has too few
        labelled cells.
    """
    points = as_matrix(latent, "latent")
    label, _ = as_labels(labels, "labels", len(points))
    known, unseen = (rows[label[rows] >= 0] for rows in as_split(train, test, len(points)))
    if not 1 <= check_whole("n_neighbors", n_neighbors, 0) <= len(known):
        raise ValueError(
            f"n_neighbors={n_neighbors} must be 1 or more, up to the {len(known)} labelled cells of train."
        )
    if len(unseen) == 0:
        raise ValueError("No cell of test has a label.")
    classifier = KNeighborsClassifier(n_neighbors=n_neighbors).fit(points[known], label[known])
    return float(classifier.score(points[unseen], label[unseen]))


def factor_recovery(
    latent: ArrayLike,
    factors: Mapping[str, ArrayLike],
    train: ArrayLike,
    test: ArrayLike,
    *,
    given: ArrayLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how much of each known factor fresh probes read from a representation, on held-out cells.

    Each factor has probes of its own, the better of which counts. For a specific representation of the synthetic suite the aim is at
    least .95 for factors that only its modality sees, and at most .02 for shared ones and their squares. This figure is ours.

    Parameters
    ----------
    latent
        Shape ``(n_cells, n_latent)``.
    factors
        By name, one or more factors of the same cells, shape ``(n_cells,)`` or ``(n_cells, n_factors)``.
    train, test
        Row numbers of the cells to fit probes on and to read figures on; without a cell in common.
    given
        What probes may read besides the representation, shape ``(n_cells, n_given)``. In the data s * p only the size of p is sure: p and
        p * sign(s) are equally independent of a symmetric s. A representation of either is read fairly with s given, which tells
        nothing of p by itself.
    seed
        Seed of the probes.

    Returns
    -------
    One row a factor: ``factor`` (name and column, such as ``shared_0``; the name alone where the array has one dimension)
    and ``r2``, NaN where a factor does not vary.

    Raises
    ------
    ValueError
        If no factor is given, shapes differ, a value is not finite, or ``train`` and ``test`` overlap or point outside of
        the cells.
    """
    if not factors:
        raise ValueError("factors is empty. Give at least one array by name.")
    source = as_matrix(latent, "latent")
    if given is not None:
        source = np.hstack([source, as_matrix(given, "given", len(source))])
    fitted, read = as_split(train, test, len(source))
    rows = []
    for name, values in factors.items():
        values = np.asarray(values)
        matrix = as_matrix(values[:, None] if values.ndim == 1 else values, f"factors[{name!r}]", len(source))
        for column in range(matrix.shape[1]):
            r2 = held_out_r2(source, matrix[:, [column]], fitted, read, seed=seed)
            rows.append({"factor": name if values.ndim == 1 else f"{name}_{column}", "r2": r2})
    return pd.DataFrame(rows)
