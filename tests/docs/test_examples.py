"""Examples in docstrings of what is public run and print what they say."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch

import indiseek_sc
from indiseek_sc import IndiSeek
from indiseek_sc.datasets import pbmc_covid

PACKAGES = ["baselines", "datasets", "datasets.synthetic", "io", "losses", "metrics", "model", "pl", "tl"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What examples take for granted: a trained ``model``, its ``mdata``, and the packages by their customary names."""
    mdata = pbmc_covid()[::10].copy()
    IndiSeek.setup_mudata(mdata, batch_key="batch")
    model = IndiSeek(mdata)
    model.train(max_epochs=2, held_out=range(0, mdata.n_obs, 5), enable_progress_bar=False)
    model.write_latents()
    model.write_refits(max_epochs=1, enable_progress_bar=False)
    return {
        "isk": indiseek_sc,
        "IndiSeek": IndiSeek,
        "np": np,
        "pd": pd,
        "sc": sc,
        "torch": torch,
        "mdata": mdata,
        "model": model,
    }


def find_examples(package: str) -> Iterator[doctest.DocTest]:
    """Examples of functions and classes that a package exports, and of their public methods."""
    module = import_module(f"indiseek_sc.{package}")
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield from finder.find(thing, name=f"{package}.{name}", module=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_examples(package: str, names: dict[str, Any], tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # files that examples write
    runner, told = doctest.DocTestRunner(optionflags=FLAGS, verbose=False), []
    for example in find_examples(package):
        example.globs = {**names, "mdata": names["mdata"].copy()}
        runner.run(example, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
