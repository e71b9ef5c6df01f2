"""Examples in public docstrings run and print the expected output."""

from __future__ import annotations

import doctest
import inspect
import logging
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

from .packages import DOCUMENTED

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Return the names used in examples: a trained ``model``, its ``mdata``, and packages."""
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
    """Yield the examples of exported functions and classes, and of their public methods."""
    module = import_module(package)
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield from finder.find(thing, name=f"{package}.{name}", module=False)


@pytest.mark.parametrize("package", DOCUMENTED)
def test_examples_print_the_expected_output(package: str, names: dict[str, Any], tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)  # for files that examples write
    caplog.set_level(logging.ERROR, logger="scvi")  # log messages would be part of the output
    runner, output = doctest.DocTestRunner(optionflags=FLAGS, verbose=False), []
    for example in find_examples(package):
        example.globs = {**names, "mdata": names["mdata"].copy()}
        torch.manual_seed(0)  # an example should not depend on those before it
        runner.run(example, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)
