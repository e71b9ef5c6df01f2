"""One run of the benchmark: read data, train a method with a lambda that is chosen without labels, judge it."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from _disentangle_judge import judge, judge_coordinates, judge_factors, judge_ranks
from main_job import find_labels, read

from indiseek_sc import IndiSeek
from indiseek_sc.baselines import METHODS, make
from indiseek_sc.datasets import synthetic
from indiseek_sc.metrics._threads import single_thread

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

    from indiseek_sc.metrics import LambdaPath

LITERAL = "indiseek_literal"
LITERAL_LAMBDA = 10.0
LITERAL_EPOCHS = {"shared": 150, "specific": 150}
"""In the place of 2,000 each, which at batches of 128 are beyond two cores."""

SECONDS = {
    "indiseek": 30.0,
    LITERAL: 60.0,
    "clip": 15.0,
    "factorized_cl": 35.0,
    "info_disen": 15.0,
    "joint_opt": 90.0,
    "intra_modal": 40.0,
    "no_reconstruction": 30.0,
    "no_critics": 20.0,
    "no_independence": 25.0,
}
"""One core's seconds for one lambda and 1,500 training cells, measured; for the estimate before the run alone."""

SECONDS_TO_JUDGE = 15.0


class Job(NamedTuple):
    """What a row of the table is of; ``data`` is a name of the suite, ``pbmc_covid`` or a file."""

    data: str
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """How the table calls it."""
        return Path(self.data).stem, self.method, self.seed


@dataclass(frozen=True)
class Options:
    """What holds for all runs; ``max_epochs`` is a limit for every stage, for trials."""

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
    """Lambdas to choose from: the ends of the method's own list, and what lies between; none for IndiSeek's default."""
    known = METHODS[method].lambdas
    if METHODS[method].model is IndiSeek or not known:
        return ()
    places = np.unique(np.linspace(0, len(known) - 1, min(n_lambdas, len(known))).round().astype(int))
    return tuple(known[place] for place in places)


def estimate_seconds(job: Job, options: Options) -> float:
    """Say roughly how long a run takes on one core."""
    n_cells = options.synthetic_cells if job.data in synthetic.NAMES else options.max_cells
    n_lambdas = max(1, len(lambdas_of(job.method, options.n_lambdas)))
    longest = 1.0 if options.max_epochs is None else min(1.0, options.max_epochs / 50)
    training = SECONDS[job.method] * longest + SECONDS_TO_JUDGE
    return (n_lambdas * training + SECONDS_TO_JUDGE) * (0.3 + 0.7 * n_cells / 3000)


def run(job: Job, options: Options) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Train and judge once.

    Returns
    -------
    The row of the table; and the figures on validation cells by which lambda was chosen, None where nothing was.

    Raises
    ------
    UserWarning
        If a stage ended early, so that there is nothing to compare.
    """
    logging.getLogger("scvi").setLevel(logging.ERROR)
    with warnings.catch_warnings(), single_thread():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("error", message="Stage '")
        mdata, train, test, setup = prepare(job, options)
        start = time.perf_counter()
        model = make(job.method, mdata, seed=job.seed, setup=setup)
        path = fit(model, job.method, test, options)
        seconds = time.perf_counter() - start
        row: dict[str, Any] = dict(zip(Job._fields, job.key, strict=True))
        row |= {"title": METHODS[job.method].title, "lambda": model.lambda_}
        row |= {"lambda_chosen": path is not None, "lambda_within": None if path is None else path.is_within}
        row |= {"n_cells": mdata.n_obs, "n_train": train.size, "seconds": seconds}
        row |= judge(model, train, test, options.auditor)
        if job.data in synthetic.NAMES:
            row |= judge_factors(model, mdata, train, test, job.seed)
            row |= judge_coordinates(model, mdata, job.seed)
        else:
            row |= judge_ranks(model, mdata, find_labels(mdata), test, job.seed)
    packages = ("indiseek_sc", "torch", "scvi-tools")
    row["settings"] = str(options)
    row["versions"] = ", ".join(f"{name} {version(name)}" for name in packages)
    row["date"] = datetime.now(UTC).date().isoformat()
    if path is None:
        return row, None
    return row, path.table.assign(data=row["data"], method=job.method, seed=job.seed, chosen=path.chosen)


def prepare(job: Job, options: Options) -> tuple[MuData, np.ndarray, np.ndarray, dict[str, Any]]:
    """Return data, rows to learn from, rows held out, and arguments of ``setup_mudata``."""
    if job.data in synthetic.NAMES:
        mdata = synthetic.make(job.data, options.synthetic_cells, seed=job.seed)
        train, test = np.split(np.arange(mdata.n_obs), [mdata.n_obs // 2])
        return mdata, train, test, {"batch_key": "batch"} if "batch" in mdata.obs else {}
    mdata = read(job.data, options.max_cells)
    order = np.random.default_rng(job.seed).permutation(mdata.n_obs)
    train, test = (np.sort(part) for part in np.split(order, [mdata.n_obs // 2]))
    second = "adt" if "adt" in mdata.mod else "atac"
    return mdata, train, test, {"modalities": {"rna_layer": "rna", "adt_layer": second}}


def fit(model: IndiSeek, method: str, test: np.ndarray, options: Options) -> LambdaPath | None:
    """Train with ``test`` held out, at the lambda that validation cells choose where the method has some to choose from."""
    prefix = "max_epochs_"
    epochs = {k.removeprefix(prefix): n for k, n in asdict(model.settings).items() if k.startswith(prefix)}
    if method == LITERAL:
        epochs |= LITERAL_EPOCHS
    if options.max_epochs is not None:
        epochs = {stage: min(n, options.max_epochs) for stage, n in epochs.items()}
    lambdas = lambdas_of(method, options.n_lambdas)
    if not lambdas:
        lambda_ = LITERAL_LAMBDA if method == LITERAL else None
        model.train(epochs, lambda_, held_out=test, enable_progress_bar=False)
        return None
    if method == "joint_opt":  # its stages cannot be trained apart; the walk takes over from where it starts
        model.train({**epochs, "specific": 0, "decoder": 0}, held_out=test, enable_progress_bar=False)
    else:
        model.train(epochs, held_out=test, stages=("shared",), enable_progress_bar=False)
    return model.lambda_path(lambdas, apply=True, max_epochs=epochs, enable_progress_bar=False)
