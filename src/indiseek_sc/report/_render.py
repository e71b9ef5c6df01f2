"""From facts and figures to a page, by Jinja."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from indiseek_sc.report._citations import Citations


@cache
def _environment() -> Environment:
    # Escaping is on for everything: names of modalities, labels and files are the user's.
    # A name that a template misspells is an error, and no hole in the page.
    environment = Environment(
        loader=PackageLoader("indiseek_sc.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["short"] = lambda number: f"{number:g}"
    environment.filters["rounded"] = lambda number: "not defined" if math.isnan(number) else f"{number:.3f}"
    return environment


def render(**content: Any) -> str:
    """The page.

    Parameters
    ----------
    **content
        What ``templates/report.html`` names.
    """
    return _environment().get_template("report.html").render(cite=Citations(), **content)
