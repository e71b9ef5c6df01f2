"""Modality weights of weighted nearest neighbours: computed, or found where others wrote them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_flag
from indiseek_sc._fingerprint import find_changed, note_inputs
from indiseek_sc._lookup import check_mdata, find_obs
from indiseek_sc.metrics import first_of
from indiseek_sc.tl._latents import Embedding, find_embedding, find_pair, list_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger("scvi.indiseek_sc")

SOURCE = "indiseek_sc.tl.wnn_weights"


class WnnWeights(NamedTuple):
    """Weights of RNA, one a cell of a MuData and NaN where not known, and where they come from."""

    weights: pd.Series
    source: str


def find_wnn_weights(
    mdata: MuData, key: str | None = None, *, modalities: Mapping[str, str] | None = None
) -> WnnWeights:
    """Find the weights of RNA that ``mdata`` has already, and say which they are.

    Without ``key``, the first of these columns is taken, in ``mdata.obs`` or in the obs of a modality:
    ``"<rna>:wnn_weight"`` (:func:`wnn_weights`), ``"RNA.weight"`` or ``"SCT.weight"`` (Seurat), ``"<rna>:mod_weight"``
    (muon, whose weights are squeezed towards 0.5). Nothing is computed or written; the source is logged.

    Parameters
    ----------
    mdata
        Where to look.
    key
        Column with the weight of RNA, with or without ``"<modality>:"`` before it.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as a model noted them, or else by these
        very names.

    Returns
    -------
    ``weights``, indexed by ``mdata.obs_names``, and ``source``, a sentence part that names the column and its maker.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If it does not hold weights, numbers between 0 and 1, or is missing in all cells.
    """
    check_mdata(mdata)
    return choose_weights(mdata, key, {} if key is not None else find_pair(mdata, modalities), "key")


def choose_weights(mdata: MuData, key: str | None, roles: Mapping[_keys.Role, str], argument: str) -> WnnWeights:
    """Do what :func:`find_wnn_weights` does, where modalities are known and ``key`` is called otherwise."""
    if key is not None:
        return _checked(mdata, find_obs(mdata, key, argument), key, f"as given by {argument}")
    rna = roles["rna"]
    makers = {
        _keys.wnn_weight(rna): SOURCE,
        "RNA.weight": "Seurat",
        "SCT.weight": "Seurat",
        f"{rna}:mod_weight": "muon",
    }
    found = {}
    for column in makers:
        with suppress(KeyError):
            found[column] = find_obs(mdata, column, "key")
    if not found:
        sought = ", ".join(f"{column!r} ({maker})" for column, maker in makers.items())
        raise KeyError(
            f"No obs has weights of modality {rna!r} among weighted nearest neighbours; looked for {sought}. "
            "Call tl.wnn_weights(mdata) to compute them, or name the column by " + f"{argument}."
        )
    column, *others = found
    more = f"; not used: {', '.join(others)}" if others else ""
    return _checked(mdata, found[column], column, f"named as by {makers[column]}{more}")


def _checked(mdata: MuData, values: pd.Series, column: str, origin: str) -> WnnWeights:
    numbers = pd.to_numeric(values.astype(object), errors="coerce").astype(float)
    bad = (values.notna() & ~numbers.between(0, 1)).to_numpy()
    if bad.any():
        raise ValueError(
            f"obs column {column!r} does not hold weights between 0 and 1 in cells "
            f"{first_of(mdata.obs_names[bad].to_numpy())}. Name another column by key, or call tl.wnn_weights(mdata)."
        )
    if numbers.isna().all():
        raise ValueError(
            f"obs column {column!r} is missing in all cells. Name another column by key, or call tl.wnn_weights(mdata)."
        )
    source = f"obs column {column!r}, {origin}"
    logger.info(f"WNN weights of RNA: {source}.")
    if SOURCE in origin and (changed := find_changed(mdata, _keys.WNN)):
        logger.warning(
            f"These weights are of other data than are there now: {', '.join(map(str, changed))} changed since. "
            "Call tl.wnn_weights(mdata) again."
        )
    return WnnWeights(numbers.rename(column), source)


class WnnInput(NamedTuple):
    """The pair of modalities of a MuData, an embedding of each, and which cells have both."""

    roles: dict[_keys.Role, str]
    keys: dict[_keys.Role, str]  # entries of obsm
    embeddings: dict[_keys.Role, Embedding]
    paired: NDArray[np.bool_]  # (n_cells,)

    @property
    def points(self) -> list[NDArray[np.float64]]:
        """The embeddings of the cells that have both, shape ``(n_paired, n_features)`` each."""
        return [embedding.points[self.paired] for embedding in self.embeddings.values()]


def find_wnn_input(
    mdata: MuData,
    modalities: Mapping[str, str] | None,
    obsm_keys: Mapping[_keys.Role, str],
    dimensions: Mapping[_keys.Role, int | None],
) -> WnnInput:
    """Find what :func:`wnn_weights` reads, and raise its errors."""
    roles = find_pair(mdata, modalities)
    found = {role: find_embedding(mdata, name, obsm_keys[role], role, dimensions[role]) for role, name in roles.items()}
    if found["rna"].place == found["adt"].place:
        raise ValueError(
            f"rna_obsm_key and adt_obsm_key are both {found['rna'].place}, so that there is nothing to compare. "
            "Name an embedding of each modality."
        )
    paired = np.logical_and.reduce([~np.isnan(embedding.points).any(axis=1) for embedding in found.values()])
    if paired.sum() < 2:
        raise ValueError(
            f"Weights need at least 2 cells with both modalities {list(roles.values())} in {found['rna'].place} and "
            f"{found['adt'].place}; there are {paired.sum()}."
        )
    return WnnInput(roles, dict(obsm_keys), found, paired)


def write_wnn_weights(
    mdata: MuData, read: WnnInput, of_rna: NDArray[np.float64], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Write the weights of the cells that have both modalities, and what they were made of and how; return all."""
    weights = pd.DataFrame(np.nan, index=mdata.obs_names.copy(), columns=list(read.roles.values()))
    weights.loc[read.paired, read.roles["rna"]] = of_rna
    weights[read.roles["adt"]] = 1 - weights[read.roles["rna"]]
    for name in read.roles.values():
        mdata.obs[_keys.wnn_weight(name)] = weights[name].to_numpy()
    mdata.uns[_keys.WNN] = {
        "source": SOURCE,
        "modalities": read.roles,
        "embeddings": {role: embedding.place for role, embedding in read.embeddings.items()},
        "n_dimensions": {role: embedding.points.shape[1] for role, embedding in read.embeddings.items()},
        "n_cells": int(read.paired.sum()),
        **settings,
    }
    note_inputs(mdata, _keys.WNN, list_places(mdata, read.roles, ["raw"], read.keys))
    logger.info(
        f"WNN weights of {read.paired.sum()} cells by {SOURCE} from {read.embeddings['rna'].place} and "
        f"{read.embeddings['adt'].place}, in mdata.obs[{_keys.wnn_weight(read.roles['rna'])!r}] and "
        f"mdata.obs[{_keys.wnn_weight(read.roles['adt'])!r}]."
    )
    return weights


def wnn_weights(
    mdata: MuData,
    *,
    modalities: Mapping[str, str] | None = None,
    rna_obsm_key: str = "X_pca",
    adt_obsm_key: str = "X_pca",
    rna_dimensions: int | None = None,
    adt_dimensions: int | None = None,
    n_neighbors: int = 20,
    normalize: bool = True,
    search: metrics.WnnSearch = "annoy",
) -> pd.DataFrame:
    """Weigh the modalities in each cell as Seurat's weighted nearest neighbours do.

    The weights are Seurat's, see :func:`indiseek_sc.metrics.wnn_weights`. muon's ``mod_weight`` is an approximation of
    them, drawn towards 0.5. :func:`wnn_neighbors` writes the same weights, and a graph of cells.

    Parameters
    ----------
    mdata
        With an embedding of each modality, shape ``(n_cells, n_features)``, in ``obsm`` of the modality or of ``mdata``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as a model noted them, or else by these
        very names.
    rna_obsm_key
        Embedding of RNA, by default the principal components that scanpy leaves in the modality.
    adt_obsm_key
        The same for ADT.
    rna_dimensions
        How many leading columns of the embedding are used; all if None. Seurat's vignette uses 30 components of RNA.
    adt_dimensions
        The same for ADT; 18 in the vignette.
    n_neighbors
        Neighbours of a cell, itself included, as Seurat counts them.
    normalize
        Bring each cell to length 1 in each embedding first, as Seurat does.
    search
        ``"annoy"`` finds neighbours as Seurat does, approximately and depending on the order of cells; ``"exact"`` finds
        all of them, so that weights do not depend on the order, and are less like Seurat's.

    Returns
    -------
    One row a cell of ``mdata``, one column a modality; rows add up to 1. NaN for cells that lack a modality: their row
    is NaN in its embedding, or the modality does not hold them.

    Notes
    -----
    Written to ``mdata``: ``obs["<modality>:wnn_weight"]`` for both modalities, and ``uns["indiseek_wnn"]`` (the source and
    the arguments). Nothing is written if an error is raised.

    Raises
    ------
    KeyError
        If a modality or an embedding is not there.
    ValueError
        If an embedding is no finite matrix, an argument is out of its range, or fewer than 2 cells have both modalities.

    Examples
    --------
    >>> weights = tl.wnn_weights(mdata, rna_dimensions=30, adt_dimensions=18)
    >>> weights.groupby(mdata.obs["cell_type"]).mean()
    """
    check_flag("normalize", normalize)
    keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    read = find_wnn_input(mdata, modalities, keys, {"rna": rna_dimensions, "adt": adt_dimensions})
    settings: dict[str, Any] = {"n_neighbors": n_neighbors, "normalize": normalize, "search": search}
    return write_wnn_weights(mdata, read, metrics.wnn_weights(*read.points, **settings), settings)
