"""Reading of what people have into a MuData; scanpy, anndata and mudata do the reading."""

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
"""What can be read, for error messages."""

MATRIX_FILES = ("matrix.mtx", "features.tsv", "genes.tsv", "barcodes.tsv")


def read(path: str | Path, *, rna: str | None = None, adt: str | None = None) -> MuData:
    """Read CITE-seq data, in any of the usual forms, into memory.

    The format is recognised by the content of the file. Two modalities, ``"rna"`` and ``"adt"``, are made of a file of Cell Ranger
    (``.h5``, or a folder with ``matrix.mtx``, compressed or not) and of an AnnData (``.h5ad``, ``.zarr``), whose
    proteins lie in ``obsm`` or are marked in ``var["feature_types"]``. A MuData (``.h5mu``, ``.zarr``, ``.zarr.zip``,
    of any version) is returned as it is, with its own names of modalities.

    Genes and antibodies of one name keep it, since they are in two modalities. Where a name occurs twice within one of
    them, ``-1`` and so on are appended, a warning says so, and ``var["name_in_file"]`` keeps what was there.

    Parameters
    ----------
    path
        File or folder.
    rna
        Which values are RNA, where that is not clear: the modality of a MuData, or the type of features.
    adt
        The same for proteins: the modality of a MuData, the entry of ``obsm``, or the type of features.

    Returns
    -------
    All cells of the file; :meth:`indiseek_sc.IndiSeek.setup_mudata` finds both modalities by their names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, or RNA or proteins are not found in it; the message lists what there is.

    Examples
    --------
    >>> mdata = indiseek_sc.read("filtered_feature_bc_matrix.h5")
    >>> mdata = indiseek_sc.read("cells.h5ad", adt="protein_expression")
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
            raise ValueError(f"{path}: {argument}={name!r} is no modality of it. {choices(name, list(data.mod))}")
    if data.axis == 0:
        try:
            find_modalities(data, {"rna": rna, "adt": adt}, "read(path, {role}='NAME')")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return data


def read_anndata_or_mudata(path: Path) -> AnnData | MuData:
    """Read a file or folder as what it is.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    name, reader = _find_reader(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique")  # they are made unique, or reported, later
        warnings.filterwarnings("ignore", message="Cannot join columns|.*without encoding metadata")
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            return reader(path)
        except Exception as error:
            raise ValueError(f"{path} cannot be read as {name}: {error}. What can be read: {FORMS}.") from error


def _find_reader(path: Path) -> tuple[str, Callable[[Path], AnnData | MuData]]:
    """Return what a path holds, by its content, in words, and what reads it."""
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir())
        if {".zgroup", "zarr.json"} & set(files):
            return "zarr", mudata.read_zarr  # an AnnData too
        if any(file.removesuffix(".gz") == "matrix.mtx" for file in files):
            return "a matrix folder of Cell Ranger", _read_matrix_folder
        inside = [str(inner.parent) for inner in sorted(path.rglob("matrix.mtx*"))] or [*map(str, path.rglob("*.h5"))]
        hint = f"Did you mean {inside[0]}?" if inside else f"It holds: {listing(files)}."
        raise ValueError(
            f"{path} is a folder with neither matrix.mtx nor zarr in it. {hint} What can be read: {FORMS}."
        )
    if path.name.endswith(".zip"):
        return "zarr", _read_zip
    if not h5py.is_hdf5(path):
        hint = " Of an R object, save a matrix folder or h5ad (docs/reading.md)." if _is_of_r(path) else ""
        raise ValueError(
            f"{path} cannot be read as {path.suffix.lstrip('.') or 'HDF5'}.{hint} What can be read: {FORMS}."
        )
    return _find_hdf5_reader(path)


def _find_hdf5_reader(path: Path) -> tuple[str, Callable[[Path], AnnData | MuData]]:
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
        raise ValueError(f"{path} is an h5Seurat file. Save a matrix folder or h5ad from R (docs/reading.md).")
    if "obs" in groups:
        return "h5ad", anndata.read_h5ad
    return "a matrix of Cell Ranger", lambda path: scanpy.read_10x_h5(path, gex_only=False)


def _is_of_r(path: Path) -> bool:
    return path.suffix.lower() in (".rds", ".rda", ".rdata", ".qs")


def _read_zip(path: Path) -> Any:
    import zarr

    store = zarr.storage.ZipStore(path, mode="r")
    try:
        return mudata.read_zarr(store)
    finally:
        store.close()


def _read_matrix_folder(path: Path) -> AnnData:
    """Read by scanpy, which looks for compressed files, or for uncompressed ones of the older form."""
    import scanpy

    if (path / "genes.tsv").is_file() or (path / "matrix.mtx.gz").is_file():
        return scanpy.read_10x_mtx(path, gex_only=False, make_unique=False)
    with tempfile.TemporaryDirectory() as folder:
        for name in MATRIX_FILES:
            if (path / name).is_file():
                with open(path / name, "rb") as plain, gzip.open(Path(folder) / f"{name}.gz", "wb", 1) as packed:
                    shutil.copyfileobj(plain, packed)
        return scanpy.read_10x_mtx(folder, gex_only=False, make_unique=False)
