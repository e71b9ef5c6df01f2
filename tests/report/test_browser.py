"""What a page looks like in a real browser."""

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
BROKEN_LINKS = """
return [...document.querySelectorAll('a[href^="#"]')].map(a => a.hash.slice(1)).filter(id => !document.getElementById(id))
"""


def find_requests(page: Any) -> list[str]:
    """Addresses that the page asked for, itself first; those of the browser's own start page are left out."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_all_and_asks_for_nothing(name, width, request, tmp_path):
    file: Path = request.getfixturevalue(name)
    with open_page(file, tmp_path / "profile", width) as page:
        assert page.execute_script("return innerWidth") == width
        images = page.execute_script(IMAGES)
        assert images
        assert all(is_complete and natural > 0 and shown > 200 for is_complete, natural, shown in images)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.execute_script(BEYOND) == []
        assert page.execute_script(BROKEN_LINKS) == []
        assert page.get_log("browser") == []
        asked = find_requests(page)
        assert asked.pop(0) == file.resolve().as_uri()
        assert [address[:80] for address in asked if not address.startswith("data:image/png")] == []


def test_a_link_of_the_contents_goes_where_it_says(page_of_file, tmp_path):
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
