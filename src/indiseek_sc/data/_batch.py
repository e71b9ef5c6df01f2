"""The batch of each cell: where it is told, whether it can be used, and offsets of the features between batches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc._text import choices, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mudata import MuData


@dataclass(frozen=True)
class BatchColumn:
    """A column of ``obs``.

    Parameters
    ----------
    key
        Name of the column.
    modality
        The modality whose ``obs`` it is in; none for that of the MuData.
    """

    key: str
    modality: str | None = None

    def __str__(self) -> str:
        holder = "mdata" if self.modality is None else f"mdata[{self.modality!r}]"
        return f"{holder}.obs[{self.key!r}]"

    def get_values(self, mdata: MuData) -> pd.Series | None:
        """Return the batch of each cell, shape ``(n_cells,)``, or nothing if there is no such column."""
        return (mdata if self.modality is None else mdata.mod[self.modality]).obs.get(self.key)


def locate_batch(
    mdata: MuData, batch_key: str | None, modality: str | None, modalities: Sequence[str]
) -> BatchColumn | None:
    """Find the column that tells batches.

    Parameters
    ----------
    mdata
        The data.
    batch_key
        Name of the column, with or without ``"<modality>:"`` before it.
    modality
        The modality that it must be in, if the user named one.
    modalities
        The modalities of the model, searched in this order if ``mdata.obs`` has no such column.

    Raises
    ------
    ValueError
        If there is no such column, or two modalities have one but disagree.
    """
    if batch_key is None:
        return None
    if modality is not None and modality not in mdata.mod:
        raise ValueError(
            f"modalities['batch_key']: no modality {modality!r} in mdata. {choices(modality, list(mdata.mod))}"
        )
    holders = [None, *modalities] if modality is None else [modality]
    candidates = [BatchColumn(batch_key, holder) for holder in holders]
    prefix, _, name = batch_key.partition(":")
    if name and prefix in mdata.mod and modality in (None, prefix):
        candidates.append(BatchColumn(name, prefix))
    found = [column for column in candidates if column.get_values(mdata) is not None]
    if not found:
        existing = [f"{mod}:{name}" for mod in modalities for name in mdata.mod[mod].obs]
        existing = list(dict.fromkeys([*mdata.obs, *existing]))
        searched = ", ".join(str(column) for column in candidates)
        public = [name for name in existing if "_scvi_" not in name]
        raise ValueError(f"batch_key={batch_key!r}: there is no such column ({searched}). {choices(batch_key, public)}")
    if found[0].modality is not None:
        _check_agreement(mdata, batch_key, found)
    return found[0]


def _check_agreement(mdata: MuData, batch_key: str, found: Sequence[BatchColumn]) -> None:
    first, *others = (np.array(column.get_values(mdata), dtype=str) for column in found)
    for column, values in zip(found[1:], others, strict=True):
        differing = np.flatnonzero(first != values)
        if differing.size:
            raise ValueError(
                f"batch_key={batch_key!r}: {found[0]} and {column} differ in {differing.size:,} cells: "
                f"{listing(mdata.obs_names[differing])}. "
                f"Say which: modalities={{..., 'batch_key': {found[0].modality!r}}}"
            )


def check_batch(
    mdata: MuData, column: BatchColumn, known: Iterable[object] | None = None, cells: pd.Index | None = None
) -> None:
    """Refuse cells whose batch is missing, or is not one of the model's.

    Parameters
    ----------
    mdata
        The data.
    column
        Where batches are told.
    known
        The batches of the model; any if not given.
    cells
        Names of the cells that are asked about; all that the column tells of if not given.

    Raises
    ------
    ValueError
        If there is no such column, or a cell has no batch or an unknown one.
    """
    values = column.get_values(mdata)
    if values is None:
        raise ValueError(f"batch_key: {column} does not exist, but the model was set up with it. Add the column.")
    values = values if cells is None else values.reindex(cells)
    missing = values.index[values.isna()]
    if missing.size:
        raise ValueError(
            f"batch_key: {missing.size:,} cells have no batch in {column}: {listing(missing)}. "
            "Fill it in, or remove the cells."
        )
    if known is None:
        return
    known = list(known)
    unknown = [value for value in values.unique() if value not in known]
    if unknown:
        n_cells = int(values.isin(unknown).sum())
        raise ValueError(
            f"batch_key: {n_cells:,} cells of {column} are of batches that the model does not know: "
            f"{listing(unknown)}. It knows: {listing(known)}. Leave these cells out, or set up and train with them."
        )


N_CLUSTERS = 20
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
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    # Both modalities weigh alike.
    scales = [np.sqrt(max(float(x.var(axis=0).sum()), 1e-12)) for x in features]
    x = np.hstack([values.astype(np.float64) / scale for values, scale in zip(features, scales, strict=True)])
    is_of = np.eye(n_batches)[batch]
    n_clusters = max(1, min(N_CLUSTERS, len(x) // CELLS_PER_CLUSTER))

    def run(offsets: np.ndarray) -> tuple[float, np.ndarray]:
        centers, labels, inertia = "k-means++", None, np.inf
        for _ in range(MOST_ROUNDS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = KMeans(n_clusters, init=centers, n_init=1, max_iter=20, random_state=seed).fit(
                    x - offsets[batch]
                )
            if labels is not None and (found.labels_ == labels).all():
                break
            centers, labels, inertia = found.cluster_centers_, found.labels_, found.inertia_
            offsets = _offsets_within(x, np.eye(n_clusters)[labels], is_of)
        return inertia, offsets

    means = is_of.T @ x / np.maximum(is_of.sum(axis=0), 1)[:, None] - x.mean(axis=0)
    means[is_of.sum(axis=0) == 0] = 0.0
    best = min((run(start) for start in (np.zeros_like(means), means)), key=lambda result: result[0])[1]
    widths = np.cumsum([values.shape[1] for values in features])[:-1]
    return [part * scale for part, scale in zip(np.split(best, widths, axis=1), scales, strict=True)]


def _offsets_within(x: np.ndarray, is_in: np.ndarray, is_of: np.ndarray) -> np.ndarray:
    """Offsets of batches given clusters: least squares with an offset for each, and the cluster means eliminated."""
    counts = is_in.T @ is_of  # (n_clusters, n_batches)
    n_cluster = np.maximum(counts.sum(axis=1), 1.0)
    matrix = np.diag(counts.sum(axis=0)) - counts.T @ (counts / n_cluster[:, None])
    within = is_of.T @ (x - is_in @ ((is_in.T @ x) / n_cluster[:, None]))
    offsets = np.linalg.solve(matrix + PRIOR_CELLS * np.eye(len(matrix)), within)
    return offsets - is_of.sum(axis=0) @ offsets / len(x)
