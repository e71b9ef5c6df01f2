"""Reading of CITE-seq files into a MuData with scanpy, anndata and mudata."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import mudata
from mudata import MuData

from indiseek_sc._checks import check_path
from indiseek_sc._recognise import find_modalities
from indiseek_sc._text import choices, listing
from indiseek_sc.io._split import split_anndata

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

FORMS = (
    "Cell Ranger (.h5, or the folder with matrix.mtx), AnnData (.h5ad, .zarr) with proteins in obsm or in "
    "var['feature_types'], "
    "or MuData (.h5mu, .zarr)"
)
"""Readable formats, for error messages."""

MATRIX_FILES = ("matrix.mtx", "features.tsv", "genes.tsv", "barcodes.tsv")
"""Uncompressed files of a Cell Ranger matrix folder."""


def read(path: str | Path, *, rna: str | None = None, adt: str | None = None) -> MuData:
    """Read CITE-seq data from any common format into memory.

    The format is recognised by the content of the file. Files of Cell Ranger (``.h5``, or a folder
    with ``matrix.mtx``, compressed or not) and AnnData (``.h5ad``, ``.zarr``) with proteins in
    ``obsm`` or marked in ``var["feature_types"]`` are split into two modalities, ``"rna"`` and
    ``"adt"``. A MuData (``.h5mu``, ``.zarr``, ``.zarr.zip``, of any version) is returned unchanged,
    with its own names of modalities.

    Genes and antibodies may have the same name, since they belong to different modalities. Names
    that are repeated within a modality receive suffixes ``-1`` and so on with a warning, and
    ``var["name_in_file"]`` keeps the original names.

    Parameters
    ----------
    path
        File or folder.
    rna
        Modality of a MuData, or feature type, that contains RNA; required only if this is
        ambiguous.
    adt
        Modality of a MuData, entry of ``obsm``, or feature type that contains proteins; required
        only if this is ambiguous.

    Returns
    -------
    All cells of the file. :meth:`indiseek_sc.IndiSeek.setup_mudata` recognises both modalities by
    their names.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file cannot be read, or RNA or proteins are not found; the message lists the
        candidates.

    Examples
    --------
    >>> mdata.write("cells.h5mu")
    >>> list(isk.io.read("cells.h5mu").mod)
    ['rna', 'adt']
    >>> isk.io.join_modalities(mdata, "rna", "adt").write("cells.h5ad")
    >>> isk.io.read("cells.h5ad", adt="protein_expression").n_obs
    600
    """
    path, given = check_path("path", path), {"rna": rna, "adt": adt}
    for argument, name in given.items():
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{argument} must be one name, but is {name!r}.")
    data = read_anndata_or_mudata(path)
    if not isinstance(data, MuData):
        try:
            return split_anndata(data, rna=rna, adt=adt)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    for argument, name in given.items():
        if name is not None and name not in data.mod:
            raise ValueError(
                f"{path}: {argument}={name!r} is not a modality of this file. {choices(name, list(data.mod))}"
            )
    if data.axis == 0:
        try:
            find_modalities(data, {"rna": rna, "adt": adt}, "read(path, {role}='NAME')")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return data


def read_anndata_or_mudata(path: Path) -> AnnData | MuData:
    """Read a file or folder as an AnnData or MuData, without splitting it into modalities.

    Parameters
    ----------
    path
        File or folder.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> mdata.write("cells.h5mu")
    >>> type(isk.io.read_anndata_or_mudata(Path("cells.h5mu"))).__name__
    'MuData'
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    name, reader = _find_reader(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique")  # handled later
        warnings.filterwarnings("ignore", message="Cannot join columns|.*without encoding metadata")
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            return reader(path)
        except Exception as error:
            raise ValueError(f"{path} cannot be read as {name}: {error}. Readable formats: {FORMS}.") from error


def _find_reader(path: Path) -> tuple[str, Callable[[Path], AnnData | MuData]]:
    """Return a description of the format of a path, by its content, and its reader."""
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir())
        if {".zgroup", "zarr.json"} & set(files):
            return "zarr", mudata.read_zarr  # reads AnnData, too
        if any(file.removesuffix(".gz") == "matrix.mtx" for file in files):
            return "a matrix folder of Cell Ranger", _read_matrix_folder
        inside = [str(inner.parent) for inner in sorted(path.rglob("matrix.mtx*"))] or [*map(str, path.rglob("*.h5"))]
        hint = f"Did you mean {inside[0]}?" if inside else f"It contains: {listing(files)}."
        raise ValueError(f"{path} is a folder without matrix.mtx or a zarr store. {hint} Readable formats: {FORMS}.")
    if path.name.endswith(".zip"):
        return "zarr", _read_zip
    if not h5py.is_hdf5(path):
        hint = " Export R objects as a matrix folder or h5ad (docs/reading.md)." if _is_of_r(path) else ""
        raise ValueError(
            f"{path} cannot be read as {path.suffix.lstrip('.') or 'HDF5'}.{hint} Readable formats: {FORMS}."
        )
    return _find_hdf5_reader(path)


def _find_hdf5_reader(path: Path) -> tuple[str, Callable[[Path], AnnData | MuData]]:
    """Return a description of the format of an HDF5 file, by its content, and its reader."""
    import scanpy

    try:
        with h5py.File(path, "r") as file:
            groups = set(file)
    except OSError as error:
        kind = "h5mu" if path.suffix == ".h5mu" else "HDF5"
        raise ValueError(f"{path} cannot be read as {kind}: {error}. Is it complete?") from error
    if "mod" in groups:
        return "h5mu", mudata.read_h5mu
    if "assays" in groups and "cell.names" in groups:
        raise ValueError(f"{path} is an h5Seurat file. Export a matrix folder or h5ad from R (docs/reading.md).")
    if "obs" in groups:
        return "h5ad", anndata.read_h5ad
    return "a matrix of Cell Ranger", lambda path: scanpy.read_10x_h5(path, gex_only=False)


def _is_of_r(path: Path) -> bool:
    """Return whether the name of a file is that of an R object."""
    return path.suffix.lower() in (".rds", ".rda", ".rdata", ".qs")


def _read_zip(path: Path) -> Any:
    """Read a MuData from a zipped zarr store."""
    import zarr

    store = zarr.storage.ZipStore(path, mode="r")
    try:
        return mudata.read_zarr(store)
    finally:
        store.close()


def _read_matrix_folder(path: Path) -> AnnData:
    """Read a Cell Ranger matrix folder with scanpy.

    Scanpy expects either the older, uncompressed form with ``genes.tsv`` or compressed files.
    Uncompressed files of the newer form are compressed into a temporary folder first.
    """
    import scanpy

    if (path / "genes.tsv").is_file() or (path / "matrix.mtx.gz").is_file():
        return scanpy.read_10x_mtx(path, gex_only=False, make_unique=False)
    with tempfile.TemporaryDirectory() as folder:
        for name in MATRIX_FILES:
            if (path / name).is_file():
                with open(path / name, "rb") as plain, gzip.open(Path(folder) / f"{name}.gz", "wb", 1) as packed:
                    shutil.copyfileobj(plain, packed)
        return scanpy.read_10x_mtx(folder, gex_only=False, make_unique=False)
