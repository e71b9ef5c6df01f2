"""The batch of each cell: where it is told, whether it can be used, and offsets of the features between batches."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc._lookup import as_categories, find_obs, locate_obs
from indiseek_sc._text import choices, listing
from indiseek_sc.nn import N_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from mudata import MuData


def locate_batch(mdata: MuData, batch_key: str | None, modality: str | None) -> str | None:
    """Return the name by which batches are read from now on, see :func:`indiseek_sc._lookup.find_obs`.

    Parameters
    ----------
    mdata
        The data.
    batch_key
        Name of the column, with or without ``"<modality>:"`` before it.
    modality
        The modality that it must be in, if the user named one.

    Raises
    ------
    ValueError
        If there is no such column, or modalities disagree about it.
    """
    if batch_key is None:
        return None
    if modality is not None and modality not in mdata.mod:
        raise ValueError(
            f"modalities['batch_key']: no modality {modality!r} in mdata. {choices(str(modality), list(mdata.mod))}"
        )
    if modality is not None and isinstance(batch_key, str):
        column = batch_key.removeprefix(f"{modality}:")
        if column not in mdata.mod[modality].obs:
            raise ValueError(
                f"batch_key={batch_key!r}: there is no such column (mdata[{modality!r}].obs[{column!r}]). "
                f"{choices(column, [name for name in mdata.mod[modality].obs if '_scvi_' not in name])}"
            )
        return f"{modality}:{column}"
    try:
        find_obs(mdata, batch_key, "batch_key")
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    return str(batch_key)


def read_batches(
    mdata: MuData, name: str, cells: pd.Index | None = None, known: Sequence[str] | np.ndarray | None = None
) -> pd.Series:
    """Return the batch of each cell as a category.

    Parameters
    ----------
    mdata
        The data.
    name
        As :func:`locate_batch` returned it. Other data may lack the modality that it names, or have cells that this
        one lacks; then the rest of the name counts.
    cells
        Names of the cells that are asked about; all if not given.
    known
        The batches of the model, which the categories are then; any if not given.

    Raises
    ------
    ValueError
        If there is no such column, or a cell has no batch or an unknown one.
    """
    place = name
    try:
        place = " and ".join(map(str, locate_obs(mdata, name, "batch_key")))
        values = find_obs(mdata, name, "batch_key", cells)
    except KeyError as error:
        values = _read_by_short_name(mdata, name, cells)
        if values is None:
            raise ValueError(f"The model was set up with a batch, but {error.args[0]} Add the column.") from None
    if values.isna().any() and (rest := _read_by_short_name(mdata, name, cells)) is not None:
        values = values.astype(object).where(values.notna(), rest.astype(object))
    missing = values.index[values.isna()]
    if missing.size:
        raise ValueError(
            f"batch_key: {missing.size:,} cells have no batch in {place}: {listing(missing)}. "
            "Fill it in, or remove the cells."
        )
    batches = as_categories(values)
    if known is None:
        return batches
    unknown = [batch for batch in batches.cat.categories if batch not in set(known)]
    if unknown:
        raise ValueError(
            f"batch_key: {int(batches.isin(unknown).sum()):,} cells of {place} are of batches that the model does not "
            f"know: {listing(unknown)}. It knows: {listing(known)}. Have what they add estimated: "
            "model = IndiSeek.load_query_data(mdata, model); or leave these cells out, or set up and train with them."
        )
    return batches.cat.set_categories(list(known))


def _read_by_short_name(mdata: MuData, name: str, cells: pd.Index | None) -> pd.Series | None:
    """The column without the modality in front of its name, if there is one."""
    try:
        return find_obs(mdata, name.partition(":")[2], "batch_key", cells)
    except KeyError:
        return None


CELLS_PER_CLUSTER = 30
MOST_ROUNDS = 20

PRIOR_CELLS = 20.0
"""An offset is drawn to 0 as if so many more cells had none: a batch that shares no cluster with others keeps what it has."""


def fit_batch_offsets(
    features: Sequence[np.ndarray], batch: np.ndarray, n_batches: int, *, seed: int
) -> list[np.ndarray]:
    r"""Estimate what each batch adds to the features of a cell, whatever its state. This step is ours, not the paper's.

    States are the clusters :math:`k` that k-means finds in all modalities together once the offsets are taken out, and a cell :math:`i` of batch
    :math:`b` has

    .. math::

        x_i = \mu_{k(i)} + \delta_b + \varepsilon_i.

    Clusters and offsets are fitted in turns. Given the clusters, :math:`\delta` is that of a two-way analysis of variance with the batch as a
    random effect: only clusters that several batches have tell of it, so batches may consist of cells of quite different kinds. The idea of offsets
    within clusters is that of Harmony (Korsunsky et al. 2019, Nature Methods 16, 1289), with one offset for all clusters, so that new
    cells of a known batch need no fit. Where clusters end up depends on where they start: both no offsets and the differences of the batches'
    means are tried, and those offsets kept that leave less variance within clusters.

    Parameters
    ----------
    features
        Features of each modality, shape ``(n_cells, n_features)``.
    batch
        Batch codes, shape ``(n_cells,)``.
    n_batches
        How many batches there are; those without cells get offsets of 0.
    seed
        Decides where k-means starts.

    Returns
    -------
    Offsets of each modality, shape ``(n_batches, n_features)``; their mean over the cells is 0.
    """
    scales = _find_scales(features)
    x = np.hstack([values.astype(np.float64) / scale for values, scale in zip(features, scales, strict=True)])
    is_of = np.eye(n_batches)[batch]
    n_clusters = _count_clusters(len(x))

    def run(offsets: np.ndarray) -> tuple[float, np.ndarray]:
        centers: Any = "k-means++"
        labels, inertia = None, np.inf
        for _ in range(MOST_ROUNDS):
            found = _find_clusters(x - offsets[batch], centers, n_clusters, seed)
            if labels is not None and (found.labels_ == labels).all():
                break
            centers, labels, inertia = found.cluster_centers_, found.labels_, found.inertia_
            offsets = _offsets_within(x, np.eye(n_clusters)[labels], is_of)
        return inertia, offsets

    means = is_of.T @ x / np.maximum(is_of.sum(axis=0), 1)[:, None] - x.mean(axis=0)
    means[is_of.sum(axis=0) == 0] = 0.0
    best = min((run(start) for start in (np.zeros_like(means), means)), key=lambda result: result[0])[1]
    return _take_apart(best, features, scales)


def find_states(features: Sequence[np.ndarray], *, seed: int) -> list[np.ndarray]:
    """Find the kinds of cells that batches which come later are compared with, see :func:`fit_added_offset`.

    Parameters
    ----------
    features
        Features of each modality without what batches add, shape ``(n_cells, n_features)``.
    seed
        Decides where k-means starts.

    Returns
    -------
    Means of the clusters, by modality, shape ``(n_clusters, n_features)``.
    """
    scales = _find_scales(features)
    x = np.hstack([values.astype(np.float64) / scale for values, scale in zip(features, scales, strict=True)])
    found = _find_clusters(x, "k-means++", _count_clusters(len(x)), seed)
    return _take_apart(found.cluster_centers_, features, scales)


def fit_added_offset(features: Sequence[np.ndarray], states: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Estimate what a batch adds to features that no model was trained with, by the kinds of cells of a model.

    As :func:`fit_batch_offsets` does, but the clusters stay where they are, so that cells of other batches do too: each cell belongs to the
    nearest one, and the offset is the mean difference from these, in turns, drawn to 0 as there. No offset and the difference of the
    batch's mean are tried as starts.

    Parameters
    ----------
    features
        Features of the cells of the batch, by modality, shape ``(n_cells, n_features)``.
    states
        What :func:`find_states` returned, of the same modalities.

    Returns
    -------
    The offset by modality, shape ``(n_features,)``.
    """
    from sklearn.metrics import pairwise_distances_argmin

    scales = _find_scales(states)
    x, centers = (
        np.hstack([part.astype(np.float64) / scale for part, scale in zip(parts, scales, strict=True)])
        for parts in (features, states)
    )

    def run(offset: np.ndarray) -> tuple[float, np.ndarray]:
        labels = None
        for _ in range(MOST_ROUNDS):
            nearest = pairwise_distances_argmin(x - offset, centers)
            if labels is not None and (nearest == labels).all():
                break
            labels = nearest
            offset = (x - centers[labels]).sum(axis=0) / (len(x) + PRIOR_CELLS)
        return float(((x - offset - centers[labels]) ** 2).sum()), offset

    # Over the training cells the mean of the features is 0.
    best = min((run(start) for start in (np.zeros(x.shape[1]), x.mean(axis=0))), key=lambda result: result[0])[1]
    return [part[0] for part in _take_apart(best[None], features, scales)]


def _find_scales(features: Sequence[np.ndarray]) -> list[float]:
    """What to divide each modality by so that both weigh alike."""
    return [float(np.sqrt(max(float(x.var(axis=0).sum()), 1e-12))) for x in features]


def _take_apart(x: np.ndarray, features: Sequence[np.ndarray], scales: Sequence[float]) -> list[np.ndarray]:
    """Columns of both modalities in the units of each."""
    widths = np.cumsum([values.shape[1] for values in features])[:-1]
    return [part * scale for part, scale in zip(np.split(x, widths, axis=1), scales, strict=True)]


def _count_clusters(n_cells: int) -> int:
    return max(1, min(N_STATES, n_cells // CELLS_PER_CLUSTER))


def _find_clusters(x: np.ndarray, start: Any, n_clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_clusters, init=start, n_init=1, max_iter=20, random_state=seed).fit(x)


def _offsets_within(x: np.ndarray, is_in: np.ndarray, is_of: np.ndarray) -> np.ndarray:
    """Offsets of batches given clusters: least squares with an offset for each, and the cluster means eliminated."""
    counts = is_in.T @ is_of  # (n_clusters, n_batches)
    n_cluster = np.maximum(counts.sum(axis=1), 1.0)
    matrix = np.diag(counts.sum(axis=0)) - counts.T @ (counts / n_cluster[:, None])
    within = is_of.T @ (x - is_in @ ((is_in.T @ x) / n_cluster[:, None]))
    offsets = np.linalg.solve(matrix + PRIOR_CELLS * np.eye(len(matrix)), within)
    return offsets - is_of.sum(axis=0) @ offsets / len(x)
