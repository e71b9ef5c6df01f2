"""The API pages list exactly the public names."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from .packages import PUBLIC

DOCS = Path(__file__).parents[2] / "docs"


def find_listed() -> dict[str, list[str]]:
    """Return the names in the tables of all pages, by ``currentmodule``."""
    listed: dict[str, list[str]] = {}
    for page in sorted((DOCS / "api").glob("*.md")):
        for block in re.findall(r"```\{eval-rst\}\n(.*?)```", page.read_text(), re.DOTALL):
            module = re.search(r"currentmodule:: (\S+)", block)
            names = re.findall(r"^(?:   |\.\. py:data:: )(\w+)$", block, re.MULTILINE)
            assert module and names, f"{page.name}: a table without currentmodule, or without names"
            listed.setdefault(module[1], []).extend(names)
    return listed


LISTED = find_listed()


@pytest.mark.parametrize("package", PUBLIC)
def test_all_public_names_are_listed_once(package):
    public, listed = set(import_module(package).__all__), LISTED[package]
    modules = {name for name in public if f"{package}.{name}" in PUBLIC}
    elsewhere = set(LISTED["indiseek_sc"])  # IndiSeek and read, listed under their usual names
    assert set(listed) - public == set()
    assert public - modules - elsewhere - set(listed) == set()
    assert len(listed) == len(set(listed))


def test_the_top_level_is_listed():
    public = set(import_module("indiseek_sc").__all__)
    modules = {name for name in public if f"indiseek_sc.{name}" in PUBLIC}
    assert set(LISTED["indiseek_sc"]) == public - modules


def test_all_modules_with_tables_are_checked():
    assert set(LISTED) - {"indiseek_sc"} == set(PUBLIC)


def test_each_page_is_in_the_toctree():
    contents = re.search(r"```\{toctree\}\n(.*?)```", (DOCS / "api" / "index.md").read_text(), re.DOTALL)
    assert contents
    pages = {page.stem for page in (DOCS / "api").glob("*.md")} - {"index"}
    assert set(re.findall(r"^(\w+)$", contents[1], re.MULTILINE)) == pages
