"""Let Sphinx read docstrings whose types are in signatures only.

napoleon expects a type in each section "Returns" and before a colon in the docstrings of
attributes. Here both are prose."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sphinx.pycode import ModuleAnalyzer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

VALUES = {"attribute", "data", "property"}
SECTION = re.compile(r"-{3,}\s*$")

_originals: dict[str, list[str]] = {}


def find_section(lines: list[str], title: str) -> tuple[int, int] | None:
    """Return the first line of a section's body and the first one after it; None without it."""
    headings = [i for i in range(len(lines) - 1) if lines[i].strip() and SECTION.match(lines[i + 1])]
    for place, i in enumerate(headings):
        if lines[i].strip() == title:
            return i + 2, headings[place + 1] if place + 1 < len(headings) else len(lines)
    return None


def find_value_docstring(name: str) -> list[str]:
    """Return the docstring below an assignment in the package that exports the value."""
    package, _, attribute = name.rpartition(".")
    for module in pkgutil.iter_modules(getattr(import_module(package), "__path__", [])):
        docs = ModuleAnalyzer.for_module(f"{package}.{module.name}").find_attr_docs()
        if ("", attribute) in docs:
            return docs["", attribute]
    return []


def before_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Convert prose in "Returns" to a field, and shared descriptions to one entry for each name."""
    if what == "data":
        lines[:] = find_value_docstring(name)
    if what in VALUES:
        _originals[name] = list(lines)
        return
    if (section := find_section(lines, "Attributes")) is not None:
        lines[slice(*section)] = split_names(lines[slice(*section)])
    if (section := find_section(lines, "Returns")) is None:
        return
    start, end = section
    body = lines[start:end]
    while body and not body[-1].strip():
        body.pop()
    if any(line.startswith(" ") for line in body):  # names or types with descriptions below them
        return
    field = [f":returns: {body[0]}", *(f"    {line}" if line else "" for line in body[1:])]
    lines[start - 2 : end] = ["", "", *field, ""]  # two empty lines end the section before it


def split_names(lines: list[str]) -> list[str]:
    """Return entries in which each of ``a, b`` has the description of both."""
    entries: list[list[str]] = []
    for line in lines:
        if line and not line.startswith(" "):
            entries.append([line])
        elif entries:
            entries[-1].append(line)
    return [line for entry in entries for name in entry[0].split(", ") for line in (name, *entry[1:])]


def after_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Restore the docstrings of values."""
    if what in VALUES and name in _originals:
        lines[:] = _originals.pop(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both functions around napoleon, whose priority is 500."""
    app.setup_extension("sphinx.ext.napoleon")
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    return {"parallel_read_safe": True}
