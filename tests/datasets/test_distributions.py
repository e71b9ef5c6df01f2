from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(target: str, project: Path, destination: Path) -> Path:
    """Build the wheel or the sdist of ``project`` without network access."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(destination)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = destination.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    with tarfile.open(build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))) as archive:
        folder = tmp_path_factory.mktemp("unpacked")
        # The filter exists, and is recommended, since Python 3.11.4.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return next(folder.iterdir())


@pytest.fixture(scope="module", params=["checkout", "sdist"])
def installed(request, sdist, tmp_path_factory) -> Path:
    """Return a folder with the contents of a wheel, built from the checkout and from the sdist."""
    project = ROOT if request.param == "checkout" else sdist
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(build("wheel", project, tmp_path_factory.mktemp("wheel"))) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_contains_the_data(installed):
    # Importing the package would import that of the checkout, so the module is loaded by its path.
    spec = spec_from_file_location("installed_bundled", installed / "indiseek_sc" / "datasets" / "_bundled.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._find(module._FOLDERS).is_relative_to(installed)
    assert module.pbmc_covid().shape == (6000, 1192)


def test_wheel_is_typed_and_contains_both_licences(installed):
    assert (installed / "indiseek_sc" / "py.typed").is_file()
    assert {path.name for path in installed.glob("*.dist-info/licenses/**/*")} >= {"LICENSE", "LICENSE.m3-sc"}
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"indiseek_sc"}


def test_sdist_excludes_outputs_of_tutorials(sdist):
    tutorials = sdist / "tutorials"
    assert {path.suffix for path in tutorials.rglob("*") if path.is_file()} <= {".ipynb"}
    assert (sdist / "data" / "pbmc_covid.h5mu").is_file()
