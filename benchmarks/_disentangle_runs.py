"""One run of the benchmark: train a method with a lambda chosen without labels, and evaluate it."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from _disentangle_evaluate import evaluate, evaluate_factors, evaluate_features, evaluate_ranks, latents_of
from _disentangle_families import Case, StageClock
from main_job import find_labels, read

from indiseek_sc import IndiSeek
from indiseek_sc.baselines import METHODS
from indiseek_sc.datasets import synthetic
from indiseek_sc.metrics import limit_threads

if TYPE_CHECKING:
    import pandas as pd

    from indiseek_sc.metrics import LambdaPath

LITERAL = "indiseek_literal"
LITERAL_LAMBDA = 10.0
LITERAL_EPOCHS = {"shared": 150, "specific": 150}
"""Instead of 2,000 each, which take too long on two cores with batches of 128."""

TWINS = {"S3": "S1"}
"""Data sets with identical cells: S3 differs from S1 by data that no method here reads."""

SECONDS = {
    "indiseek": 60.0,
    LITERAL: 60.0,
    "clip": 28.0,
    "factorized_cl": 75.0,
    "info_disen": 60.0,
    "joint_opt": 230.0,
    "intra_modal": 22.0,
    "no_reconstruction": 20.0,
    "no_critics": 3.0,
    "no_independence": 9.0,
}
"""Seconds of training on one core, for the estimate of the run time only.

For 1,500 training cells and three lambdas where lambda is chosen, without stages that are shared.
Measured on PBMC10k and S1, except for the literal recipe and InfoDisen (from earlier runs) and
JointOpt (from the time of one step). """

SECONDS_TO_EVALUATE = 8.0


class Job(NamedTuple):
    """A row of the table; ``data`` is a name of the suite, ``pbmc_covid`` or a file."""

    data: str
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Return the key of the row in the table."""
        return Path(self.data).stem, self.method, self.seed


@dataclass(frozen=True)
class Options:
    """Options of all runs; ``max_epochs`` limits every stage, for quick runs."""

    max_cells: int = 3000
    synthetic_cells: int = 4000
    n_lambdas: int = 3
    max_epochs: int | None = None
    auditor: Path | None = None

    def __str__(self) -> str:
        epochs = "own" if self.max_epochs is None else f"at most {self.max_epochs}"
        auditor = "own" if self.auditor is None else self.auditor.stem
        return (
            f"cells {self.max_cells} (synthetic {self.synthetic_cells}), lambdas {self.n_lambdas}, epochs {epochs}, "
            f"auditor {auditor}"
        )


def lambdas_of(method: str, n_lambdas: int) -> tuple[float, ...]:
    """Return lambdas to choose from, evenly spaced in the method's list; none for IndiSeek."""
    known = METHODS[method].lambdas
    if METHODS[method].model is IndiSeek or not known:
        return ()
    places = np.unique(np.linspace(0, len(known) - 1, min(n_lambdas, len(known))).round().astype(int))
    return tuple(known[place] for place in places)


def estimate_seconds(job: Job, options: Options) -> float:
    """Estimate the duration of a run on one core."""
    n_cells = options.synthetic_cells if job.data in synthetic.NAMES else options.max_cells
    n_lambdas = len(lambdas_of(job.method, options.n_lambdas)) or 3
    longest = 1.0 if options.max_epochs is None else min(1.0, options.max_epochs / 50)
    training = SECONDS[job.method] * longest * n_lambdas / 3
    return (training + SECONDS_TO_EVALUATE) * (0.3 + 0.7 * n_cells / 3000)


def run(job: Job, options: Options) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Train and evaluate once.

    Returns
    -------
    The row of the table, and the figures on validation cells by which lambda was chosen (None if it
    was not chosen).

    Raises
    ------
    UserWarning
        If a stage ended early, so that its result is not comparable.
    """
    logging.getLogger("scvi").setLevel(logging.ERROR)
    with warnings.catch_warnings(), limit_threads():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("error", message="Stage '")
        case = open_case(TWINS.get(job.data, job.data), job.seed, options)
        if job.method not in case.results:
            case.results[job.method] = measure(case, job.method, options)
    figures, path = case.results[job.method]
    row = dict(zip(Job._fields, job.key, strict=True)) | {"title": METHODS[job.method].title} | figures
    row["settings"] = str(options)
    row["versions"] = ", ".join(f"{name} {version(name)}" for name in ("indiseek_sc", "torch", "scvi-tools"))
    row["date"] = datetime.now(UTC).date().isoformat()
    if path is None:
        return row, None
    return row, path.table.assign(data=row["data"], method=job.method, seed=job.seed, chosen=path.chosen)


def measure(case: Case, method: str, options: Options) -> tuple[dict[str, Any], LambdaPath | None]:
    """Train and evaluate a method; return its figures, and the lambda path if lambda was chosen."""
    model, path, seconds = fit(case, method, options.n_lambdas)
    figures: dict[str, Any] = {"lambda": model.lambda_, "lambda_chosen": path is not None}
    figures |= {"lambda_within": None if path is None else path.is_within}
    figures |= {"n_cells": case.mdata.n_obs, "n_train": case.train.size, "seconds": seconds}
    latents = latents_of(model)
    figures |= evaluate(case, method, model, latents, options.auditor)
    if "synthetic" in case.mdata.uns:
        figures |= evaluate_factors(model, case.mdata, case.train, case.test, case.seed)
        figures |= evaluate_features(model, case.mdata, case.seed)
    else:
        figures |= evaluate_ranks(latents, model.modalities, case.mdata, find_labels(case.mdata), case.test, case.seed)
    return figures, path


@lru_cache(maxsize=1)
def open_case(data: str, seed: int, options: Options) -> Case:
    """Return a data set and seed; the last one is cached together with its trained stages."""
    if data in synthetic.NAMES:
        mdata = synthetic.make(data, options.synthetic_cells, seed=seed)
        train, test = np.split(np.arange(mdata.n_obs), [mdata.n_obs // 2])
        setup = {"batch_key": "batch"} if "batch" in mdata.obs else {}
        return Case(mdata, train, test, setup, seed, options.max_epochs)
    mdata = read(data, options.max_cells)
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    train, test = (np.sort(part) for part in np.split(order, [mdata.n_obs // 2]))
    second = "adt" if "adt" in mdata.mod else "atac"
    return Case(mdata, train, test, {"modalities": {"rna_layer": "rna", "adt_layer": second}}, seed, options.max_epochs)


def fit(case: Case, method: str, n_lambdas: int) -> tuple[IndiSeek, LambdaPath | None, float]:
    """Make a model and train it.

    Returns
    -------
    The model; the lambda path by which lambda was chosen, if any; and the seconds, with those of
    stages that were taken over from another method.
    """
    leader = case.leader_of(method)
    start = time.perf_counter()
    model, clock = case.make(method), StageClock()
    taken_over = 0.0 if leader is None else leader.give_to(model)
    path = train(model, case, method, lambdas_of(method, n_lambdas), clock)
    seconds = time.perf_counter() - start + taken_over
    case.lead(method, model, clock)
    return model, path, seconds


def train(model: IndiSeek, case: Case, method: str, lambdas: tuple[float, ...], clock: StageClock) -> LambdaPath | None:
    """Train what was not taken over; lambda is chosen on validation cells if there are several."""
    epochs = case.epochs_of(model, LITERAL_EPOCHS if method == LITERAL else {})
    if not lambdas:
        lambda_ = LITERAL_LAMBDA if method == LITERAL else None
        if model.stages_:
            stages = {"stages": ("specific",), "keep_start": "specific" in model.stages_}
        else:
            stages = {"held_out": case.test, "callbacks": [clock]}
        model.train(epochs, lambda_, **stages, enable_progress_bar=False)
        return None
    if method == "joint_opt":  # its stages cannot be trained separately; the lambda path starts here
        case.train_start(model, epochs)
    elif not model.stages_:
        model.train(epochs, held_out=case.test, stages=("shared",), enable_progress_bar=False)
    # The largest lambda within the tolerance is chosen, so smaller ones need not be trained.
    return model.lambda_path(lambdas, apply=True, stop_early=True, max_epochs=epochs, enable_progress_bar=False)
