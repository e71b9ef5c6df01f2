"""Modality weights of weighted nearest neighbours (WNN): computed, or read from other tools."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_flag
from indiseek_sc._fingerprint import find_changed, record_inputs
from indiseek_sc._lookup import check_mdata, find_obs
from indiseek_sc.metrics import first_of
from indiseek_sc.tl._latents import Embedding, find_embedding, find_pair, list_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger("scvi.indiseek_sc")

SOURCE = "indiseek_sc.tl.wnn_weights"
"""Recorded source of weights computed by this package."""


class WnnWeights(NamedTuple):
    """WNN weights of RNA and their source.

    Parameters
    ----------
    weights
        Weight of RNA in each cell of a MuData; NaN where unknown.
    source
        Column and tool that the weights come from.

    Examples
    --------
    >>> isk.tl.WnnWeights._fields
    ('weights', 'source')
    """

    weights: pd.Series
    source: str


def find_wnn_weights(
    mdata: MuData, key: str | None = None, *, modalities: Mapping[str, str] | None = None
) -> WnnWeights:
    """Find existing weights of RNA in ``mdata``.

    Without ``key``, the first of these columns is used, in ``mdata.obs`` or in ``obs`` of a
    modality: ``"<rna>:wnn_weight"`` (:func:`wnn_weights`), ``"RNA.weight"`` or ``"SCT.weight"``
    (Seurat), ``"<rna>:mod_weight"`` (muon, whose weights are shrunk towards 0.5). Nothing is
    computed or written; the source is logged.

    Parameters
    ----------
    mdata
        Data with the weights.
    key
        Column with the weight of RNA, with or without the prefix ``"<modality>:"``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as recorded by a
        model, or else ``"rna"`` and ``"adt"``.

    Returns
    -------
    ``weights``, indexed by ``mdata.obs_names``, and ``source``, which names the column and the
    tool.

    Raises
    ------
    KeyError
        If the column does not exist.
    ValueError
        If it contains values outside of [0, 1], or is missing in all cells.

    Examples
    --------
    >>> mdata.obs["RNA.weight"] = 0.5
    >>> isk.tl.find_wnn_weights(mdata).source
    "obs column 'RNA.weight', named as by Seurat"
    """
    check_mdata(mdata)
    return choose_weights(mdata, key, {} if key is not None else find_pair(mdata, modalities), "key")


def choose_weights(mdata: MuData, key: str | None, roles: Mapping[_keys.Role, str], argument: str) -> WnnWeights:
    """Return weights as :func:`find_wnn_weights` does, for known modalities.

    Parameters
    ----------
    mdata
        Data with the weights.
    key
        Column with the weight of RNA; searched for if None.
    roles
        Names of the modalities; not used if ``key`` is given.
    argument
        Name of the argument that ``key`` was passed as, for error messages.
    """
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
            f"mdata has no WNN weights of modality {rna!r} in obs; searched for {sought}. "
            f"Call tl.wnn_weights(mdata) to compute them, or name the column with {argument}."
        )
    column, *others = found
    more = f"; not used: {', '.join(others)}" if others else ""
    return _checked(mdata, found[column], column, f"named as by {makers[column]}{more}")


def _checked(mdata: MuData, values: pd.Series, column: str, origin: str) -> WnnWeights:
    """Return a column as weights between 0 and 1, and log its source."""
    numbers = pd.to_numeric(values.astype(object), errors="coerce").astype(float)
    bad = (values.notna() & ~numbers.between(0, 1)).to_numpy()
    if bad.any():
        raise ValueError(
            f"obs column {column!r} contains values that are not weights between 0 and 1 in cells "
            f"{first_of(mdata.obs_names[bad].to_numpy())}. Name another column with key, or call tl.wnn_weights(mdata)."
        )
    if numbers.isna().all():
        raise ValueError(
            f"obs column {column!r} is missing in all cells. Name another column with key, or call tl.wnn_weights(mdata)."
        )
    source = f"obs column {column!r}, {origin}"
    logger.info(f"WNN weights of RNA: {source}.")
    if SOURCE in origin and (changed := find_changed(mdata, _keys.WNN)):
        logger.warning(
            f"These weights are outdated: {', '.join(map(str, changed))} changed since they were computed. "
            "Call tl.wnn_weights(mdata) again."
        )
    return WnnWeights(numbers.rename(column), source)


class WnnInput(NamedTuple):
    """Modalities, their embeddings, and the cells that have both."""

    roles: dict[_keys.Role, str]
    keys: dict[_keys.Role, str]  # entries of obsm
    embeddings: dict[_keys.Role, Embedding]
    paired: NDArray[np.bool_]  # (n_cells,)

    @property
    def points(self) -> list[NDArray[np.float64]]:
        """Embeddings of the cells with both modalities, shape ``(n_paired, n_features)`` each."""
        return [embedding.points[self.paired] for embedding in self.embeddings.values()]


def find_wnn_input(
    mdata: MuData,
    modalities: Mapping[str, str] | None,
    obsm_keys: Mapping[_keys.Role, str],
    dimensions: Mapping[_keys.Role, int | None],
) -> WnnInput:
    """Read and check the input of :func:`wnn_weights`.

    Parameters
    ----------
    mdata
        Data with an embedding of each modality.
    modalities
        Names of the modalities by role, or None.
    obsm_keys
        Entry of ``obsm`` for each modality.
    dimensions
        Number of leading columns to use of each embedding; all if None.

    Raises
    ------
    KeyError
        If a modality or embedding is missing.
    ValueError
        If an embedding is invalid, or fewer than 2 cells have both modalities.
    """
    roles = find_pair(mdata, modalities)
    found = {role: find_embedding(mdata, name, obsm_keys[role], role, dimensions[role]) for role, name in roles.items()}
    if found["rna"].place == found["adt"].place:
        raise ValueError(
            f"rna_obsm_key and adt_obsm_key are both {found['rna'].place}, so there is nothing to compare. "
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
    mdata: MuData, data: WnnInput, of_rna: NDArray[np.float64], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Write the weights, their source and settings, and return the weights of all cells.

    Parameters
    ----------
    mdata
        Data to write to.
    data
        Input that the weights were computed from.
    of_rna
        Weight of RNA in the cells with both modalities, shape ``(n_paired,)``.
    settings
        Arguments to record.
    """
    weights = pd.DataFrame(np.nan, index=mdata.obs_names.copy(), columns=list(data.roles.values()))
    weights.loc[data.paired, data.roles["rna"]] = of_rna
    weights[data.roles["adt"]] = 1 - weights[data.roles["rna"]]
    for name in data.roles.values():
        mdata.obs[_keys.wnn_weight(name)] = weights[name].to_numpy()
    mdata.uns[_keys.WNN] = {
        "source": SOURCE,
        "modalities": data.roles,
        "embeddings": {role: embedding.place for role, embedding in data.embeddings.items()},
        "n_dimensions": {role: embedding.points.shape[1] for role, embedding in data.embeddings.items()},
        "n_cells": int(data.paired.sum()),
        **settings,
    }
    record_inputs(mdata, _keys.WNN, list_places(mdata, data.roles, ["raw"], data.keys))
    logger.info(
        f"WNN weights of {data.paired.sum()} cells by {SOURCE} from {data.embeddings['rna'].place} and "
        f"{data.embeddings['adt'].place}, in mdata.obs[{_keys.wnn_weight(data.roles['rna'])!r}] and "
        f"mdata.obs[{_keys.wnn_weight(data.roles['adt'])!r}]."
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
    """Compute Seurat's modality weights of weighted nearest neighbours for each cell.

    The weights are those of Seurat, see :func:`indiseek_sc.metrics.wnn_weights`. The ``mod_weight``
    of muon approximates them, shrunk towards 0.5. :func:`wnn_neighbors` writes the same weights and
    also a graph of cells.

    Parameters
    ----------
    mdata
        Data with an embedding of each modality, shape ``(n_cells, n_features)``, in ``obsm`` of the
        modality or of ``mdata``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as recorded by a
        model, or else ``"rna"`` and ``"adt"``.
    rna_obsm_key
        Embedding of RNA; by default the principal components computed by scanpy.
    adt_obsm_key
        Embedding of ADT; by default the principal components computed by scanpy.
    rna_dimensions
        Number of leading columns of the RNA embedding to use; all if None. Seurat's vignette uses
        30.
    adt_dimensions
        Number of leading columns of the ADT embedding to use; all if None. Seurat's vignette uses
        18.
    n_neighbors
        Number of neighbours of a cell, including itself as in Seurat.
    normalize
        Whether to scale each cell to length 1 in each embedding first, as Seurat does.
    search
        ``"annoy"`` finds approximate neighbours as Seurat does, which depend on the order of cells;
        ``"exact"`` finds the exact neighbours, so that weights do not depend on the order but are
        less similar to Seurat's.

    Returns
    -------
    One row per cell of ``mdata`` and one column per modality; rows sum to 1. NaN for cells that are
    absent from a modality or NaN in its embedding.

    Raises
    ------
    KeyError
        If a modality or embedding is missing.
    ValueError
        If an embedding is not a finite matrix, an argument is out of range, or fewer than 2 cells
        have both modalities.

    Notes
    -----
    Written to ``mdata``: ``obs["<modality>:wnn_weight"]`` for both modalities, and
    ``uns["indiseek_wnn"]`` (the source and the arguments). Nothing is written if an error is
    raised.

    Examples
    --------
    >>> for name in ("rna", "adt"):
    ...     mdata[name].obsm["X_pca"] = mdata.obsm[f"X_indiseek_shared_{name}"]
    >>> isk.tl.wnn_weights(mdata).shape
    (600, 2)
    """
    check_flag("normalize", normalize)
    keys: dict[_keys.Role, str] = {"rna": rna_obsm_key, "adt": adt_obsm_key}
    data = find_wnn_input(mdata, modalities, keys, {"rna": rna_dimensions, "adt": adt_dimensions})
    settings: dict[str, Any] = {"n_neighbors": n_neighbors, "normalize": normalize, "search": search}
    return write_wnn_weights(mdata, data, metrics.wnn_weights(*data.points, **settings), settings)
