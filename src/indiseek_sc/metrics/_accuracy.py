"""How well labels of unseen cells can be told from a code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.neighbors import KNeighborsClassifier

from indiseek_sc.metrics._checks import as_labels, as_matrix, as_split

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def label_accuracy(
    code: ArrayLike, labels: ArrayLike, train: ArrayLike, test: ArrayLike, *, n_neighbors: int = 15
) -> float:
    """Share of test cells whose label is the commonest among their nearest training cells.

    Parameters
    ----------
    code
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
        If ``code`` is not a finite matrix, ``train`` and ``test`` overlap or point outside, or a part has too few
        labelled cells.
    """
    points = as_matrix(code, "code")
    label, _ = as_labels(labels, "labels", len(points))
    known, unseen = (rows[label[rows] >= 0] for rows in as_split(train, test, len(points)))
    if not 1 <= n_neighbors <= len(known):
        raise ValueError(
            f"n_neighbors={n_neighbors} must be 1 or more, up to the {len(known)} labelled cells of train."
        )
    if len(unseen) == 0:
        raise ValueError("No cell of test has a label.")
    classifier = KNeighborsClassifier(n_neighbors=n_neighbors).fit(points[known], label[known])
    return float(classifier.score(points[unseen], label[unseen]))
