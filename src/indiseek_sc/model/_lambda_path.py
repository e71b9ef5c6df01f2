"""Choice of lambda without labels: stage 2 is trained at several values of lambda.

The specific representations at each lambda are evaluated on validation cells.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from indiseek_sc._checks import check_flag, check_number, check_whole
from indiseek_sc.metrics import LambdaPath, SpecificAuditor, choose_lambda, limit_threads
from indiseek_sc.model._cells import require, require_own_cells
from indiseek_sc.model._run_stages import Stage, run_stages
from indiseek_sc.model._runs import copy_module, read_options, release, start_run
from indiseek_sc.model._stages import FINISH, NEW_START, REUSED_START, SPECIFIC
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._runs import StageRun
    from indiseek_sc.train import StageFit

LAMBDAS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""Default values, from almost no change of the initial representations to almost no weight on
reconstruction."""

TOLERANCE = 0.02
"""Largest leak ratio that counts as no leak."""


class LambdaSearch:
    """Training of stage 2 at several lambdas and evaluation on validation cells.

    Held-out cells are not used.

    Parameters
    ----------
    run
        Run whose module is in the state from which critics are trained.
    values
        Values computed by the preceding stages.
    seed
        Seed of the probes.
    """

    def __init__(self, run: StageRun, values: Mapping[str, Any], *, seed: int) -> None:
        self.run, self.values, self.seed = run, dict(values), seed
        self.rows = torch.cat([run.rows.train, run.rows.validation])
        n_train = len(run.rows.train)
        self.parts = {"train": np.arange(n_train), "test": np.arange(n_train, len(self.rows))}
        self._auditor: SpecificAuditor | None = None
        self._start = self._copy_state()
        self._fits = list(run.fits)
        self._found: dict[float, tuple[dict[str, Tensor], list[StageFit], dict[str, Any]]] = {}

    def search(self, lambdas: Sequence[float], tolerance: float, *, stop_early: bool) -> LambdaPath | None:
        """Train at lambdas from the largest to the smallest, and choose one.

        Parameters
        ----------
        lambdas
            Values of lambda, in any order.
        tolerance
            Largest leak ratio that counts as no leak.
        stop_early
            Whether to stop at the first lambda within the tolerance.

        Returns
        -------
        Results of all lambdas; None if training at the largest one was not completed.
        """
        tables: list[pd.DataFrame] = []
        for lambda_ in sorted(lambdas, reverse=True):
            if not self._train(lambda_):
                break
            tables.append(self.evaluate(lambda_))
            if stop_early and choose_lambda(tables[-1], tolerance).is_within:
                break
        return self.conclude(tables, tolerance) if tables else None

    def train_and_evaluate(self, lambda_: float) -> pd.DataFrame:
        """Train at one lambda, and evaluate the representations.

        Raises
        ------
        RuntimeError
            If training ended early.
        """
        if not self._train(lambda_):
            raise RuntimeError(f"Lambda {lambda_:g}: {self.run.reason}")
        return self.evaluate(lambda_)

    def _train(self, lambda_: float) -> bool:
        """Train from the initial state, keep the result, and return whether it is complete."""
        self.run.module.load_state_dict(self._start)
        self.run.fits = list(self._fits)
        values = run_stages((SPECIFIC,), self.run, {**self.values, "lambda_": lambda_})
        if self.run.reason is None:
            self._found[lambda_] = self._copy_state(), list(self.run.fits), values
        return self.run.reason is None

    def conclude(self, tables: Sequence[pd.DataFrame], tolerance: float) -> LambdaPath:
        """Combine the tables of all lambdas, and choose one."""
        table = pd.concat(tables, ignore_index=True)
        choice = choose_lambda(table, tolerance)
        n_train, n_test = (part.size for part in self.parts.values())
        return LambdaPath(table, choice.value, tolerance, choice.reason, n_train=n_train, n_test=n_test)

    def restore(self, lambda_: float) -> dict[str, Any]:
        """Restore the module as trained at a lambda, and return the values of the stages."""
        incomplete = [fit for fit in self.run.fits if fit.reason is not None]
        state, fits, values = self._found[lambda_]
        self.run.module.load_state_dict(state)
        # Keep the reason why the search ended early, but not the history of the incomplete fit.
        self.run.fits = fits + [fit.without_history() for fit in incomplete]
        return values

    def evaluate(self, lambda_: float) -> pd.DataFrame:
        """Return measures of the current representations, one row for each modality."""
        features, shared, specific, decoded = self._encode()
        # Probes that depend on shared representations only are trained once, unless these changed.
        auditor = self._auditor
        if auditor is None or any(not np.array_equal(shared[name], auditor.shared[name]) for name in shared):
            self._auditor = auditor = SpecificAuditor(features, shared, **self.parts, seed=self.seed)
        figures = auditor(specific, decoded).rename_axis("modality").reset_index()
        figures.insert(0, "lambda", float(lambda_))
        return figures

    @torch.inference_mode()
    def _encode(self) -> list[dict[str, np.ndarray]]:
        """Return features, shared and specific representations, and reconstructions by modality.

        Rows are training and validation cells.
        """
        module, names = self.run.module, self.run.names
        module.eval()
        features = {role: x[self.rows] for role, x in self.values["features"].items()}
        latents = module.describe(features, self.values["design"][self.rows])
        kinds = (features, latents["shared"], latents["specific"], latents["reconstruction"])
        return [{names[role]: x.cpu().numpy() for role, x in kind.items()} for kind in kinds]

    def _copy_state(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self.run.module.state_dict().items()}


def lambda_path(
    model: IndiSeek,
    lambdas: Sequence[float] | None = None,
    *,
    tolerance: float = TOLERANCE,
    stop_early: bool = False,
    apply: bool = False,
    n_jobs: int = 1,
    max_epochs: int | Mapping[str, int] | None = None,
    batch_size: int | None = None,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    early_stopping: bool = True,
    enable_progress_bar: bool = True,
    seed: int = 0,
    **trainer_kwargs: Any,
) -> LambdaPath:
    """Train and evaluate stage 2 at several values of lambda, and choose one without labels.

    Lambdas are tried from the largest, at which specific representations stay close to their
    initial values, to the smallest. Each training starts in the same state as :meth:`train` at that
    lambda. Probes are trained on the training cells and evaluated on the **validation cells**.
    Held-out cells are used neither for training nor for the choice, so that :meth:`audit` can
    evaluate the chosen representations on them. Validation cells were also used for early stopping
    of the preceding stages, so the measures may be slightly optimistic; the leak is hardly
    affected, since critics do not use these cells.

    The chosen lambda is the largest one whose leak ratio is within ``tolerance`` in both
    modalities. If there is none, the lambda with the smallest leak is chosen, with a warning. The
    choice is based on the estimates; their standard errors are in the column ``leak_ratio_se``. The
    decoder is not refined at each lambda, so ``gain`` and ``complete`` are lower bounds.

    Parameters
    ----------
    lambdas
        Values to try; if not given, 1,000, 300, 100, 30, 10 and 3.
    tolerance
        Largest leak ratio that counts as no leak.
    stop_early
        Whether to stop at the first lambda within ``tolerance``. Smaller lambdas do not change the
        choice, but complete the trade-off curve. With ``n_jobs`` above 1 all lambdas are tried.
    apply
        Whether to use the representations at the chosen lambda in this model, and to train their
        decoder. Otherwise the model is unchanged.
    n_jobs
        Number of lambdas to train in parallel, by Ray Tune (``pip install "indiseek_sc[tune]"``).
    max_epochs, batch_size, accelerator, devices, early_stopping, enable_progress_bar
        As in :meth:`train`.
    seed
        Seed of the probes.
    **trainer_kwargs
        As in :meth:`train`.

    Returns
    -------
    Measures at each lambda, and the chosen one, which are printed as a table;
    :func:`indiseek_sc.pl.lambda_path` plots them.

    Raises
    ------
    RuntimeError
        If the shared representations are not trained, the data lack cells that they were trained
        with, or training at the largest lambda was not completed.
    ValueError
        If a lambda is not above 0, ``tolerance`` is negative, ``n_jobs`` is less than 1, or an
        argument of :meth:`train` is invalid.
    ImportError
        If ``n_jobs`` is above 1 and Ray Tune is not installed.

    Examples
    --------
    >>> path = model.lambda_path([100, 10])  # doctest: +SKIP
    >>> path.chosen  # doctest: +SKIP
    """
    require(model, "shared")
    wanted = _check(lambdas, tolerance, n_jobs)
    check_whole("seed", seed, 0)
    for argument, value in (("stop_early", stop_early), ("apply", apply)):
        check_flag(argument, value)
    options = read_options(
        model,
        max_epochs=max_epochs,
        batch_size=batch_size,
        accelerator=accelerator,
        devices=devices,
        early_stopping=early_stopping,
        enable_progress_bar=enable_progress_bar,
        trainer_kwargs=trainer_kwargs,
    )
    mdata = model._validate_anndata()
    split = require_own_cells(model, mdata, ("train", "validation"), "lambda_path")
    run, values = start_run(model, mdata, copy_module(model, options), split, options, model.history_)
    with isolated_seed(model.seed), limit_threads():
        values = run_stages(REUSED_START if "specific" in model.stages_ else NEW_START, run, values)
        path = None
        if run.reason is None:
            search = LambdaSearch(run, values, seed=seed)
            if n_jobs > 1:
                path = search.conclude(search_in_parallel(search, wanted, n_jobs), tolerance)
            else:
                path = search.search(wanted, tolerance, stop_early=stop_early)
        if path is None:
            raise RuntimeError(f"Training at the largest lambda was not completed. {run.reason}")
        _warn_if_none_is_within(path)
        if apply:
            if n_jobs > 1:  # train again in this process, to the same result
                search.train_and_evaluate(path.chosen)
            run_stages(FINISH, run, search.restore(path.chosen))
    if apply:
        release(run.module)
        model.module, model.history_, model.trainer = run.module, run.full_history, run.trainer
        model.lambda_ = path.chosen
        model.lambda_path_ = _as_values(path)
        model.stages_, model.is_trained_ = ["shared", "specific"], True
    return path


def _as_values(path: LambdaPath) -> dict[str, Any]:
    """Return a path as a dictionary, so that saved models do not depend on the class."""
    return {name: getattr(path, name) for name in path.__dataclass_fields__}


def get_chosen_path(model: IndiSeek) -> LambdaPath | None:
    """Return the path by which lambda was chosen; None if it was given by the user."""
    return None if model.lambda_path_ is None else LambdaPath(**model.lambda_path_)


def search_in_training(run: StageRun, **values: Any) -> dict[str, Any]:
    """Choose lambda and train stage 2 at it, as a stage of training.

    The search ends at the first lambda within the tolerance.

    Returns
    -------
    Values of the stages at the chosen lambda, ``lambda_``, and ``path``: the path as a dictionary,
    or None if training at the largest lambda was not completed.
    """
    search = LambdaSearch(run, values, seed=run.seed)
    # Without dependence no encoder is trained, and all lambdas give the same representations.
    lambdas = LAMBDAS if values["dependent"] else LAMBDAS[:1]
    path = search.search(lambdas, TOLERANCE, stop_early=True)
    if path is None:
        return {**values, "lambda_": LAMBDAS[0], "path": None}
    _warn_if_none_is_within(path)
    return {**search.restore(path.chosen), "lambda_": path.chosen, "path": _as_values(path)}


LAMBDA_SEARCH = Stage(
    "lambda search",
    search_in_training,
    ("features", "design", "conditions", "cells", "dependent"),
    ("conditions", "cells", "lambda_", "path"),
    learns=True,
)
"""Stage that replaces ``SPECIFIC`` if lambda is chosen in training."""


def _check(lambdas: Sequence[float] | None, tolerance: float, n_jobs: int) -> tuple[float, ...]:
    given = LAMBDAS if lambdas is None else lambdas
    if isinstance(given, str) or not np.iterable(given) or not len(given):
        raise ValueError(f"lambdas must be one or more finite numbers above 0, but are {given!r}.")
    check_number("tolerance", tolerance)
    check_whole("n_jobs", n_jobs, 1)
    return tuple(dict.fromkeys(check_number("lambdas", value, above_zero=True) for value in given))


def _warn_if_none_is_within(path: LambdaPath) -> None:
    if not path.is_within:
        warnings.warn(path.reason, UserWarning, stacklevel=3)


def search_in_parallel(search: LambdaSearch, lambdas: Sequence[float], n_jobs: int) -> list[pd.DataFrame]:
    """Train and evaluate at each lambda from the same initial state, in parallel processes.

    Trials share GPUs evenly; on a CPU each trial uses one core.

    Parameters
    ----------
    search
        Search in its initial state.
    lambdas
        Values of lambda, in any order.
    n_jobs
        Number of processes.

    Returns
    -------
    Measures at each lambda, largest lambda first.

    Raises
    ------
    ImportError
        If Ray Tune is not installed.
    RuntimeError
        If training at a lambda failed.
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
                tune.with_resources(tune.with_parameters(_try_lambda, search=search), resources),
                param_space={"lambda": tune.grid_search(sorted(lambdas, reverse=True))},
                tune_config=tune.TuneConfig(max_concurrent_trials=n_jobs),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            results: Any = tuner.fit()
    finally:
        if is_ours:
            ray.shutdown()
    if results.errors:
        raise RuntimeError(f"Training at a lambda failed: {results.errors[0]}")
    tables = {result.config["lambda"]: pd.DataFrame(result.metrics["figures"]) for result in results}
    return [tables[lambda_] for lambda_ in sorted(tables, reverse=True)]


def _try_lambda(config: dict[str, Any], search: LambdaSearch) -> dict[str, Any]:
    with isolated_seed(search.run.seed), limit_threads():
        return {"figures": search.train_and_evaluate(config["lambda"]).to_dict(orient="list")}
