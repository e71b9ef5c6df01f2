"""Writing of cells with their representations."""

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
"""Suffix under which an existing entry is kept if a result has the same name."""


def write(mdata: MuData, path: Path, *, rna: str, adt: str, adt_layer: str | None = None) -> None:
    """Write a MuData as ``.h5mu``, ``.zarr`` or ``.h5ad``, by the suffix of the path.

    Parameters
    ----------
    mdata
        Data to write.
    path
        File, or folder of a zarr store.
    rna, adt
        Names of the modalities, used for ``.h5ad`` (see :func:`join_modalities`).
    adt_layer
        Layer of the protein values that an ``.h5ad`` file contains; ``X`` if None.

    Examples
    --------
    >>> from pathlib import Path
    >>> isk.io.write(mdata, Path("cells.h5ad"), rna="rna", adt="adt")
    >>> sc.read_h5ad("cells.h5ad").n_obs
    600
    """
    if path.suffix == ".h5mu":
        mdata.write_h5mu(path)
    elif path.suffix == ".zarr":
        # mudata 0.4.1 writes the axis that it has read from an .h5mu file, a NumPy integer, as JSON.
        mdata._axis = int(mdata.axis)
        mdata.write_zarr(path)
    else:
        join_modalities(mdata, rna, adt, adt_layer).write_h5ad(path)


def join_modalities(mdata: MuData, rna: str, adt: str, adt_layer: str | None = None) -> AnnData:
    """Convert a MuData to a single AnnData for scanpy.

    Parameters
    ----------
    mdata
        Cells with both modalities in the same order.
    rna
        Modality that becomes ``X``, with its layers and annotations.
    adt
        Modality that becomes ``obsm["protein_expression"]``, shape ``(n_cells, n_proteins)``.
    adt_layer
        Layer of the protein values; ``X`` if None.

    Returns
    -------
    A copy with ``obs``, ``obsm``, ``obsp`` and ``uns`` of the MuData added, and the columns of the
    proteins' ``obs`` with the name of their modality as a prefix. RNA entries of the same name are
    kept with the suffix ``_before_indiseek``. Other modalities are omitted with a warning.

    Examples
    --------
    >>> adata = isk.io.join_modalities(mdata, "rna", "adt")
    >>> adata.obsm["protein_expression"].shape[1] == mdata["adt"].n_vars
    True
    """
    adata = mdata.mod[rna].copy()
    proteins = mdata.mod[adt]
    values = proteins.X if adt_layer is None else proteins.layers[adt_layer]
    names = proteins.var_names.astype(str)
    if any("/" in name for name in names):  # a slash separates groups in HDF5
        adata.uns["protein_names"] = names.to_numpy()
    else:
        values = pd.DataFrame(values.toarray() if hasattr(values, "toarray") else values, adata.obs_names, names)
    _add(adata.obsm, {PROTEINS: values})
    _add(adata.obsm, {f"{key}_{adt}": value for key, value in proteins.obsm.items()})
    own = [column for column in mdata.obs if not (column.startswith(f"{rna}:") and column[len(rna) + 1 :] in adata.obs)]
    _add(adata.obs, {column: mdata.obs[column] for column in own})
    # mudata 0.3 copies these columns to the MuData, 0.4 does not.
    theirs = {f"{adt}:{column}": values for column, values in proteins.obs.items()}
    _add(adata.obs, {column: values for column, values in theirs.items() if column not in mdata.obs})
    _add(adata.obsm, {key: value for key, value in mdata.obsm.items() if key not in mdata.mod})
    _add(adata.obsp, dict(mdata.obsp))
    _add(adata.uns, dict(mdata.uns))
    if f"neighbors_{BEFORE}" in adata.uns:
        graph = {f"{kind}_key": f"{kind}_{BEFORE}" for kind in ("connectivities", "distances")}
        adata.uns[f"neighbors_{BEFORE}"] = {**adata.uns[f"neighbors_{BEFORE}"], **graph}
    if others := [name for name in mdata.mod if name not in (rna, adt)]:
        warnings.warn(
            f"An AnnData cannot contain the modalities {listing(others)}, which are omitted. Write .h5mu to keep them.",
            stacklevel=2,
        )
    return adata


def _add(target: MutableMapping[str, Any], entries: dict[str, Any]) -> None:
    """Add entries, and keep existing entries of the same name under another name."""
    for key, value in entries.items():
        if key in target:
            target[f"{key}_{BEFORE}"] = target[key]
        target[key] = value
