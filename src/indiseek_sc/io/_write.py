"""Writing of cells with their representations, for other programs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd

from indiseek_sc._text import listing
from indiseek_sc.io._split import PROTEINS

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

BEFORE = "before_indiseek"
"""What is added to the name of an entry whose place a result takes."""


def write(mdata: MuData, path: Path, *, rna: str, adt: str, adt_layer: str | None = None) -> None:
    """Write a MuData as the ending of the path says: ``.h5mu``, ``.zarr``, or ``.h5ad`` (see :func:`join_modalities`).

    Parameters
    ----------
    mdata
        The data.
    path
        File, or folder of a zarr store.
    rna, adt
        Names of both modalities, and ``adt_layer`` the layer of the proteins that an AnnData gets.
    """
    if path.suffix == ".h5mu":
        mdata.write_h5mu(path)
    elif path.suffix == ".zarr":
        mdata.write_zarr(path)
    else:
        join_modalities(mdata, rna, adt, adt_layer).write_h5ad(path)


def join_modalities(mdata: MuData, rna: str, adt: str, adt_layer: str | None = None) -> AnnData:
    """Make one AnnData of a MuData, as scanpy reads it.

    Parameters
    ----------
    mdata
        Cells with both modalities, in one order.
    rna
        The modality that becomes ``X``, with its layers and all that is of it.
    adt
        The modality that becomes ``obsm["protein_expression"]``, shape ``(n_cells, n_proteins)``.
    adt_layer
        Layer of its values; ``X`` if not given.

    Returns
    -------
    A copy. ``obs``, ``obsm``, ``obsp`` and ``uns`` of the MuData are added; what the RNA has under one of their names
    is kept with ``_before_indiseek`` behind it. Other modalities, of which there is a warning, are left out.
    """
    adata = mdata.mod[rna].copy()
    proteins = mdata.mod[adt]
    values = proteins.X if adt_layer is None else proteins.layers[adt_layer]
    names = proteins.var_names.astype(str)
    if any("/" in name for name in names):  # which stands for a group within HDF5
        adata.uns["protein_names"] = names.to_numpy()
    else:
        values = pd.DataFrame(values.toarray() if hasattr(values, "toarray") else values, adata.obs_names, names)
    _add(adata.obsm, {PROTEINS: values})
    _add(adata.obsm, {f"{key}_{adt}": value for key, value in proteins.obsm.items()})
    own = [column for column in mdata.obs if not (column.startswith(f"{rna}:") and column[len(rna) + 1 :] in adata.obs)]
    _add(adata.obs, {column: mdata.obs[column] for column in own})
    _add(adata.obsm, {key: value for key, value in mdata.obsm.items() if key not in mdata.mod})
    _add(adata.obsp, dict(mdata.obsp))
    _add(adata.uns, dict(mdata.uns))
    if f"neighbors_{BEFORE}" in adata.uns:
        graph = {f"{kind}_key": f"{kind}_{BEFORE}" for kind in ("connectivities", "distances")}
        adata.uns[f"neighbors_{BEFORE}"] = {**adata.uns[f"neighbors_{BEFORE}"], **graph}
    if others := [name for name in mdata.mod if name not in (rna, adt)]:
        warnings.warn(
            f"An AnnData has no place for the modalities {listing(others)}, which are left out. Write .h5mu to keep "
            f"them.",
            stacklevel=2,
        )
    return adata


def _add(target: MutableMapping[str, Any], entries: dict[str, Any]) -> None:
    """Add entries; what was there under their names is kept under another one."""
    for key, value in entries.items():
        if key in target:
            target[f"{key}_{BEFORE}"] = target[key]
        target[key] = value
