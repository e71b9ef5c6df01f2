"""Evaluate the prediction of one modality from the other, beside common regressions.

    python benchmarks/predict_modality.py DATA.h5mu [DATA.h5mu ...] --seeds 3 --max-cells 12000 --output predict_modality.csv

Half of the cells are held out; if ``obs`` has a column ``--donor-key``, half of the donors as well,
in a separate split. Ridge regression, 50 nearest neighbours and kernel ridge regression (1,000
Nystroem features) read the model's features (principal components of RNA, standardised log-ratios
of proteins) and are fitted to all cells that are not held out; penalties and the width of the
kernel are chosen on the model's validation cells, and the regressions are fitted again with these,
like the model. Errors and correlations refer to standardised features; coverage is that of 90 %
intervals, which only the model has. With ``--totalvi``, TOTALVI imputes proteins from counts
(minutes to hours; see ``_totalvi.py``), with ``--scipenn`` sciPENN predicts them
(``pip install --no-deps sciPENN``; see ``_scipenn.py``). The table has one row for each data set,
split, seed, direction and method, and is written as it grows.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import _scipenn
import _totalvi
import numpy as np
import pandas as pd
import torch
from main_job import read
from sklearn.kernel_approximation import Nystroem
from sklearn.neighbors import NearestNeighbors

from indiseek_sc import IndiSeek
from indiseek_sc.metrics import (
    interval_coverage,
    limit_threads,
    pearson_per_cell,
    pearson_per_feature,
    root_mean_squared_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import mudata

    Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)
WIDTHS = (0.25, 0.5, 1.0, 2.0)
"""Inverse squared widths of the kernel, times the median squared distance of cells."""

PROGRAMS = {"TOTALVI": _totalvi.predict_proteins, "sciPENN": _scipenn.predict_proteins}
"""Other programs that predict proteins from RNA."""


def find_splits(mdata: mudata.MuData, seed: int, donor_key: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names of splits and the held-out rows."""
    rng = np.random.default_rng(seed)
    yield "cells", np.sort(rng.permutation(mdata.n_obs)[mdata.n_obs // 2 :])
    columns = [
        table[key] for table in (mdata.obs, mdata["rna"].obs) for key in (donor_key, f"rna:{donor_key}") if key in table
    ]
    if columns:
        donors = columns[0].astype(str).to_numpy()
        names = np.unique(donors)
        held_out = rng.permutation(names)[len(names) // 2 :]
        yield "donors", np.flatnonzero(np.isin(donors, held_out))


def solve_ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray, penalties: tuple[float, ...]) -> dict[float, np.ndarray]:
    """Return ridge predictions by penalty."""
    center, mean = x.mean(axis=0), y.mean(axis=0)
    values, vectors = np.linalg.eigh((x - center).T @ (x - center))
    projected = vectors.T @ ((x - center).T @ (y - mean))
    rotated = (new - center) @ vectors
    return {p: rotated @ (projected / (values[:, None] + p)) + mean for p in penalties}


def choose(candidates: dict[tuple, np.ndarray], measured: np.ndarray) -> tuple:
    """Return the candidate with the smallest error."""
    return min(candidates, key=lambda key: root_mean_squared_error(measured, candidates[key]))


def predict_all(x: np.ndarray, y: np.ndarray, parts: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return predictions for the test cells by each baseline."""
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    seen = np.concatenate([train, validation])
    candidates = solve_ridge(x[train], y[train], x[validation], PENALTIES)
    best = choose({(p,): guess for p, guess in candidates.items()}, y[validation])
    predictions = {"ridge": solve_ridge(x[seen], y[seen], x[test], best)[best[0]]}

    neighbors = NearestNeighbors(n_neighbors=min(50, seen.size)).fit(x[seen]).kneighbors(x[test], return_distance=False)
    predictions["50-NN"] = y[seen][neighbors].mean(axis=1)

    few = x[train[:: max(1, train.size // 500)]]
    unit = 1 / np.median(np.square(few[:, None] - few[None]).sum(axis=2))

    def lift(width: float, cells: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        kernel = Nystroem(gamma=width * unit, n_components=min(1000, cells.size), random_state=seed).fit(x[cells])
        return [kernel.transform(x[rows]) for rows in (cells, *others)]

    candidates = {}
    for width in WIDTHS:
        lifted, new = lift(width, train, validation)
        candidates |= {(width, p): guess for p, guess in solve_ridge(lifted, y[train], new, PENALTIES).items()}
    width, penalty = choose(candidates, y[validation])
    lifted, new = lift(width, seen, test)
    predictions["kernel ridge"] = solve_ridge(lifted, y[seen], new, (penalty,))[penalty]
    return predictions


def run(name: str, seed: int, max_cells: int, donor_key: str, programs: Sequence[str]) -> Iterator[dict]:
    """Yield the rows of all splits, directions and methods for one data set and seed."""
    mdata = read(name, max_cells)
    for split, test in find_splits(mdata, seed, donor_key):
        IndiSeek.setup_mudata(mdata)
        model = IndiSeek(mdata, seed=seed)
        start = time.perf_counter()
        model.train(held_out=test, stages=("shared",), enable_progress_bar=False)  # predictions need no more
        shared_done = time.perf_counter()
        model.train_prediction(enable_progress_bar=False)
        seconds = {
            "seconds_representations": shared_done - start,
            "seconds_prediction": time.perf_counter() - shared_done,
        }
        parts = {part: getattr(model.split, part) for part in ("train", "validation", "test")}
        features = {modality: model.get_features(modality=modality) for modality in ("rna", "adt")}
        for source, target in (("rna", "adt"), ("adt", "rna")):
            scale = features[target][parts["train"]].std(axis=0)
            scale[scale == 0] = 1
            measured = features[target][test] / scale
            found = model.predict_modality(source, target, indices=test)
            lower, upper = (bound.to_numpy() / scale for bound in found.interval(0.9))
            predictions = {
                **predict_all(features[source].astype(float), features[target].astype(float) / scale, parts, seed),
                "indiseek": found.mean.to_numpy() / scale,
            }
            for program in programs if target == "adt" else ():
                predictions[program] = PROGRAMS[program](mdata, model, test, seed) / scale
            for method, guess in predictions.items():
                coverage = interval_coverage(measured, lower, upper) if method == "indiseek" else np.array([np.nan])
                yield {
                    "data": Path(name).stem,
                    "split": split,
                    "seed": seed,
                    "direction": f"{source} to {target}",
                    "method": method,
                    "n_train": parts["train"].size + parts["validation"].size,
                    "n_test": test.size,
                    "rmse": root_mean_squared_error(measured, guess),
                    "r_per_feature": np.nanmean(pearson_per_feature(measured, guess)),
                    "r_per_cell": np.nanmean(pearson_per_cell(measured, guess)),
                    "coverage_90": coverage.mean(),
                    "coverage_90_lowest": np.nan if method != "indiseek" else np.quantile(coverage, 0.05),
                    "coverage_90_highest": np.nan if method != "indiseek" else np.quantile(coverage, 0.95),
                    **(seconds if method == "indiseek" else {}),
                }


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--max-cells", type=int, default=12_000)
    parser.add_argument("--donor-key", default="Donor")
    parser.add_argument(
        "--totalvi", action="store_true", help="also run TOTALVI, which takes far longer than all others"
    )
    parser.add_argument("--scipenn", action="store_true", help="also run sciPENN, which must be installed")
    parser.add_argument("--output", type=Path, default=Path("predict_modality.csv"))
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", module="mudata")
    torch.set_num_threads(1)
    programs = [program for program in PROGRAMS if getattr(arguments, program.lower())]
    rows: list[dict] = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in arguments.data:
            with limit_threads():
                for row in run(name, seed, arguments.max_cells, arguments.donor_key, programs):
                    rows.append(row)
                    pd.DataFrame(rows).to_csv(arguments.output, index=False)
                    print(" ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values()), flush=True)
    table = pd.DataFrame(rows)
    by = ["data", "split", "direction", "method"]
    print(table.groupby(by, sort=False).mean(numeric_only=True).drop(columns="seed").round(3).to_string())


if __name__ == "__main__":
    main()
