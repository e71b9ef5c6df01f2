"""Other metadata files agree with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}
EXTRAS = {"leidenalg", "python-igraph"}
"""Requirements of ``scanpy[leiden]``, since conda packages have no extras."""


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("conda/recipe.yaml", r'^  version: "(\S+)"$'),
        ("meta.yaml", r"^version: (\S+)$"),
    ],
)
def test_versions_agree(file, pattern):
    if not (ROOT / file).is_file():  # meta.yaml is not part of the source distribution
        pytest.skip(f"{file} is not part of this distribution")
    assert re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE) == [PROJECT["version"]]


def test_the_conda_recipe_has_the_requirements_of_the_package():
    run = (ROOT / "conda" / "recipe.yaml").read_text().partition("  run:\n")[2].partition("\n\n")[0]
    listed = [Requirement(line.removeprefix("    - ")) for line in run.splitlines() if "python >=" not in line]
    recipe = {requirement.name: requirement.specifier for requirement in listed}
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        assert recipe.pop(name, None) == requirement.specifier, f"{name} in conda/recipe.yaml"
    assert set(recipe) == EXTRAS


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github" / "workflows").glob("*.yaml")), ids=lambda path: path.stem
)
def test_actions_are_pinned_by_commit(workflow):
    actions = re.findall(r"uses: (\S+)(.*)", workflow.read_text())
    assert actions
    for action, comment in actions:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{action} is not pinned by a commit"
        assert re.fullmatch(r" # v\d+(\.\d+)*", comment), f"{action}: add the version as a comment"
