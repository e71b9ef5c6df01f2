"""Lambdas side by side, where there are several cores or GPUs, by Ray Tune."""

from __future__ import annotations

import logging
import tempfile
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from indiseek_sc.metrics import single_thread
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indiseek_sc.model._lambda_walk import LambdaWalk


def walk_in_parallel(walk: LambdaWalk, lambdas: Sequence[float], n_jobs: int) -> list[pd.DataFrame]:
    """Train and judge each lambda from the start of ``walk``, ``n_jobs`` at a time, each in a process of its own.

    The trials share the machine's GPUs evenly; on a CPU each has one core, as all training has here.

    Returns
    -------
    Figures of each lambda, largest first.

    Raises
    ------
    ImportError
        If Ray Tune is not installed.
    RuntimeError
        If a lambda could not be finished.
    """
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise ImportError(
            f'n_jobs={n_jobs} needs Ray Tune. Install it by pip install "indiseek_sc[tune]", or leave n_jobs out.'
        ) from error

    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(num_cpus=n_jobs, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        resources = {"cpu": 1, "gpu": torch.cuda.device_count() / n_jobs}
        with tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                tune.with_resources(tune.with_parameters(_try_lambda, walk=walk), resources),
                param_space={"lambda": tune.grid_search(sorted(lambdas, reverse=True))},
                tune_config=tune.TuneConfig(max_concurrent_trials=n_jobs),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            results: Any = tuner.fit()
    finally:
        if is_ours:
            ray.shutdown()
    if results.errors:
        raise RuntimeError(f"A lambda could not be finished: {results.errors[0]}")
    tables = {result.config["lambda"]: pd.DataFrame(result.metrics["figures"]) for result in results}
    return [tables[lambda_] for lambda_ in sorted(tables, reverse=True)]


def _try_lambda(config: dict[str, Any], walk: LambdaWalk) -> dict[str, Any]:
    with isolated_seed(walk.run.model.seed), single_thread():
        return {"figures": walk.try_alone(config["lambda"]).to_dict(orient="list")}
