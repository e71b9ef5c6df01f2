"""Rendering of the HTML page with Jinja, and its references."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from indiseek_sc import _keys


@cache
def _environment() -> Environment:
    # Names of modalities, labels and files come from the user, so everything is escaped.
    # Undefined names in a template raise an error instead of leaving a gap in the page.
    environment = Environment(
        loader=PackageLoader("indiseek_sc.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["short"] = lambda number: f"{number:g}"
    # Stages have the same names as in the figures.
    environment.filters["stage"] = lambda name: _keys.REGRESSION_TITLES.get(
        name, f"{name.capitalize()} representations"
    )
    environment.filters["rounded"] = lambda number: "not defined" if math.isnan(number) else f"{number:.3f}"
    return environment


def render(**content: Any) -> str:
    """Return the HTML page.

    Parameters
    ----------
    **content
        Values of the variables in ``templates/report.html``.
    """
    return _environment().get_template("report.html").render(cite=Citations(), **content)


class Work(NamedTuple):
    """A reference and its address."""

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
    "probing": Work(
        "Hewitt J, Ethayarajh K, Liang P, Manning CD. Conditional probing: measuring usable information beyond a baseline. EMNLP (2021).",
        "https://doi.org/10.18653/v1/2021.emnlp-main.122",
    ),
    "limma": Work(
        "Smyth GK. Linear models and empirical Bayes methods for assessing differential expression in microarray experiments. "
        "Statistical Applications in Genetics and Molecular Biology 3, 3 (2004).",
        "https://doi.org/10.2202/1544-6115.1027",
    ),
    "bh": Work(
        "Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and powerful approach to multiple testing. "
        "Journal of the Royal Statistical Society B 57, 289-300 (1995).",
        "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x",
    ),
    "conformal": Work(
        "Lei J, G'Sell M, Rinaldo A, Tibshirani RJ, Wasserman L. Distribution-free predictive inference for regression. "
        "Journal of the American Statistical Association 113, 1094-1111 (2018).",
        "https://doi.org/10.1080/01621459.2017.1307116",
    ),
}


class Citations:
    """Numbered references in the order of their first citation."""

    def __init__(self) -> None:
        self._cited: list[str] = []

    def __call__(self, name: str) -> str:
        """Return the number of a work in brackets, such as ``[1]``."""
        if name not in self._cited:
            self._cited.append(name)
        return f"[{self._cited.index(name) + 1}]"

    @property
    def works(self) -> list[Work]:
        """The cited works, in the order of citation."""
        return [WORKS[name] for name in self._cited]
