"""Modality importance over refits of a model, each evaluated on its held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from indiseek_sc._checks import check_share, check_whole
from indiseek_sc.metrics._checks import as_labels
from indiseek_sc.metrics._estimates import Estimates, combine_refits
from indiseek_sc.metrics._information import label_information
from indiseek_sc.metrics._theta import PURITY_COLUMNS, exact_neighbors, expected_purity, log_purity_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

Claim = Literal["rna", "adt", "undecided", "neither", "not assessed"]
"""Modality that resolves a label better.

It is "undecided" if a modality resolves the label but the difference is not significant."""

FALSE_DISCOVERY_RATE = 0.05
"""Level of the tests over labels."""


class Refit(NamedTuple):
    """Representations of one refit of a model.

    Attributes
    ----------
    shared, specific
        By role, ``"rna"`` and ``"adt"``, latent representations of shape
        ``(n_cells, n_dimensions)``.
    held_out
        Whether each cell was excluded from the training of this refit, shape ``(n_cells,)``.

    Examples
    --------
    >>> latents = {"rna": np.zeros((4, 2)), "adt": np.zeros((4, 3))}
    >>> isk.metrics.Refit(latents, latents, np.arange(4) < 2).held_out.tolist()
    [True, True, False, False]
    """

    shared: Mapping[str, NDArray[np.floating]]
    specific: Mapping[str, NDArray[np.floating]]
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ReplicatedImportance:
    """Modality importance over refits.

    Attributes
    ----------
    table
        One row for each label, as returned by :func:`indiseek_sc.tl.modality_importance`.
    theta
        Theta of each cell, averaged over the refits that held it out, shape ``(n_cells,)``; NaN if
        there is none.
    theta_of_labels
        Estimated theta of each label: indexed by label, with columns ``value``, ``standard_error``
        and ``degrees_of_freedom``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels, halves = np.tile(["a", "b"], 50), np.arange(100) < 50
    >>> refits = []
    >>> for held_out in (halves, ~halves):
    ...     noise = {role: rng.normal(size=(100, 2)) for role in ("rna", "adt")}
    ...     specific = noise | {"rna": noise["rna"] + 10 * (labels == "b")[:, None]}
    ...     refits.append(isk.metrics.Refit(noise, specific, held_out))
    >>> found = isk.metrics.replicated_importance(refits, labels, information=False)
    >>> found.theta.shape, list(found.theta_of_labels)
    ((100,), ['value', 'standard_error', 'degrees_of_freedom'])
    """

    table: pd.DataFrame
    theta: NDArray[np.float64]
    theta_of_labels: pd.DataFrame


def replicated_importance(
    refits: Sequence[Refit],
    labels: ArrayLike,
    *,
    latent: Literal["specific", "shared", "both"] = "specific",
    samples: ArrayLike | None = None,
    batches: ArrayLike | None = None,
    n_neighbors: int = 10,
    smoothing: float = 0.5,
    confidence: float = 0.95,
    minimum_cells: int = 15,
    information: bool = True,
    seed: int = 0,
) -> ReplicatedImportance:
    """Compare how well two modalities resolve each label, with uncertainty over refits.

    Intervals account for the sampling of cells, the training cells and the seeds.

    Each refit is evaluated on its held-out cells, by theta (:func:`modality_importance`) and by the
    information that its specific representations add to the shared ones
    (:func:`label_information`). A label is assigned to a modality if the difference of information
    is significant at a false discovery rate of 5 % over labels (Benjamini and Hochberg) and the
    information of at least one modality is above 0 by the same criterion.

    Parameters
    ----------
    refits
        At least two refits of a model.
    labels
        Label of each cell, shape ``(n_cells,)``; None or NaN where it is unknown.
    latent
        Kind of representations from which theta is computed.
    samples
        Donor or sample of each cell, shape ``(n_cells,)``. Standard errors are then computed over
        samples (cluster-robust) instead of cells.
    batches
        Batch of each cell, shape ``(n_cells,)``. The expected purity is then that of labels
        permuted within batches, and information is conditional on the batch.
    n_neighbors, smoothing, confidence, minimum_cells
        As in :func:`modality_importance`.
    information
        Whether to compute information, which takes several seconds for each refit.
    seed
        Seed of the probes.

    Returns
    -------
    Modality importance of labels and cells.

    Raises
    ------
    ValueError
        If there are fewer than two refits, or as in :func:`modality_importance` and
        :func:`label_information`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels, halves = np.tile(["a", "b"], 50), np.arange(100) < 50
    >>> refits = []
    >>> for held_out in (halves, ~halves):
    ...     noise = {role: rng.normal(size=(100, 2)) for role in ("rna", "adt")}
    ...     specific = noise | {"rna": noise["rna"] + 10 * (labels == "b")[:, None]}
    ...     refits.append(isk.metrics.Refit(noise, specific, held_out))
    >>> found = isk.metrics.replicated_importance(refits, labels, information=False)
    >>> (found.table["theta"] > 0).tolist()
    [True, True]
    """
    if len(refits) < 2:
        raise ValueError(f"refits: at least 2 are needed to estimate their variance; there are {len(refits)}.")
    check_share("confidence", confidence)
    check_whole("minimum_cells", minimum_cells, 0)
    n_cells = len(refits[0].held_out)
    label, names = as_labels(labels, "labels", n_cells)
    groups = [
        None if x is None else as_labels(x, name, n_cells)[0]
        for x, name in ((samples, "samples"), (batches, "batches"))
    ]
    sample = np.arange(n_cells) if groups[0] is None else groups[0]
    batch = np.zeros(n_cells, dtype=np.intp) if groups[1] is None else groups[1]
    known = names[label].astype(object)
    known[label < 0] = None

    collected: dict[str, list[_LabelMeans]] = {}
    total, times = np.zeros(n_cells), np.zeros(n_cells)
    for number, refit in enumerate(refits):
        rows = _complete_rows(refit, label)
        test = rows[refit.held_out[rows]]
        scores = _score_neighbors(refit, latent, test, label, len(names), batch, n_neighbors, smoothing)
        total[test] += scores["theta"]
        times[test] += 1
        summary = {
            name: _average_by_label(values, label[test], sample[test], len(names)) for name, values in scores.items()
        }
        if information:
            summary |= _score_information(refit, rows, test, known, names, sample, batch, minimum_cells, seed + number)
        for name, label_means in summary.items():
            collected.setdefault(name, []).append(label_means)
    counts = np.bincount(label[(times > 0) & (label >= 0)], minlength=len(names))
    share = np.mean([refit.held_out.mean() for refit in refits])
    estimates = {
        name: combine_refits(
            np.stack([x.mean for x in parts]),
            np.stack([x.variance for x in parts]) * share,
            np.stack([x.n for x in parts]),
        )
        for name, parts in collected.items()
    }
    table = _make_table(estimates, names, counts, confidence, minimum_cells)
    with np.errstate(invalid="ignore"):
        theta = np.where(times > 0, total / times, np.nan)
    theta_of_labels = pd.DataFrame(vars(estimates["theta"]), index=names)
    return ReplicatedImportance(table, theta, theta_of_labels)


class _LabelMeans(NamedTuple):
    """Mean of a score by label, its sampling variance, and the number of cells or samples.

    Each has shape ``(n_labels,)``.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    n: NDArray[np.float64]


def _complete_rows(refit: Refit, label: NDArray[np.intp]) -> NDArray[np.intp]:
    latents = [*refit.shared.values(), *refit.specific.values()]
    return np.flatnonzero(np.logical_and.reduce([label >= 0, *(np.isfinite(x).all(axis=1) for x in latents)]))


def _score_neighbors(
    refit: Refit,
    latent: str,
    test: NDArray[np.intp],
    label: NDArray[np.intp],
    n_labels: int,
    batch: NDArray[np.intp],
    n_neighbors: int,
    smoothing: float,
) -> dict[str, NDArray[np.float64]]:
    """Return theta, purities and expected purities of test cells, each of shape ``(n_test,)``."""
    scores = {}
    for role in refit.specific:
        kinds = {"specific": [refit.specific], "shared": [refit.shared], "both": [refit.shared, refit.specific]}[latent]
        points = np.hstack([kind[role][test] for kind in kinds])
        neighbors = exact_neighbors(points, n_neighbors)
        scores[f"purity_{role}"] = (label[test][neighbors] == label[test][:, None]).mean(axis=1)
        scores[f"chance_{role}"] = expected_purity(neighbors, label[test], batch[test], n_labels)
    scores["theta"] = log_purity_ratio(scores["purity_rna"], scores["purity_adt"], n_neighbors, smoothing)
    return scores


def _score_information(
    refit: Refit,
    rows: NDArray[np.intp],
    test: NDArray[np.intp],
    labels: NDArray,
    names: NDArray[np.str_],
    sample: NDArray[np.intp],
    batch: NDArray[np.intp],
    minimum_cells: int,
    seed: int,
) -> dict[str, _LabelMeans]:
    """Return the information of both modalities and its difference by label.

    NaN for labels of too few cells.
    """
    indicators = np.eye(batch.max() + 1)[batch] if batch.max() else np.zeros((len(batch), 0))
    shared = np.hstack([*refit.shared.values(), indicators])
    # A refit holds out half of the cells, and so about half of the cells of each label.
    found = label_information(
        shared[rows],
        {role: z[rows] for role, z in refit.specific.items()},
        labels[rows],
        np.flatnonzero(~refit.held_out[rows]),
        np.flatnonzero(refit.held_out[rows]),
        minimum_cells=-(-minimum_cells // 2),
        seed=seed,
    )
    gain = {f"information_{role}": x for role, x in found.gain.items()}
    gain["information_difference"] = gain["information_rna"] - gain["information_adt"]
    place = np.searchsorted(names, found.names)
    of_sample = sample[rows][found.test]
    summary = {}
    for name, values in gain.items():
        parts = np.full((3, len(names)), np.nan)
        parts[:, place] = np.transpose([_mean_and_variance(column, of_sample) for column in values.T])
        summary[name] = _LabelMeans(*parts)
    return summary


def _average_by_label(values: NDArray, label: NDArray, sample: NDArray, n_labels: int) -> _LabelMeans:
    return _LabelMeans(
        *np.transpose([_mean_and_variance(values[label == l], sample[label == l]) for l in range(n_labels)])
    )


def _mean_and_variance(values: NDArray[np.float64], sample: NDArray[np.intp]) -> tuple[float, float, float]:
    """Return the mean, its cluster-robust variance over samples, and the number of samples.

    Each cell is its own sample if samples are unknown.
    """
    if len(values) < 2:
        return np.nan, np.nan, np.nan
    _, place = np.unique(sample, return_inverse=True)
    n_samples = place.max() + 1
    if n_samples < 2:
        return float(values.mean()), np.nan, np.nan
    sums = np.bincount(place, values - values.mean())
    variance = (sums**2).sum() / len(values) ** 2 * n_samples / (n_samples - 1)
    return float(values.mean()), float(variance), float(n_samples)


def _make_table(
    estimates: Mapping[str, Estimates],
    names: NDArray[np.str_],
    n_cells: NDArray[np.intp],
    confidence: float,
    minimum_cells: int,
) -> pd.DataFrame:
    reliable = n_cells >= minimum_cells
    theta = estimates["theta"]
    table = pd.DataFrame({"label": names, "n_cells": n_cells, "theta": theta.value})
    table["lower"], table["upper"] = theta.interval(confidence)
    table["rank"] = table["theta"].rank(ascending=False, method="min")
    for name in PURITY_COLUMNS:
        table[name] = estimates[name].value
    table["reliable"] = reliable
    table["theta_q_value"] = _adjust(theta.p_value(), reliable)
    if "information_difference" in estimates:
        difference = estimates["information_difference"]
        for role in ("rna", "adt"):
            of_role = estimates[f"information_{role}"]
            table[f"information_{role}"] = of_role.value
            table[f"information_{role}_lower"], table[f"information_{role}_upper"] = of_role.interval(confidence)
        table["information_difference"] = difference.value
        table["information_lower"], table["information_upper"] = difference.interval(confidence)
        table["p_value"] = np.where(reliable, difference.p_value(), np.nan)
        table["q_value"] = _adjust(difference.p_value(), reliable)
        table["claim"] = _claim(estimates, table["q_value"].to_numpy(), reliable)
    else:
        table["claim"] = "not assessed"
    table["rank"] = table["rank"].fillna(len(table)).astype(int)
    return table.sort_values(["rank", "label"], ignore_index=True)


def _adjust(p_value: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return Benjamini-Hochberg q-values over the labels in ``used``; NaN for the others."""
    used = used & np.isfinite(p_value)
    q_value = np.full(len(p_value), np.nan)
    if used.any():
        q_value[used] = false_discovery_control(p_value[used])
    return q_value


def _claim(estimates: Mapping[str, Estimates], q_value: NDArray[np.float64], reliable: NDArray[np.bool_]) -> NDArray:
    above = [_adjust(estimates[f"information_{role}"].p_value(above_zero=True), reliable) for role in ("rna", "adt")]
    resolves = np.fmin(*above) < FALSE_DISCOVERY_RATE
    better = np.where(estimates["information_difference"].value > 0, "rna", "adt")
    claim = np.where(resolves, np.where(q_value < FALSE_DISCOVERY_RATE, better, "undecided"), "neither")
    return np.where(np.isfinite(q_value), claim, "not assessed")
