"""Which of two modalities tells the cells of a label apart: theta, a log ratio of neighbourhood purities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc.metrics._checks import as_labels
from indiseek_sc.metrics._neighbors import label_purity

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class ModalityImportance:
    """Theta of cells and of labels; positive where RNA separates a label better than ADT.

    Attributes
    ----------
    theta
        Theta by cell, shape ``(n_cells,)``; NaN where the label is missing.
    purity_rna, purity_adt
        Share of a cell's neighbours with its own label in each code, shape ``(n_cells,)``.
    table
        One row a label, highest theta first: ``label``, ``n_cells``, ``theta`` (mean over its cells), ``lower`` and
        ``upper`` (bootstrap interval of that mean; NaN for a single cell), ``rank`` (1 is the highest theta),
        ``purity_rna``, ``purity_adt`` (means) and ``reliable`` (whether the label has enough cells).
    """

    theta: NDArray[np.float64]
    purity_rna: NDArray[np.float64]
    purity_adt: NDArray[np.float64]
    table: pd.DataFrame


def modality_importance(
    code_rna: ArrayLike,
    code_adt: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 10,
    smoothing: float = 0.5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    seed: int = 0,
) -> ModalityImportance:
    r"""Compare how well two codes keep each label together.

    With :math:`\beta_m(c)` the share of the :math:`k` nearest neighbours of cell :math:`c` in code :math:`m` that
    carry its label, smoothed by :math:`a` pseudo-neighbours of each kind so that it is never 0,

    .. math::
        \theta(c) = \log \frac{\tilde\beta_{RNA}(c)}{\tilde\beta_{ADT}(c)}, \qquad
        \tilde\beta_m(c) = \frac{k \beta_m(c) + a}{k + 2a},

    averaged over the cells of a label (Gui, Ma and Ma, arXiv 2509.21584; the smoothing and the interval are ours).

    Parameters
    ----------
    code_rna, code_adt
        Codes of the same cells, shapes ``(n_cells, n_rna)`` and ``(n_cells, n_adt)``.
    labels
        One label a cell, shape ``(n_cells,)``; a cell without one gets NaN and is nobody's neighbour.
    n_neighbors
        Neighbours of a cell, :math:`k`.
    smoothing
        Pseudo-neighbours, :math:`a`; more than 0.
    n_bootstrap
        Number of times that the cells of a label are drawn again, for the interval.
    confidence
        Share of the bootstrap means that lies within the interval.
    minimum_cells
        Labels of fewer cells are kept, but not marked ``reliable``.
    seed
        Seed of the bootstrap.

    Raises
    ------
    ValueError
        If an argument is out of its range, lengths differ, a code is not finite, or cells are too few.
    """
    _check_settings(smoothing, n_bootstrap, confidence)
    purity = {
        "purity_rna": label_purity(code_rna, labels, n_neighbors=n_neighbors),
        "purity_adt": label_purity(code_adt, labels, n_neighbors=n_neighbors),
    }
    smooth = {name: n_neighbors * share + smoothing for name, share in purity.items()}
    theta = np.log(smooth["purity_rna"] / smooth["purity_adt"])  # k + 2a cancels

    label, names = as_labels(labels, "labels", len(theta))
    rng = np.random.default_rng(seed)
    rows = []
    for code, name in enumerate(names):
        of_label = label == code
        lower, upper = _bootstrap_interval(theta[of_label], n_bootstrap, confidence, rng)
        row = {"label": str(name), "n_cells": int(of_label.sum()), "theta": theta[of_label].mean()}
        row |= {"lower": lower, "upper": upper}
        rows.append(row | {column: share[of_label].mean() for column, share in purity.items()})
    table = pd.DataFrame(rows)
    table.insert(5, "rank", table["theta"].rank(ascending=False, method="min").astype(int))
    table["reliable"] = table["n_cells"] >= minimum_cells
    table = table.sort_values(["rank", "label"], ignore_index=True)
    return ModalityImportance(theta=theta, table=table, **purity)


def _bootstrap_interval(
    values: NDArray[np.float64], n_bootstrap: int, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values``, shape ``(n_cells,)``, when cells are drawn with replacement.

    Theta takes few distinct values, so a draw of cells is a multinomial draw of how often each value comes up: the
    same distribution, without an array of shape ``(n_bootstrap, n_cells)``.
    """
    if len(values) < 2:
        return np.nan, np.nan
    distinct, times = np.unique(values, return_counts=True)
    draws = rng.multinomial(len(values), times / len(values), size=n_bootstrap)
    means = draws @ distinct / len(values)
    lower, upper = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def _check_settings(smoothing: float, n_bootstrap: int, confidence: float) -> None:
    if not smoothing > 0:
        raise ValueError(f"smoothing={smoothing} must be more than 0, or the log ratio may be infinite.")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap={n_bootstrap} must be at least 1.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1.")
