"""Reports in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .browser import open_page

pytestmark = pytest.mark.slow

PAGES = ["page_of_file", "page_of_model", "hostile_page"]
WIDTHS = [1280, 390]

IMAGES = "return [...document.images].map(image => [image.complete, image.naturalWidth, image.clientWidth])"
BEYOND = """
return [...document.querySelectorAll("body *")]
  .filter(element => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll"))
  .map(element => element.outerHTML.slice(0, 80))
"""
SIZES = "return [...document.images].map(image => [image.clientWidth, Number(image.getAttribute('width'))])"
BROKEN_LINKS = """
return [...document.querySelectorAll('a[href^="#"]')].map(a => a.hash.slice(1)).filter(id => !document.getElementById(id))
"""


def find_requests(page: Any) -> list[str]:
    """Return the addresses that the page requested, its own first."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_all_images_and_requests_no_resources(name, width, request, tmp_path):
    file: Path = request.getfixturevalue(name)
    with open_page(file, tmp_path / "profile", width) as page:
        assert page.execute_script("return innerWidth") == width
        images = page.execute_script(IMAGES)
        assert images
        assert all(is_complete and natural > 0 and shown > 50 for is_complete, natural, shown in images)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.execute_script(BEYOND) == []
        assert page.execute_script(BROKEN_LINKS) == []
        assert page.get_log("browser") == []
        requested = find_requests(page)
        assert requested.pop(0) == file.resolve().as_uri()
        assert [address[:80] for address in requested if not address.startswith("data:image/png")] == []


def test_links_download_figures_and_tables(page_of_file, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    with open_page(page_of_file, tmp_path / "profile", 1280) as page:
        page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        names = page.execute_script("return [...document.querySelectorAll('a[download]')].map(a => a.download)")
        for name in ("umap-0.svg", "theta.csv"):
            assert name in names
            page.execute_script("document.querySelector(`a[download='${arguments[0]}']`).click()", name)
        pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(page, 20).until(
            lambda _: {file.name for file in folder.iterdir()} == {"umap-0.svg", "theta.csv"}
        )
        drawing = (folder / "umap-0.svg").resolve().as_uri()
        page.get(drawing)
        assert page.execute_script("return document.documentElement.tagName") == "svg"
    assert "label" in (folder / "theta.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("name", ["page_of_file", "page_of_model"])
def test_panels_stack_and_remain_legible_on_a_phone(name, request, tmp_path):
    with open_page(request.getfixturevalue(name), tmp_path / "profile", 390) as page:
        shown = page.execute_script(SIZES)
        assert len(shown) > 8
        # Text of 6.5 points must be at least 9 pixels high; unscaled figures have 2.2 pixels per
        # point.
        assert min(6.5 * 2.2 * width / natural for width, natural in shown) > 9
        tops = page.execute_script("return [...document.images].map(image => image.getBoundingClientRect().top)")
        assert tops == sorted(tops)


def test_links_of_the_contents_lead_to_their_sections(page_of_file, tmp_path):
    with open_page(page_of_file, tmp_path / "profile", 1280) as page:
        page.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
        for link in page.find_elements("css selector", "nav a"):
            link.click()
            target = page.execute_script("return location.hash.slice(1)")
            top = page.execute_script(
                "return document.getElementById(arguments[0]).getBoundingClientRect().top", target
            )
            at_end = page.execute_script("return scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
            assert abs(top) < 5 or at_end
            page.execute_script("scrollTo(0, 0)")
