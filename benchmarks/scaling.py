"""Measure time and memory by number of cells.

    python benchmarks/scaling.py pbmc_covid --cells 10000 100000 --audit --output scaling.csv
    python benchmarks/scaling.py synthetic --cells 10000 100000 1000000 --output scaling_synthetic.csv
    python benchmarks/scaling.py pbmc_covid --cells 6000 30000 300000 --accelerator gpu --output scaling_gpu.csv

``synthetic`` cells have known factors, 2,000 genes of which a tenth is detected per cell, as
compressed rows, and 200 proteins. From a real data set cells are drawn with replacement, and a
tenth of the molecules of each count is removed at random, so that no two cells are identical. A
fifth of the cells are held out. Each size is measured in a separate process on one thread; on a CPU
seconds are CPU time, which other load does not affect. ``gigabytes_beside`` is the peak memory
minus the memory of the values themselves; on a GPU ``gpu_gigabytes`` is the peak memory of the
device. ``shared representations`` is the time for the shared representations of RNA alone, which is
not part of the total. ``exponent`` is that of the growth of the total from one size to the next: 1
is linear.
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
"""Share of the molecules of a count that is kept."""

N_GENES, N_PROTEINS = 2_000, 200
N_FACTORS = 6
"""Number of factors of both modalities, and of each modality alone."""

AT_ONCE = 10_000
"""Number of cells that are generated at a time."""


def resample(name: str, n_cells: int) -> mudata.MuData:
    """Draw cells of a data set with replacement, and thin their counts."""
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


def synthesize(n_cells: int) -> mudata.MuData:
    """Generate Poisson counts whose log-rates are linear in the factors of a cell, in parts."""
    rng = np.random.default_rng(0)
    levels = {"rna": rng.normal(-2.9, 1, N_GENES), "adt": rng.normal(3, 1, N_PROTEINS)}
    loadings = {name: 0.35 * rng.normal(size=(2 * N_FACTORS, x.size)) for name, x in levels.items()}
    loadings["rna"] *= rng.random(loadings["rna"].shape) < 0.3
    proteins = np.empty((n_cells, N_PROTEINS), np.float32)
    # Elements beyond the last value are never written, so they take no memory.
    values, columns = (np.empty(n_cells * N_GENES // 5, dtype) for dtype in (np.float32, np.int32))
    ends = np.zeros(n_cells + 1, np.int32)
    for start in range(0, n_cells, AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, n_cells))
        shared, *own = rng.normal(size=(3, rows.stop - start, N_FACTORS))
        rates = {
            name: np.exp(levels[name] + np.hstack([shared, specific]) @ loadings[name])
            for name, specific in zip(levels, own, strict=True)
        }
        proteins[rows] = rng.poisson(rates["adt"])
        counts = csr_matrix(rng.poisson(rates["rna"]).astype(np.float32))
        first = int(ends[start])
        values[first : first + counts.nnz], columns[first : first + counts.nnz] = counts.data, counts.indices
        ends[start + 1 : rows.stop + 1] = first + counts.indptr[1:]
    rna = csr_matrix((values[: ends[-1]], columns[: ends[-1]], ends), shape=(n_cells, N_GENES))
    modalities = {"rna": AnnData(rna), "adt": AnnData(proteins)}
    for adata in modalities.values():
        adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    modalities["adt"].var_names = [f"protein{i}" for i in range(N_PROTEINS)]
    return mudata.MuData(modalities)


def count_bytes(mdata: mudata.MuData) -> int:
    """Return the memory of the values of all modalities in bytes."""
    arrays = []
    for adata in mdata.mod.values():
        x = adata.X
        arrays += [x] if isinstance(x, np.ndarray) else [x.data, x.indices, x.indptr]
    return sum(array.nbytes for array in arrays)


def measure(name: str, n_cells: int, accelerator: str, *, with_audit: bool) -> dict[str, float]:
    """Time each step at one size."""
    train_quietly()
    mdata = synthesize(n_cells) if name == "synthetic" else resample(name, n_cells)
    clock = time.process_time if accelerator == "cpu" else time.perf_counter
    seconds, start = {}, clock()

    def record(step: str) -> None:
        nonlocal start
        seconds[step], start = clock() - start, clock()

    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    record("set-up")
    options = {"accelerator": accelerator, "enable_progress_bar": False}
    model.train(stages=("shared",), held_out=np.arange(0, n_cells, 5), **options)
    record("shared")
    model.train(stages=("specific",), **options)
    record("specific")
    model.write_latents()
    record("representations")
    if with_audit:
        model.audit()
        record("audit")
    total = sum(seconds.values())
    model.get_latent_representation(kind="shared", modality="rna")
    record("shared representations")
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    memory = {"gigabytes": gigabytes, "gigabytes_beside": gigabytes - count_bytes(mdata) / 2**30}
    if model.device.type == "cuda":
        memory["gpu_gigabytes"] = torch.cuda.max_memory_allocated(model.device) / 2**30
    return {"n_cells": n_cells, "device": model.device.type, **seconds, "total": total, **memory}


def main() -> None:
    """Read the command line, measure each size, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--cells", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--audit", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("scaling.csv"))
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    for n_cells in arguments.cells:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            given = (arguments.data, n_cells, arguments.accelerator)
            rows.append(pool.apply(measure, given, {"with_audit": arguments.audit}))
        table = pd.DataFrame(rows)
        table["exponent"] = np.log(table["total"]).diff() / np.log(table["n_cells"]).diff()
        table.to_csv(arguments.output, index=False)
        print(table.round(2).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
