"""Information of specific representations about labels, in bits, beyond the shared ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from indiseek_sc._checks import check_whole
from indiseek_sc.metrics._checks import as_labels, as_matrix, as_split
from indiseek_sc.metrics._probes import standardise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

MAX_TRAINING_CELLS, MAX_TEST_CELLS = 10_000, 20_000
"""Larger numbers of cells are reduced to random subsets; the standard error is small then."""

_PRIOR_WEIGHT = 1e-3
"""Weight of label frequencies in predicted probabilities; it bounds the influence of one cell."""


@dataclass(frozen=True, eq=False)
class LabelInformation:
    """Information about each label in test cells.

    Attributes
    ----------
    names
        The labels, shape ``(n_labels,)``, without those of too few cells.
    test
        Row numbers of the test cells, shape ``(n_test,)``.
    gain
        By modality, the contribution of each cell to the information about each label, in bits per
        cell of that label, shape ``(n_test, n_labels)``. The mean over all test cells is the
        estimate.

    Examples
    --------
    >>> gain = {"rna": np.array([[0.4], [0.2]])}
    >>> found = isk.metrics.LabelInformation(np.array(["B cell"]), np.arange(2), gain)
    >>> found.gain["rna"].mean(axis=0).round(2)
    array([0.3])
    """

    names: NDArray[np.str_]
    test: NDArray[np.intp]
    gain: dict[str, NDArray[np.float64]]


def label_information(
    shared: ArrayLike,
    specific: Mapping[str, ArrayLike],
    labels: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    *,
    minimum_cells: int = 15,
    seed: int = 0,
) -> LabelInformation:
    r"""Estimate the information about labels that specific representations add to the shared ones.

    A probe :math:`q` predicts the labels from the shared representations :math:`C` alone and from
    :math:`(C, Z_m)`. For label :math:`\ell`, with :math:`y = 1` in its cells, the conditional
    information in bits per cell of the label is

    .. math::
        I_m(\ell) = \frac{1}{P(y = 1)} E \log_2 \frac{q(y \mid C, Z_m)}{q(y \mid C)}

    on test cells. It is 0 if :math:`Z_m` adds nothing, below 0 if the probe overfits, and at most
    the entropy that remains given :math:`C`. It is the information that this probe can use, a lower
    bound in expectation up to the error of :math:`q(y \mid C)` [1]_ [2]_. The probe is the average
    of a logistic regression and of gradient-boosted trees, which predict better together than
    either alone.

    Parameters
    ----------
    shared
        Shared representations of all modalities side by side, with covariates appended if there are
        any, shape ``(n_cells, n_shared)``.
    specific
        By modality, its specific representation, shape ``(n_cells, n_specific)``.
    labels
        Label of each cell, shape ``(n_cells,)``; cells without one are ignored.
    train, test
        Row numbers of the cells on which probes are fitted and evaluated, shapes ``(n_train,)`` and
        ``(n_test,)``.
    minimum_cells
        Labels of fewer training or test cells are pooled for the probes and not evaluated.
    seed
        Seed of the trees and of the random subsets of cells.

    Returns
    -------
    Contributions of each test cell to the information about each label.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, ``train`` and ``test`` overlap, or fewer than two
        labels remain.

    References
    ----------
    .. [1] Xu et al. A theory of usable information under computational constraints. ICLR (2020).
    .. [2] Hewitt et al. Conditional probing: measuring usable information beyond a baseline. EMNLP
       (2021).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared, rna, adt = rng.normal(size=(3, 400, 2))
    >>> labels = np.where(rna[:, 0] > 0, "cycling", "resting")
    >>> found = isk.metrics.label_information(
    ...     shared, {"rna": rna, "adt": adt}, labels, np.arange(200), np.arange(200, 400)
    ... )
    >>> bool(found.gain["rna"].mean() > 1), bool(found.gain["adt"].mean() < 0.1)
    (True, True)
    """
    shared = as_matrix(shared, "shared")
    parts = {name: as_matrix(z, f"specific[{name!r}]", len(shared)) for name, z in specific.items()}
    label, names = as_labels(labels, "labels", len(shared))
    train, test = as_split(train, test, len(shared))
    check_whole("minimum_cells", minimum_cells, 0)
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    train, test = (rows[label[rows] >= 0] for rows in (train, test))
    train, test = (
        np.sort(rng.permutation(rows)[:most]) for rows, most in ((train, MAX_TRAINING_CELLS), (test, MAX_TEST_CELLS))
    )
    fewest = np.minimum(*(np.bincount(label[rows], minlength=len(names)) for rows in (train, test)))
    kept = np.flatnonzero(fewest >= max(minimum_cells, 1))
    if not len(kept) or not (len(kept) > 1 or (fewest[kept[0]] < min(len(train), len(test)))):
        raise ValueError(
            f"labels: at least two labels need minimum_cells={minimum_cells} or more training cells and "
            f"as many test cells; there are {len(kept)}. Lower minimum_cells, or use coarser labels."
        )
    place = np.full(len(names), len(kept))  # the last class pools rare labels
    place[kept] = np.arange(len(kept))
    target = place[label]
    inputs = {None: shared} | {name: np.hstack([shared, z]) for name, z in parts.items()}
    logs = {name: _log_probabilities(x, target, train, test, len(kept), seed) for name, x in inputs.items()}
    frequency = (target[test][:, None] == np.arange(len(kept))).mean(axis=0)
    gain = {name: (logs[name] - logs[None]) / frequency for name in parts}
    return LabelInformation(names[kept], test, gain)


def _log_probabilities(
    source: NDArray[np.floating],
    target: NDArray[np.intp],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    n_labels: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return log2 of the predicted probability of the true status of each test cell.

    The status is whether the cell has a label; shape ``(n_test, n_labels)``.
    """
    x, known = standardise(source, train), target[train]
    prior = np.bincount(known, minlength=n_labels + 1) / len(known)
    predicted = np.zeros((len(test), n_labels + 1))
    for probe in (
        LogisticRegression(max_iter=200, tol=1e-3),
        HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            l2_regularization=1.0,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        ),
    ):
        # With few cells, several threads are no faster, and much slower on a busy machine.
        with threadpool_limits(1, user_api="openmp"):
            probe.fit(x[train], known)
        predicted[:, probe.classes_] += probe.predict_proba(x[test]) / 2
    probability = ((1 - _PRIOR_WEIGHT) * predicted + _PRIOR_WEIGHT * prior)[:, :n_labels]
    has = target[test][:, None] == np.arange(n_labels)
    return np.log2(np.where(has, probability, 1 - probability))
