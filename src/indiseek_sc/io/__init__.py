"""Reading of CITE-seq data from common formats, and writing of results."""

from __future__ import annotations

import indiseek_sc._accessor  # registers mdata.indiseek
from indiseek_sc.io._read import read, read_anndata_or_mudata
from indiseek_sc.io._split import PROTEINS, split_anndata
from indiseek_sc.io._write import BEFORE, join_modalities, write

__all__ = ["BEFORE", "PROTEINS", "join_modalities", "read", "read_anndata_or_mudata", "split_anndata", "write"]
