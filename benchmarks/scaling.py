"""Seconds and memory by number of cells: set-up, both stages, codes and audit.

    python benchmarks/scaling.py pbmc_covid --cells 10000 100000 --output scaling.csv
    python benchmarks/scaling.py pbmc_covid --cells 6000 30000 300000 --accelerator gpu --output scaling_gpu.csv

Cells are drawn with replacement from a real set, and of each count a tenth of the molecules is lost at random, so that no two cells are alike: synthetic in
number, real in kind. A fifth is held out. Each size has a process of its own, on one thread, whose largest memory is read at its end; the data themselves are part of it.
On a GPU ``gpu_gigabytes`` is the largest memory of the device.
``per_cell`` is seconds for each cell, over those of the smallest size: 1 is linear.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import torch
from _quiet import train_quietly
from anndata import AnnData
from main_job import read
from scipy.sparse import csr_matrix

from indiseek_sc import IndiSeek

KEPT = 0.9
"""Share of the molecules of a count that are kept."""


def resample(name: str, n_cells: int) -> mudata.MuData:
    """Draw cells of a data set, and thin their counts."""
    few, rng = read(name), np.random.default_rng(0)
    rows = rng.integers(few.n_obs, size=n_cells)
    modalities = {}
    for modality in ("rna", "adt"):
        counts = csr_matrix(few[modality].X)[rows]
        counts.data = rng.binomial(counts.data.astype(np.int64), KEPT).astype(np.float32)
        counts.eliminate_zeros()
        modalities[modality] = AnnData(counts, var=few[modality].var[[]])
        modalities[modality].obs_names = [f"cell{i}" for i in range(n_cells)]
    return mudata.MuData(modalities)


def measure(name: str, n_cells: int, accelerator: str) -> dict[str, float]:
    """Time each step at one size."""
    train_quietly()
    mdata = resample(name, n_cells)
    seconds, start = {}, time.perf_counter()

    def note(step: str) -> None:
        nonlocal start
        seconds[step], start = time.perf_counter() - start, time.perf_counter()

    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    note("set-up")
    options = {"accelerator": accelerator, "enable_progress_bar": False}
    model.train(stages=("shared",), held_out=np.arange(0, n_cells, 5), **options)
    note("shared")
    model.train(stages=("specific",), **options)
    note("specific")
    model.write_latents()
    note("codes")
    model.audit()
    note("audit")
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    memory = {"gigabytes": gigabytes}
    if model.device.type == "cuda":
        memory["gpu_gigabytes"] = torch.cuda.max_memory_allocated(model.device) / 2**30
    return {"n_cells": n_cells, "device": model.device.type, **seconds, "total": sum(seconds.values()), **memory}


def main() -> None:
    """Read the command line, measure each size, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--cells", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("scaling.csv"))
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    for n_cells in arguments.cells:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (arguments.data, n_cells, arguments.accelerator)))
        table = pd.DataFrame(rows)
        table["per_cell"] = table["total"] / table["n_cells"] / (table["total"] / table["n_cells"]).iloc[0]
        table.to_csv(arguments.output, index=False)
        print(table.round(2).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
