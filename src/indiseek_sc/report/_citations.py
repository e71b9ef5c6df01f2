"""Works that a methods section cites, numbered in the order in which it does."""

from __future__ import annotations

from typing import NamedTuple


class Work(NamedTuple):
    """A reference and where it is found."""

    text: str
    address: str


WORKS = {
    "indiseek": Work(
        "Gui Y, Ma C, Ma Z. IndiSeek learns information-guided disentangled representations. arXiv 2509.21584 (2025).",
        "https://arxiv.org/abs/2509.21584",
    ),
    "scvi-tools": Work(
        "Gayoso A, Lopez R, Xing G, et al. A Python library for probabilistic analysis of single-cell omics data. Nature Biotechnology 40, 163-166 (2022).",
        "https://doi.org/10.1038/s41587-021-01206-w",
    ),
    "mudata": Work(
        "Bredikhin D, Kats I, Stegle O. MUON: multimodal omics analysis framework. Genome Biology 23, 42 (2022).",
        "https://doi.org/10.1186/s13059-021-02577-8",
    ),
    "scanpy": Work(
        "Wolf FA, Angerer P, Theis FJ. SCANPY: large-scale single-cell gene expression data analysis. Genome Biology 19, 15 (2018).",
        "https://doi.org/10.1186/s13059-017-1382-0",
    ),
    "leiden": Work(
        "Traag VA, Waltman L, van Eck NJ. From Louvain to Leiden: guaranteeing well-connected communities. Scientific Reports 9, 5233 (2019).",
        "https://doi.org/10.1038/s41598-019-41695-z",
    ),
    "umap": Work(
        "McInnes L, Healy J, Melville J. UMAP: Uniform Manifold Approximation and Projection for dimension reduction. arXiv 1802.03426 (2018).",
        "https://arxiv.org/abs/1802.03426",
    ),
    "wnn": Work(
        "Hao Y, Hao S, Andersen-Nissen E, et al. Integrated analysis of multimodal single-cell data. Cell 184, 3573-3587 (2021).",
        "https://doi.org/10.1016/j.cell.2021.04.048",
    ),
    "conformal": Work(
        "Lei J, G'Sell M, Rinaldo A, Tibshirani RJ, Wasserman L. Distribution-free predictive inference for regression. "
        "Journal of the American Statistical Association 113, 1094-1111 (2018).",
        "https://doi.org/10.1080/01621459.2017.1307116",
    ),
}


class Citations:
    """Gives a work its number when it is first cited."""

    def __init__(self) -> None:
        self._cited: list[str] = []

    def __call__(self, name: str) -> str:
        """Return the number of a work in brackets, such as ``[1]``."""
        if name not in self._cited:
            self._cited.append(name)
        return f"[{self._cited.index(name) + 1}]"

    @property
    def works(self) -> list[Work]:
        """What was cited, in its order."""
        return [WORKS[name] for name in self._cited]
