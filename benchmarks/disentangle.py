"""Compare IndiSeek with baselines and ablations on several data sets and seeds.

    python benchmarks/disentangle.py pbmc10k.h5mu teaseq.h5mu liu2021_covid.h5mu S1 S2 S3 S4 S5 S6 --seeds 5 --jobs 2
    python benchmarks/disentangle.py --quick
    python benchmarks/disentangle.py --output disentangle --report

Data are h5mu files with counts in modalities ``rna`` and ``adt`` (or ``atac``), ``pbmc_covid``
(bundled), and ``S1`` to ``S6`` of the synthetic suite. Half of the cells are held out. IndiSeek has
its default lambda; nothing is chosen for it. For each baseline lambda is chosen from its own list:
from the largest on, models are trained and evaluated on validation cells, until the leak ratio of
one is within .02; if there is none, the one with the smallest leak is used. No label is read. The
literal recipe has lambda 10 and 150 epochs per stage instead of 2,000. The evaluation on the
held-out cells is by ``model.audit()``, or by ``audit`` of another program (``--auditor FILE.py``).

Methods with the same stage 1, and the same start of the specific representations, train it once for
each data set and seed, so that ablations differ only in what they omit, not in random numbers.
``seconds`` include shared stages for each method. No figure depends on which runs were made before.
S3 has the cells of S1 (it differs by given shared representations, which are not used here), so
both have the same figures.

The output folder contains ``table.csv`` (one row per run), ``paths.csv`` (the lambda paths) and
figures. Runs that are in the table are not repeated, so the same command continues an interrupted
benchmark. For data with labels, the table includes the rank correlation of theta with WNN weights
and their source (``wnn_source``): those in ``obs`` (``RNA.weight``, ``rna:mod_weight``,
``rna:wnn_weight``), otherwise computed from principal components of the model's features. Labels
are read for this only.
"""

from __future__ import annotations

import argparse
import os
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from _disentangle_families import LEADERS
from _disentangle_figures import draw_all
from _disentangle_pool import run_all
from _disentangle_report import report
from _disentangle_runs import TWINS, Job, Options, estimate_seconds, run
from tqdm import tqdm

from indiseek_sc.baselines import METHODS
from indiseek_sc.datasets import synthetic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYNTHETIC_METHODS = ("indiseek", "no_critics", "intra_modal", "clip")

FULL: dict[str, Any] = {
    "data": ["pbmc_covid", *synthetic.NAMES],
    "methods": list(METHODS),
    "synthetic_methods": list(SYNTHETIC_METHODS),
    "seeds": 5,
    "max_cells": 3000,
    "synthetic_cells": 4000,
    "n_lambdas": 3,
    "max_epochs": None,
    "output": Path("disentangle"),
}
QUICK: dict[str, Any] = {
    "data": ["pbmc_covid", "S1"],
    "methods": ["indiseek", "clip", "no_critics"],
    "synthetic_methods": ["indiseek", "clip", "no_critics"],
    "seeds": 1,
    "max_cells": 400,
    "synthetic_cells": 600,
    "n_lambdas": 2,
    "max_epochs": 5,
    "output": Path("disentangle_quick"),
}


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; ``--quick`` changes the defaults to those of a quick run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="files, pbmc_covid, S1 to S6")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument(
        "--synthetic-methods", nargs="+", choices=METHODS, metavar="METHOD", help="those run on S1 to S6"
    )
    parser.add_argument("--seeds", type=int, help="number of seeds, from 0")
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs, each on one core")
    parser.add_argument(
        "--max-cells", type=int, help="largest number of cells of a real data set; half of them are held out"
    )
    parser.add_argument("--synthetic-cells", type=int, help="cells of a synthetic data set")
    parser.add_argument("--n-lambdas", type=int, help="number of lambdas to choose from for each baseline")
    parser.add_argument("--max-epochs", type=int, help="limit for every stage, for quick runs")
    parser.add_argument("--auditor", type=Path, help="file whose audit() replaces ours")
    parser.add_argument("--output", type=Path, help="folder")
    parser.add_argument("--quick", action="store_true", help="run for minutes: few cells, methods and epochs")
    parser.add_argument(
        "--report", action="store_true", help="run nothing; print the table as Markdown, and draw the figures"
    )
    arguments = parser.parse_args(words)
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) in (None, []):
            setattr(arguments, name, value)
    return arguments


def list_jobs(arguments: argparse.Namespace) -> list[Job]:
    """List all requested runs, seed by seed, so that early seeds cover all data and methods."""
    methods = dict.fromkeys(arguments.data, arguments.methods)
    methods |= {data: arguments.synthetic_methods for data in arguments.data if data in synthetic.NAMES}
    return [Job(data, method, seed) for seed in range(arguments.seeds) for data in methods for method in methods[data]]


def group_jobs(expected: Mapping[Job, float]) -> list[list[Job]]:
    """Group the runs of a data set and seed, leaders first, and the longest group of a seed first.

    Shared stages are thus trained once, and no worker starts a long group last.
    """

    def place(job: Job) -> tuple[int, str]:
        return job.seed, TWINS.get(job.data, job.data)

    groups = [list(jobs) for _, jobs in groupby(sorted(expected, key=place), key=place)]
    groups.sort(key=lambda jobs: (jobs[0].seed, -sum(expected[job] for job in jobs)))
    return [sorted(jobs, key=lambda job: job.method in LEADERS) for jobs in groups]


def read_table(file: Path) -> pd.DataFrame:
    """Read a table; it is empty before the first run."""
    return pd.read_csv(file) if file.is_file() else pd.DataFrame()


def append(file: Path, rows: pd.DataFrame, key: list[str]) -> None:
    """Add rows and replace those of the same ``key``, atomically."""
    records = [*read_table(file).to_dict("records"), *rows.to_dict("records")]  # columns may differ, or be empty
    table = pd.DataFrame(records).drop_duplicates(key, keep="last")
    beside = file.with_suffix(".tmp")
    table.to_csv(beside, index=False)
    os.replace(beside, file)


def find_open(jobs: Sequence[Job], table: pd.DataFrame, options: Options) -> list[Job]:
    """Return runs that are not in the table yet.

    Raises
    ------
    ValueError
        If the table has other settings, so that new rows would not be comparable.
    """
    if table.empty:
        return list(jobs)
    if other := set(table["settings"]) - {str(options)}:
        raise ValueError(
            f"--output has rows of other settings ({'; '.join(other)}), not {options}. Name another folder."
        )
    done = set(table[list(Job._fields)].itertuples(index=False, name=None))
    return [job for job in jobs if job.key not in done]


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, run and draw; return 1 if a run failed."""
    arguments = read_arguments(words)
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    table = output / "table.csv"
    failed = 0
    if not arguments.report:
        options = Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__})
        failed = fill(table, list_jobs(arguments), options, arguments.jobs)
    figures = read_table(table)
    if figures.empty:
        print(f"There is no finished run in {output}.", file=sys.stderr)
        return 1
    draw_all(figures, output)
    print(report(figures))
    return int(failed > 0)


def fill(file: Path, jobs: Sequence[Job], options: Options, n_jobs: int) -> int:
    """Run what the table lacks; return the number of failed runs."""
    jobs = find_open(jobs, read_table(file), options)
    expected = {job: round(estimate_seconds(job, options)) for job in jobs}
    expected |= {job: 0 for job in jobs if job.data in TWINS and job._replace(data=TWINS[job.data]) in expected}
    total = sum(expected.values())
    print(f"{len(jobs)} runs, about {total / 60 / n_jobs:.0f} minutes with {n_jobs} in parallel.", flush=True)
    failed = 0
    # Runs differ tenfold in length, so the bar counts expected seconds.
    shape = "{percentage:3.0f} %|{bar}| {elapsed}, {remaining} left{postfix}"
    with tqdm(total=total, bar_format=shape, disable=not jobs) as bar:
        for job, result in run_all(run, group_jobs(expected), options, n_jobs):
            if isinstance(result, Exception):
                failed += 1
                bar.write(f"FAILED {' '.join(map(str, job.key))}: {type(result).__name__}: {result}", file=sys.stderr)
            else:
                row, path = result
                if path is not None:
                    append(file.with_name("paths.csv"), path, [*Job._fields, "lambda", "modality"])
                append(file, pd.DataFrame([row]), list(Job._fields))
            bar.set_postfix_str(f"last: {' '.join(map(str, job.key))}", refresh=False)
            bar.update(expected[job])
    return failed


if __name__ == "__main__":
    sys.exit(main())
