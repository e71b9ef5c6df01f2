"""Measure the time of training, other methods, plain PyTorch loops, imports, help and demo.

    python benchmarks/speed.py --output speed.csv
    python benchmarks/speed.py --data DATA.h5mu --totalvi-epochs 5 --threads 2 --output speed.csv

The table contains the median of three repeats, with the lowest and highest value, of

- ``train``: ``IndiSeek.train()`` on the bundled data, by stage, and the time outside of the stages;
- ``few cells``: the same with 617 training cells;
- ``others``: ``IndiSeek.train()`` on half of a data set (h5mu with counts in ``rna`` and ``adt``),
  TOTALVI and MOFA+ on the same cells, genes and proteins. TOTALVI has default settings; with
  ``--totalvi-epochs`` it is trained for this number of epochs and its time is extrapolated to the
  default number, before which it may stop early. MOFA+ has 15 factors and
  ``convergence_mode="fast"``, on log-normalised counts of genes and log-ratios of proteins; it
  requires ``pip install mofapy2`` and is omitted otherwise;
- ``steps``: a step of each stage relative to the same step in a plain loop with the same losses,
  optimisers and batches: ``fit / bare`` relative to training steps alone, ``fit / validated``
  relative to a loop with validation;
- ``threads``: ``IndiSeek.train()`` on the bundled data with one thread and with ``--threads``;
- ``import``: processes that only import the package, print the help, or import scvi-tools;
- ``demo``: ``indiseek-sc demo``, by step.

Each part runs in a separate process, on ``--threads`` threads. Seconds are wall-clock time: run it
without other load.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from _bare_loops import timed_stages
from main_job import read

from indiseek_sc import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mudata import MuData

Row = dict[str, Any]

N_FEW = 767
"""617 training and 150 validation cells."""

PARTS = ("train", "few cells", "others", "steps", "threads", "import", "demo")

THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")


def summarize(part: str, what: str, values: Iterable[float], unit: str = "s", note: str = "") -> Row:
    """Return a row of the table."""
    values = list(values)
    found = {"median": np.median(values), "lowest": min(values), "highest": max(values)}
    return {"part": part, "what": what, **found, "unit": unit, "n": len(values), "note": note}


def draw(mdata: MuData, n_cells: int) -> MuData:
    """Return randomly drawn cells, always the same."""
    return mdata[np.sort(np.random.default_rng(0).permutation(mdata.n_obs)[:n_cells])].copy()


def time_training(mdata: MuData, accelerator: str, n_threads: int = 1) -> tuple[float, Any, IndiSeek]:
    """Train once, and return the time, the outcome and the model."""
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata)
    start = time.perf_counter()
    outcome = model.train(accelerator=accelerator, n_threads=n_threads, enable_progress_bar=False)
    return time.perf_counter() - start, outcome, model


def measure_training(part: str, n_cells: int | None, accelerator: str, n_repeats: int) -> list[Row]:
    """Time the training on the bundled data by stage."""
    mdata = read("pbmc_covid")
    mdata = mdata if n_cells is None else draw(mdata, n_cells)
    seconds, outcomes = [], []
    for _ in range(n_repeats):
        took, outcome, model = time_training(mdata, accelerator)
        seconds.append(took)
        outcomes.append(outcome)
    rows = [summarize(part, "train()", seconds, note=f"{model.split.train.size} training cells")]
    for fits in zip(*(outcome.fits for outcome in outcomes), strict=True):
        rows.append(summarize(part, fits[0].stage, (f.seconds for f in fits), note=f"{fits[0].n_epochs} epochs"))
    outside = (total - outcome.seconds for total, outcome in zip(seconds, outcomes, strict=True))
    return [*rows, summarize(part, "outside of stages", outside)]


def measure_others(
    data: str, n_cells: int | None, epochs: int | None, accelerator: str, n_repeats: int, n_others: int
) -> list[Row]:
    """Time training on ``n_cells`` or half of a data set, for IndiSeek and other methods."""
    mdata = read(data, most=sys.maxsize)
    mdata = draw(mdata, mdata.n_obs // 2 if n_cells is None else n_cells)
    own = [time_training(mdata, accelerator, torch.get_num_threads()) for _ in range(n_repeats)]
    seconds, model = [took for took, *_ in own], own[-1][-1]
    rows = [summarize("others", "IndiSeek", seconds, note=f"{mdata.n_obs} cells of {Path(data).stem}")]
    for name, run in {
        "TOTALVI": partial(time_totalvi, epochs=epochs, accelerator=accelerator),
        "MOFA+": time_mofa,
    }.items():
        took, note = zip(*(run(mdata, model) for _ in range(n_others)), strict=True)
        if took[0] is None:
            print(f"{name} is omitted: {note[0]}", flush=True)
            continue
        rows.append(summarize("others", name, took, note=note[0]))
        ratios = (other / np.median(seconds) for other in took)
        rows.append(summarize("others", f"{name} / IndiSeek", ratios, unit="ratio"))
    return rows


def time_totalvi(mdata: MuData, model: IndiSeek, *, epochs: int | None, accelerator: str) -> tuple[float, str]:
    """Train TOTALVI on the same genes and proteins, and return the time of its default training."""
    import _totalvi
    from scvi.model._utils import get_max_epochs_heuristic

    cells = _totalvi.as_cells(mdata, model)
    other = _totalvi.build(cells, seed=0)
    start = time.perf_counter()
    other.train(max_epochs=epochs, accelerator=accelerator, enable_progress_bar=False)
    seconds, size = time.perf_counter() - start, f"{cells.n_vars} genes, {cells.obsm['proteins'].shape[1]} proteins"
    if epochs is None:
        return seconds, f"{size}, {len(other.history['elbo_train'])} epochs"
    default = get_max_epochs_heuristic(mdata.n_obs)
    return seconds * default / epochs, f"{size}, extrapolated from {epochs} of {default} epochs; it may stop earlier"


def time_mofa(mdata: MuData, model: IndiSeek) -> tuple[float | None, str]:
    """Fit MOFA+ to the same genes and proteins."""
    if importlib.util.find_spec("mofapy2") is None:
        return None, "mofapy2 is not installed."
    import _mofa

    rna, adt = _mofa.as_views(mdata, model)
    start = time.perf_counter()
    _mofa.fit([rna, adt])
    return time.perf_counter() - start, f"{_mofa.N_FACTORS} factors, {rna.shape[1]} genes, {adt.shape[1]} proteins"


def measure_steps(accelerator: str, n_epochs: int, n_repeats: int) -> list[Row]:
    """Time the steps of each stage, and those of plain loops."""
    with timed_stages(n_epochs, n_repeats) as stages:
        time_training(read("pbmc_covid"), accelerator)
    rows = []
    for stage, times in stages.items():
        rows.append(summarize("steps", f"{stage}, fit", (1e3 * x for x in times.fit), "ms"))
        for loop in ("validated", "bare"):
            ratios = (x / y for x, y in zip(times.fit, getattr(times, loop), strict=True))
            rows.append(summarize("steps", f"{stage}, fit / {loop}", ratios, "ratio"))
    return rows


def measure_threads(n_threads: int, accelerator: str, n_repeats: int) -> list[Row]:
    """Time training with one thread and with several."""
    mdata, seconds = read("pbmc_covid"), {}
    for n in sorted({1, n_threads}):
        seconds[n] = [time_training(mdata, accelerator, n)[0] for _ in range(n_repeats)]
    rows = [summarize("threads", f"train(n_threads={n})", took) for n, took in seconds.items()]
    ratios = (several / one for several, one in zip(seconds[n_threads], seconds[1], strict=True))
    return [*rows, summarize("threads", f"{n_threads} threads / 1 thread", ratios, "ratio")]


def time_process(*command: str) -> float:
    """Return the run time of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def measure_imports(n_repeats: int) -> list[Row]:
    """Time processes that import packages or print the help."""
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "import indiseek_sc": (sys.executable, "-c", "import indiseek_sc"),
        "from indiseek_sc import IndiSeek": (sys.executable, "-c", "from indiseek_sc import IndiSeek"),
        "indiseek-sc --help": (find_command(), "--help"),
        "import scvi": (sys.executable, "-c", "import scvi"),
    }
    for command in commands.values():
        time_process(*command)  # fills the disk cache
    seconds = {what: [time_process(*command) for _ in range(n_repeats)] for what, command in commands.items()}
    rows = [summarize("import", what, took) for what, took in seconds.items()]
    for what in ("import indiseek_sc", "indiseek-sc --help"):
        ratios = (own / other for own, other in zip(seconds[what], seconds["import scvi"], strict=True))
        rows.append(summarize("import", f"{what} / import scvi", ratios, "ratio"))
    return rows


def find_command() -> str:
    """Return the path of ``indiseek-sc``, beside the interpreter."""
    return str(Path(sys.executable).parent / "indiseek-sc")


def measure_demo(accelerator: str, n_repeats: int) -> list[Row]:
    """Time the demo in total and by step."""
    seconds, steps = [], []
    for _ in range(n_repeats):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "demo"
            seconds.append(time_process(find_command(), "demo", str(output), "--accelerator", accelerator))
            steps.append(json.loads((output / "summary.json").read_text())["seconds"])
    rows = [summarize("demo", "total", seconds)]
    rows += [summarize("demo", step, (of_run[step] for of_run in steps)) for step in steps[0]]
    rest = (total - sum(of_run.values()) for total, of_run in zip(seconds, steps, strict=True))
    return [*rows, summarize("demo", "report, and time outside of the steps", rest)]


def run_part(measure: Callable[[], list[Row]], n_threads: int) -> list[Row]:
    """Run a measurement without log messages and warnings."""
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(n_threads)
    return measure()


def main() -> None:
    """Read the command line, measure part by part, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="h5mu for the comparison with other methods")
    parser.add_argument("--cells", type=int, help="number of its cells, instead of half of them")
    parser.add_argument("--totalvi-epochs", type=int)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each stage for the timing of steps")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--other-repeats", type=int, help="repeats of the other methods, if different")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--parts", nargs="+", default=PARTS)
    parser.add_argument("--output", type=Path, default=Path("speed.csv"))
    a = parser.parse_args()
    os.environ.update({f"{library}_NUM_THREADS": str(a.threads) for library in THREADS})
    parts: dict[str, Callable[[], list[Row]]] = {
        "train": partial(measure_training, "train", None, a.accelerator, a.repeats),
        "few cells": partial(measure_training, "few cells", N_FEW, a.accelerator, a.repeats),
        "others": partial(
            measure_others, a.data, a.cells, a.totalvi_epochs, a.accelerator, a.repeats, a.other_repeats or a.repeats
        ),
        "steps": partial(measure_steps, a.accelerator, a.epochs, a.repeats),
        "threads": partial(measure_threads, a.threads, a.accelerator, a.repeats),
        "import": partial(measure_imports, a.repeats),
        "demo": partial(measure_demo, a.accelerator, a.repeats),
    }
    rows: list[Row] = []
    for part in a.parts:
        if part == "others" and a.data is None:
            print("others is omitted: there is no --data.", flush=True)
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(run_part, (parts[part], a.threads))
        table = pd.DataFrame(rows).assign(threads=a.threads, accelerator=a.accelerator)
        table.to_csv(a.output, index=False)
        print(table[table["part"] == part].round(3).to_string(index=False), "\n", flush=True)


if __name__ == "__main__":
    main()
