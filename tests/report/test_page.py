"""Content of a report, without a browser."""

from __future__ import annotations

import base64
import io
import re
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from indiseek_sc import pl

from .conftest import HOSTILE, HOSTILE_LABEL
from .page import Page

PAGES = ["page_of_file", "page_of_model", "hostile_page"]


def decode(address: str) -> bytes:
    """Return the content of a data URI."""
    kind, _, content = address.partition(",")
    return base64.b64decode(content, validate=True) if kind.endswith(";base64") else unquote(content).encode()


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(request.getfixturevalue(request.param))


def test_every_image_is_embedded_decodes_and_has_alternative_text(page):
    images = page.all("img")
    assert images
    for image in images:
        assert image["src"].startswith("data:image/")
        pixels = np.asarray(Image.open(io.BytesIO(decode(image["src"]))).convert("RGB"))
        assert pixels.std() > 3  # not blank
        assert int(image["width"]) / int(image["height"]) == pytest.approx(pixels.shape[1] / pixels.shape[0], rel=0.02)
        assert len(image["alt"].split()) > 5


def test_a_page_requests_no_external_resources(page):
    assert [address[:40] for address in page.resources if not address.startswith("data:image/")] == []
    source = page.source
    for a in page.all("a"):
        # A download link, whose content refers only to itself.
        if a.get("download", "").endswith(".svg"):
            address = a["href"].replace("&", "&amp;").replace("'", "&#39;")
            assert address in source
            source = source.replace(address, "")
            content = decode(a["href"]).decode("utf-8")
            assert content.count("url(") == content.count("url(#")
            assert "<script" not in content
    for word in ("@import", "url(", "<script", "<link", "<iframe"):
        assert word not in source
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_links_have_their_targets(page):
    links = [a["href"] for a in page.all("a") if "download" not in a]
    inside = [link.removeprefix("#") for link in links if link.startswith("#")]
    assert len(inside) >= 7
    assert set(inside) <= set(page.ids)
    assert set(inside) == {section["id"] for section in page.all("section")} - {"findings", "missing"}
    assert len(set(page.ids)) == len(page.ids)
    assert all(link.startswith(("https://doi.org/10.", "https://arxiv.org/abs/")) for link in links if link[0] != "#")


def test_every_figure_has_a_caption_and_can_be_downloaded(page):
    figures = page.all("figure")
    assert page.text.count("How to read this figure.") == len(figures) <= len(page.all("img"))
    saved = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    for figure in figures:
        drawing = ElementTree.fromstring(decode(saved[f"{figure['id']}.svg"]))
        assert drawing.tag.endswith("svg")
        width = float(drawing.attrib["width"].removesuffix("pt")) / 72 * 25.4
        assert width == pytest.approx(pl.COLUMN) or width == pytest.approx(pl.PAGE)


def test_tables_can_be_downloaded(page):
    saved = {a["download"]: a["href"] for a in page.all("a") if a.get("download", "").endswith(".csv")}
    assert {"theta.csv", "retrieval.csv"} <= set(saved)
    for name, address in saved.items():
        assert len(pd.read_csv(io.BytesIO(decode(address)))) > 0, name


def test_missing_figures_are_listed_once(page_of_file: Path, page_of_model: Path):
    for file in (page_of_file, page_of_model):
        page = Page(file)
        assert not any("open" in details for details in page.all("details"))
        listed = int(re.search(r"Not included in this report \((\d+)\)", page.text)[1])
        assert 0 < listed < 10
        assert "not shown" not in page.text.replace("without a UMAP in the data are not shown", "")
        # Sections without figures are left out.
        assert "Clusters of the representations</h2>" not in page.source


def test_a_page_begins_with_at_most_five_findings(page):
    first, *_ = page.all("section")
    assert first["id"] == "findings"
    kinds = [li["class"] for li in page.all("li") if li.get("class") in ("found", "certainty", "caution")]
    assert 1 <= len(kinds) <= 5
    assert kinds[-1] == "caution"


def test_names_from_the_user_are_escaped(hostile_page: Path):
    page = Page(hostile_page)
    assert page.all("script") == []
    assert [image for image in page.all("img") if "onerror" in image] == []
    assert HOSTILE in page.text
    assert HOSTILE_LABEL not in page.source
    assert "&lt;script&gt;" in page.source


def test_a_report_without_a_model_states_what_is_missing(page_of_file: Path):
    page = Page(page_of_file)
    assert "IndiSeek: 600 cells" in page.text
    assert "Labels 17 in cell_type" in page.text
    assert "Batches unknown without the model" in page.text
    assert page.text.count("give the folder of a saved model to indiseek-sc report by --model") == 4
    assert "versions" in page.ids and "scvi-tools" in page.text
    assert "logical CPU cores" in page.text and f"lightning {version('lightning')}" in page.text
    assert "Call tl.compare_clusters(mdata, label_key)" in page.text
    assert "The random seed of the model is 7" in page.text
    assert "nan" not in page.text.split()


@pytest.mark.parametrize("name", ["page_of_file", "page_of_model"])
def test_every_dimension_has_a_row_and_technical_dimensions_are_counted(name, request):
    page = Page(request.getfixturevalue(name))
    begin = page.text.index("A dimension is called technical")
    section = page.text[begin : page.text.index("Independently trained probes predict", begin)]
    rows = re.findall(r"\b(rna|adt) (\d+) (\(technical\))?", section[section.index("All dimensions") :])
    numbers = [[int(number) for name, number, _ in rows if name == modality] for modality in ("rna", "adt")]
    assert all(own == list(range(len(own))) and own for own in numbers)
    counted = re.findall(r"(\d+|None) of the (\d+) dimensions of the (?:rna|adt)-specific", page.text[:begin])
    assert [int(n) for _, n in counted] == [len(own) for own in numbers]
    n_technical = sum(bool(flag) for *_, flag in rows)
    assert sum(int(number) for number, _ in counted if number != "None") == n_technical
    assert ("Dimensions of specific representations follow technical covariates" in page.text) == (n_technical > 0)
    if name == "page_of_model":  # even after one epoch on the bundled data
        assert n_technical >= 2
        assert "mitochondrial genes" in page.text[:begin]


def test_cautions_name_missed_aims_small_labels_and_versions(page_of_file: Path):
    text = Page(page_of_file).text
    assert "misses an aim (specific: leak ratio): 0.300 (rna), where the aim is ≤ 0.02" in text
    assert "labels of fewer than 15 cells: Erythrocyte, Platelet" in text or "labels of fewer than 15 cells:" in text
    assert "The representations were written by indiseek_sc 0.0.1; this report was created by indiseek_sc" in text


def test_a_report_of_a_model_has_all_figures_and_facts(page_of_model: Path):
    page = Page(page_of_model)
    for name in (
        "umap-0",
        "umap-1",
        "umap-2",
        "theta",
        "dimensions-rna",
        "dimensions-adt",
        "attribution-rna",
        "attribution-adt",
        "audit",
        "retrieval",
        "prediction-0",
        "prediction-1",
        "history",
    ):
        assert name in page.ids
    assert "This needs the model" not in page.text
    assert (
        "Representations without a UMAP in the data are not shown: shared rna, shared adt, specific rna, specific adt."
        in page.text
    )
    assert "Batches 3 in batch: B1, B2, B3" in page.text
    assert "Held-out cells, for the audit 120 cells" in page.text
    assert "Epochs by stage: Shared representations 1" in page.text
    assert "Evaluated on 120 cells with probes that were fitted on 480 other cells" in page.text


def test_the_methods_text_has_numbers_and_references(page_of_model: Path):
    text = Page(page_of_model).text
    paragraph = text[
        text.index("Shared and modality-specific latent representations of 600 cells") : text.index("References")
    ]
    assert re.search(
        r"rna: counts, .*library size, log1p, centring, weighting by signal, PCA to \d+ components", paragraph
    )
    assert (
        "Additive effects of 3 batches (batch) on the features of each cell state were estimated and subtracted"
        in paragraph
    )
    assert "cells were contrasted within these groups, and networks were conditioned on them" in paragraph
    assert "120 were held out of all steps" in paragraph
    assert "lambda of reconstruction relative to independence was 100" in paragraph
    assert "Representations were audited on 120 held-out cells" in paragraph
    assert "10 nearest neighbours" in paragraph
    assert "Bootstrap intervals (95 %, 1,000 draws) account for variation over cells only." in paragraph
    assert "rna from adt with a mean correlation per feature of" in paragraph
    assert [number for number in range(1, 8) if f"[{number}]" in paragraph] == [1, 2, 3, 4]
    assert text.count("https://") == 4
