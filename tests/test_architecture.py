"""Imports between packages follow the layers of the architecture."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import indiseek_sc

PACKAGE = Path(indiseek_sc.__file__).parent

NAMES = {"_checks", "_keys", "_recognise", "_text"}
"""Modules that every layer may import: keys, checks and error messages."""

MAY_IMPORT: dict[str, set[str]] = {
    "nn": {"_settings"} | NAMES,
    "losses": {"nn"},
    "module": {"losses", "nn"} | NAMES,
    "train": {"module", "nn"} | NAMES,
    "data": {"nn", "_lookup", "_settings"} | NAMES,
    "datasets": {"_accessor"} | NAMES,
    "io": {"_accessor"} | NAMES,
    "metrics": {"_checks", "_settings"},
    "report": {"metrics", "pl", "tl", "_fingerprint", "_lookup"} | NAMES,
    "model": {"data", "losses", "metrics", "module", "nn", "report", "train"}
    | {"_accessor", "_fingerprint", "_lookup", "_settings"}
    | NAMES,
    "baselines": {"losses", "model", "module", "nn", "train"} | NAMES,
    "pl": {"_fingerprint", "_lookup"} | NAMES,
    "tl": {"_accessor", "metrics", "_fingerprint", "_lookup"} | NAMES,
    "cli": {"IndiSeek", "datasets", "io", "metrics", "model", "pl", "report", "tl", "_fingerprint", "_lookup"} | NAMES,
    "_accessor": {"_checks", "_keys", "_lookup"},
    "_checks": {"_text"},
    "_fingerprint": {"_lookup"},
    "_keys": set(),
    "_lookup": {"_text"},
    "_recognise": {"_keys", "_text"},
    "_settings": {"_checks", "_text"},
    "_text": set(),
}
"""Packages that a package may import, including imports in functions and for types."""

FOREIGN = {
    "nn": {"pyro", "torch"},
    "losses": {"torch"},
    "metrics": {"numba", "numpy", "pandas", "scipy", "sklearn", "threadpoolctl", "torch"},
    "pl": {"matplotlib", "numpy", "pandas", "mudata"},
    "report": {"PIL", "jinja2", "matplotlib", "mudata", "numpy", "pandas", "session_info2"},
}
"""Libraries that a package may import, if restricted."""


def find_imports(file: Path, package: Path) -> Iterator[str]:
    """Yield dotted names of all imports in a file, with relative imports resolved."""
    parent = [package.name, *file.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parent[: len(parent) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source == package.name:  # from indiseek_sc import metrics, pl
                yield from (f"{source}.{alias.name}" for alias in node.names)
            else:
                yield from (source if alias.name == "*" else f"{source}.{alias.name}" for alias in node.names)


def layer_of(file: Path, package: Path) -> str:
    """Return the top-level folder of a file within the package, or the name of the file."""
    return file.relative_to(package).parts[0].removesuffix(".py")


def find_wrong_imports(package: Path) -> list[str]:
    wrong = []
    for file in sorted(package.rglob("*.py")):
        layer = layer_of(file, package)
        if layer == "__init__":
            continue
        for name in find_imports(file, package):
            top, _, rest = name.partition(".")
            if top == package.name:
                target = rest.split(".")[0]
                is_wrong = target != layer and target not in MAY_IMPORT[layer]
            else:
                is_wrong = layer in FOREIGN and top not in FOREIGN[layer] | sys.stdlib_module_names
            if is_wrong:
                wrong.append(f"{file.relative_to(package)} imports {name}")
    return wrong


def test_imports_follow_the_layers():
    assert find_wrong_imports(PACKAGE) == []


def test_layers_have_no_cycle():
    left = {layer: set(below) for layer, below in MAY_IMPORT.items()}
    while free := [layer for layer, below in left.items() if not below & set(left)]:
        for layer in free:
            del left[layer]
    assert not left


def test_every_package_has_a_layer():
    parts = {layer_of(file, PACKAGE) for file in PACKAGE.rglob("*.py")} - {"__init__"}
    assert parts <= set(MAY_IMPORT)


def test_only_the_model_imports_both_mudata_and_torch():
    both = set()
    for file in PACKAGE.rglob("*.py"):
        libraries = {name.split(".")[0] for name in find_imports(file, PACKAGE)}
        if {"mudata", "torch"} <= libraries:
            both.add(layer_of(file, PACKAGE))
    assert both <= {"model"}


def test_no_private_names_of_scvi_tools():
    private = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in PACKAGE.rglob("*.py")
        for name in find_imports(file, PACKAGE)
        if name.split(".")[0] == "scvi" and any(part.startswith("_") for part in name.split("."))
    ]
    assert private == []


def test_no_private_names_of_other_packages():
    """Packages import only public names of other packages, and top-level modules."""
    private = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in PACKAGE.rglob("*.py")
        for name in find_imports(file, PACKAGE)
        if (parts := name.split("."))[0] == PACKAGE.name and parts[1:2] != [layer_of(file, PACKAGE)]
        if any(part.startswith("_") for part in parts[2:])
    ]
    assert private == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("nn/_a.py", "from indiseek_sc.losses import info_nce"),
        ("nn/_a.py", "import indiseek_sc.module._module"),
        ("losses/_a.py", "from indiseek_sc import train"),
        ("losses/_a.py", "from indiseek_sc._keys import ROLES"),
        ("losses/_a.py", "import scvi"),
        ("module/_a.py", "if TYPE_CHECKING:\n    from indiseek_sc.train import Split"),
        ("train/_a.py", "def f():\n    from indiseek_sc.losses import info_nce"),
        ("train/_a.py", "from ..model import IndiSeek"),
        ("train/_a.py", "from .. import model"),
        ("train/_a.py", "from indiseek_sc.model import *"),
        ("metrics/_a.py", "from mudata import MuData"),
        ("pl/_a.py", "from indiseek_sc.metrics import audit"),
        ("pl/_a.py", "import sklearn.metrics"),
        ("tl/_a.py", "from indiseek_sc import IndiSeek"),
        ("report/_a.py", "from indiseek_sc.model import IndiSeek"),
        ("report/_a.py", "import torch"),
        ("_keys.py", "from indiseek_sc.module import Settings"),
    ],
)
def test_invalid_imports_are_detected(tmp_path, file, line):
    path = tmp_path / "indiseek_sc" / file
    path.parent.mkdir(parents=True)
    path.write_text(f"from __future__ import annotations\n{line}\n")
    assert len(find_wrong_imports(tmp_path / "indiseek_sc")) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("losses/_a.py", "import math\nfrom torch import nn\nfrom indiseek_sc.nn import make_mlp"),
        ("train/_a.py", "from ._b import x\nfrom indiseek_sc.train._c import y\nfrom indiseek_sc import _keys"),
        ("__init__.py", "from indiseek_sc import tl\nfrom indiseek_sc.model import IndiSeek"),
    ],
)
def test_valid_imports_are_accepted(tmp_path, file, line):
    path = tmp_path / "indiseek_sc" / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert find_wrong_imports(tmp_path / "indiseek_sc") == []
