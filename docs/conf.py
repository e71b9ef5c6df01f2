"""Configuration of the documentation site: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from datetime import datetime
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))

# -- Project ------------------------------------------------------------------

info = metadata("indiseek_sc")
project = info["Name"]
author = "The indiseek_sc developers"
project_copyright = f"{datetime.now():%Y}, {author}"
version = release = info["Version"]
urls = dict(entry.split(", ", 1) for entry in info.get_all("Project-URL") or [])
repository_url = urls.get("Source", "")

# -- Extensions ---------------------------------------------------------------

extensions = [
    "myst_nb",
    "prose_docstrings",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.katex",
]

needs_sphinx = "8.1"
nitpicky = True
default_role = "literal"
templates_path = ["_templates"]
exclude_patterns = ["_build", "jupyter_execute", "decisions/README.md", "**.ipynb_checkpoints"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}

autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = True
napoleon_use_ivar = True
always_use_bars_union = True
typehints_defaults = "braces"
typehints_document_rtype_none = False

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

myst_heading_anchors = 4
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_output_stderr = "remove"

# -- Appearance ---------------------------------------------------------------

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navbar_persistent": [],  # the search is in the side bar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    **({"repository_url": repository_url, "use_repository_button": True} if repository_url else {}),
}
pygments_style = "default"
katex_options = r'{output: "mathml"}'  # rendered by the browser, without external style sheets and fonts

# -- References to other projects ---------------------------------------------

INVENTORIES = {
    "anndata": "https://anndata.readthedocs.io/en/stable/",
    "lightning": "https://lightning.ai/docs/pytorch/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "mudata": "https://mudata.readthedocs.io/en/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "python": "https://docs.python.org/3/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "scvi-tools": "https://docs.scvi-tools.org/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}


def is_reachable(url: str) -> bool:
    """Return whether an inventory can be read; an unreachable one would be a warning."""
    request = urllib.request.Request(f"{url}objects.inv", method="HEAD", headers={"User-Agent": "sphinx"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


intersphinx_timeout = 15
# One request decides whether there is a network, so that a build without one does not wait for
# each project.
intersphinx_mapping = (
    {name: (url, None) for name, url in INVENTORIES.items() if is_reachable(url)}
    if is_reachable(INVENTORIES["python"])
    else {}
)

# Names that no inventory contains, or that are not resolved without a network.
nitpick_ignore_regex = [
    # Names in annotations of attributes, which autodoc does not resolve.
    (r"py:class", r"(np|pd)\..*|NDArray|Path|MuData|Tensor|Ellipsis"),
    (r"py:data", r"Ellipsis"),
    (r"py:.*", r"(anndata|collections|lightning|matplotlib|mudata|numpy|pandas|pathlib|scipy|scvi|torch|typing)\..*"),
    (r"py:.*", r"(sklearn|os|types|functools|enum|abc|jaxtyping)\..*"),
    (r"py:(class|exc|obj|data)", r"[A-Z]?[A-Za-z]*(Error|Warning)"),
    (r"py:(class|obj|data)", r"(bool|bytes|dict|float|int|list|None|object|range|set|str|tuple|type)"),
]
# Names of this package in signatures and docstrings that are not part of the API.
nitpick_ignore = [
    *(("py:class", alias) for alias in ("Cells", "Latent", "ModalityLatent", "OneModality", "Preset")),
    ("py:class", "indiseek_sc.metrics._refits.Estimates"),
    ("py:class", "indiseek_sc.module._module.IndiSeekModule"),
    ("py:class", "indiseek_sc.train._fit.StageFit"),
    ("py:class", "indiseek_sc.train._split.Split"),
    ("py:func", "indiseek_sc.data.fit_added_offset"),
    ("py:func", "indiseek_sc.data.fit_offsets"),
]

# -- Files outside this folder -------------------------------------------

TUTORIALS = HERE / "tutorials"
PLACES = {
    "benchmarks/RESULTS.md": "benchmarks",
    "CHANGELOG.md": "changelog",
    "CODE_OF_CONDUCT.md": "contributing/code_of_conduct",
    "CONTRIBUTING.md": "contributing/index",
    "data/README.md": "data",
    "docs/decisions/README.md": "decisions/index",
}
"""Files of the repository that pages of this site show, and these pages."""
SHOWN = {page: path for path, page in PLACES.items()}
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def copy_tutorials(app: Sphinx) -> None:
    """Copy the notebooks into this folder, where Sphinx finds pages."""
    shutil.rmtree(TUTORIALS, ignore_errors=True)
    TUTORIALS.mkdir()
    for notebook in (ROOT / "tutorials").glob("*.ipynb"):
        shutil.copy2(notebook, TUTORIALS)


def remove_old_pages(app: Sphinx) -> None:
    """Remove API pages of removed names, since a page outside every toctree is a warning."""
    for page in (HERE / "api" / "generated").glob("*.rst"):
        module, _, name = page.stem.rpartition(".")
        if not hasattr(import_module(module), name):
            page.unlink()


def show_file(app: Sphinx, docname: str, source: list[str]) -> None:
    """Insert the file that a page shows, so that its links are redirected as well."""
    if docname in SHOWN:
        file = ROOT / SHOWN[docname]
        app.env.note_dependency(str(file))
        source[0] = file.read_text(encoding="utf-8") + source[0]


def redirect_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Redirect links of the repository to pages of the site, or to files of the repository."""
    if docname.startswith("tutorials/"):
        place = ROOT / "tutorials"
    else:
        place = (ROOT / SHOWN.get(docname, f"docs/{docname}")).parent

    def redirect(match: re.Match[str]) -> str:
        file = (place / match[2]).resolve()
        if not file.is_relative_to(ROOT) or not file.is_file():
            return match[0]
        path = file.relative_to(ROOT).as_posix()
        if path in PLACES:
            target = f"/{PLACES[path]}.md"
        elif path.startswith("docs/"):
            target = path.removeprefix("docs")
        elif path.startswith("tutorials/"):
            target = f"/{path}"
        elif repository_url:
            target = f"{repository_url}/blob/main/{path}"
        else:
            target = f"path:{os.path.relpath(file, (HERE / docname).parent)}"
        return f"{match[1]}{target}{match[3]}"

    source[0] = LINK.sub(redirect, source[0])


def write_commands(app: Sphinx) -> None:
    """Write the page of the command line from the commands themselves."""
    import typer

    from indiseek_sc.cli import app as commands

    group = typer.main.get_command(commands)
    (HERE / "api" / "generated").mkdir(exist_ok=True)
    lines = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = typer.Context(command, info_name=f"indiseek-sc {name}")
        lines += [f"## `indiseek-sc {name}`", "", clean(command.help), ""]
        lines += ["```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
        for parameter in command.params:
            names = (*parameter.opts, *parameter.secondary_opts)
            if parameter.param_type_name == "argument":
                names = (parameter.metavar or parameter.name.upper(),)
            flags = ", ".join(f"`{name}`" for name in names)
            lines += [flags, f": {clean(getattr(parameter, 'help', None))}", ""]
    (HERE / "api" / "generated" / "commands.txt").write_text("\n".join(lines))


def clean(text: str | None) -> str:
    """Return a text of the command line without rich's markup, one line for each paragraph."""
    paragraphs = re.sub(r"\[/?bold\]", "**", text or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def setup(app: Sphinx) -> None:
    """Connect the steps that precede the reading of pages."""
    app.connect("builder-inited", copy_tutorials, priority=100)
    app.connect("builder-inited", remove_old_pages, priority=100)
    app.connect("builder-inited", write_commands, priority=100)
    app.connect("source-read", show_file, priority=400)
    app.connect("source-read", redirect_links)
