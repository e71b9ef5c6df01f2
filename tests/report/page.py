"""Parser of a page for tests of its content."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

RESOURCE_ATTRIBUTES = ("src", "srcset", "poster", "data", "background")


class Page(HTMLParser):
    """Tags and text of a page.

    Attributes
    ----------
    tags
        Names and attributes of the tags, in order.
    text
        Visible text, with single spaces.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._texts: list[str] = []
        self._within: list[str] = []
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "style":
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self._texts.append(data)

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def resources(self) -> list[str]:
        """Addresses that a browser requests without a click of the user."""
        fetched = [a[name] for _, a in self.tags for name in RESOURCE_ATTRIBUTES if name in a]
        return fetched + [a["href"] for tag, a in self.tags if tag != "a" and "href" in a]
