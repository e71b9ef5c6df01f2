"""Choosing lambda without labels: specific representations are trained at one lambda after another, and each evaluated on validation cells."""

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
from indiseek_sc.model._runs import copy_module, read_options, release, start_run
from indiseek_sc.model._stages import FINISH, FORMER_START, NEW_START, SPECIFIC, Stage, run_stages
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._runs import StageRun
    from indiseek_sc.train import StageFit

LAMBDAS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""From next to no correction of the start to next to no regard for it."""

TOLERANCE = 0.02
"""Largest leak ratio that counts as none."""


class LambdaWalk:
    """Trains stage 2 at lambdas and evaluates it, on training and validation cells alone.

    Parameters
    ----------
    run
        A run whose module is at the start of the critics.
    values
        What the stages have made so far.
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

    def walk(self, lambdas: Sequence[float], tolerance: float, *, to_the_end: bool) -> LambdaPath | None:
        """Go from the largest lambda down, and choose one; None if not even the first one was finished."""
        tables: list[pd.DataFrame] = []
        for lambda_ in sorted(lambdas, reverse=True):
            if not self._train(lambda_):
                break
            tables.append(self.evaluate(lambda_))
            if not to_the_end and choose_lambda(tables[-1], tolerance).is_within:
                break
        return self.conclude(tables, tolerance) if tables else None

    def try_alone(self, lambda_: float) -> pd.DataFrame:
        """Train at one lambda, and evaluate."""
        if not self._train(lambda_):
            raise RuntimeError(f"Lambda {lambda_:g}: {self.run.reason}")
        return self.evaluate(lambda_)

    def _train(self, lambda_: float) -> bool:
        """Train from the start, and remember where that led; whether it came to its end."""
        self.run.module.load_state_dict(self._start)
        self.run.fits = list(self._fits)
        values = run_stages((SPECIFIC,), self.run, {**self.values, "lambda_": lambda_})
        if self.run.reason is None:
            self._found[lambda_] = self._copy_state(), list(self.run.fits), values
        return self.run.reason is None

    def conclude(self, tables: Sequence[pd.DataFrame], tolerance: float) -> LambdaPath:
        """Put the figures of all lambdas together, and choose."""
        table = pd.concat(tables, ignore_index=True)
        choice = choose_lambda(table, tolerance)
        n_train, n_test = (part.size for part in self.parts.values())
        return LambdaPath(table, choice.value, tolerance, choice.reason, n_train=n_train, n_test=n_test)

    def return_to(self, lambda_: float) -> dict[str, Any]:
        """Bring the module back to where it was at a lambda of this walk, and return the values of the stages there."""
        broken_off = [fit for fit in self.run.fits if fit.reason is not None]
        state, fits, values = self._found[lambda_]
        self.run.module.load_state_dict(state)
        # Why the walk ended early stays known; the figures of what was broken off do not count.
        self.run.fits = fits + [fit.without_history() for fit in broken_off]
        return values

    def evaluate(self, lambda_: float) -> pd.DataFrame:
        """Figures of the representations as they are, a row a modality."""
        features, shared, specific, decoded = self._encode()
        # What does not depend on Z is probed once, unless a method changes its shared representations along the way.
        known = self._auditor
        if known is None or any(not np.array_equal(shared[name], known.shared[name]) for name in shared):
            self._auditor = known = SpecificAuditor(features, shared, **self.parts, seed=self.seed)
        figures = known(specific, decoded).rename_axis("modality").reset_index()
        figures.insert(0, "lambda", float(lambda_))
        return figures

    @torch.inference_mode()
    def _encode(self) -> list[dict[str, np.ndarray]]:
        """Features, shared representations, specific representations and what they decode to, by modality, of training and validation cells."""
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
    to_the_end: bool = True,
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
    """Train stage 2 at one lambda after another, evaluate each, and choose: no label is read.

    From the largest lambda, whose specific representations stay next to where they start, down to the smallest; each begins where
    :meth:`train` would at that lambda. Probes, fitted on the training
    cells, evaluate each on the **validation cells**. Held-out cells are never read here, neither for training nor for
    the choice, so that :meth:`audit` can evaluate the chosen representations on them afterwards. Validation cells also stopped the
    stages before this one, so figures here may flatter a little; the leak hardly, since critics do not read them.

    The chosen lambda is the largest whose leak ratio is within ``tolerance`` in both modalities; if there is none, the one
    with the smallest leak, and a warning says so. The estimates decide; ``leak_ratio_se`` in the table says how sure they
    are. The decoder's refinement is not trained at each lambda, so gain and complete are lower bounds.

    Parameters
    ----------
    lambdas
        What to try; 1,000 to 3 in six steps if not given.
    tolerance
        Largest leak ratio that counts as none.
    to_the_end
        Go on to smaller lambdas once one is within ``tolerance``. The choice is the same without, since it is the largest one;
        what is saved is the rest of the walk. With several ``n_jobs`` all are trained in any case.
    apply
        Take over the representations of the chosen lambda, and train their decoder. Else the model is left as it was.
    n_jobs
        Lambdas to train at a time, by Ray Tune (``pip install "indiseek_sc[tune]"``).
    max_epochs, batch_size, accelerator, devices, early_stopping, enable_progress_bar, **trainer_kwargs
        As in :meth:`train`.
    seed
        Seed of the probes.

    Returns
    -------
    The figures of each lambda, and which is chosen; prints as a table. See :func:`indiseek_sc.pl.lambda_path`.

    Raises
    ------
    RuntimeError
        If the shared representations are not trained, the data lack cells that they were trained with, or not even the largest lambda could be
        finished.
    ValueError
        If a lambda is not above 0, ``tolerance`` is negative, ``n_jobs`` is less than 1, or an argument of :meth:`train` makes no sense.
    ImportError
        If ``n_jobs`` asks for Ray Tune and it is not installed.
    """
    require(model, "shared")
    wanted = _check(lambdas, tolerance, n_jobs)
    check_whole("seed", seed, 0)
    for argument, value in (("to_the_end", to_the_end), ("apply", apply)):
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
        values = run_stages(FORMER_START if "specific" in model.stages_ else NEW_START, run, values)
        path = None
        if run.reason is None:
            walk = LambdaWalk(run, values, seed=seed)
            if n_jobs > 1:
                path = walk.conclude(walk_in_parallel(walk, wanted, n_jobs), tolerance)
            else:
                path = walk.walk(wanted, tolerance, to_the_end=to_the_end)
        if path is None:
            raise RuntimeError(f"Not even the largest lambda was finished. {run.reason}")
        _warn_if_none_is_within(path)
        if apply:
            if n_jobs > 1:  # trained in other processes, and the same again from the same start
                walk.try_alone(path.chosen)
            run_stages(FINISH, run, walk.return_to(path.chosen))
    if apply:
        release(run.module)
        model.module, model.history_, model.trainer = run.module, run.full_history, run.trainer
        model.lambda_ = path.chosen
        model.lambda_path_ = _as_values(path)
        model.stages_, model.is_trained_ = ["shared", "specific"], True
    return path


def _as_values(path: LambdaPath) -> dict[str, Any]:
    """Return a walk as a plain dictionary, so that saved models do not depend on where the class lies."""
    return {name: getattr(path, name) for name in path.__dataclass_fields__}


def get_chosen_path(model: IndiSeek) -> LambdaPath | None:
    """The walk by which lambda was chosen; None if it was given."""
    return None if model.lambda_path_ is None else LambdaPath(**model.lambda_path_)


def walk_in_training(run: StageRun, **values: Any) -> dict[str, Any]:
    """Train at the lambda that a walk chooses, which ends at the first lambda within the tolerance.

    Returns
    -------
    The values of the stages there, lambda, and the walk as the model keeps it: None if not even the largest lambda was finished.
    """
    walk = LambdaWalk(run, values, seed=run.seed)
    # Where no encoder moves, all lambdas give the same representations.
    lambdas = LAMBDAS if values["dependent"] else LAMBDAS[:1]
    path = walk.walk(lambdas, TOLERANCE, to_the_end=False)
    if path is None:
        return {**values, "lambda_": LAMBDAS[0], "path": None}
    _warn_if_none_is_within(path)
    return {**walk.return_to(path.chosen), "lambda_": path.chosen, "path": _as_values(path)}


WALK = Stage(
    "walk",
    walk_in_training,
    ("features", "design", "conditions", "cells", "dependent"),
    ("conditions", "cells", "lambda_", "path"),
    learns=True,
)
"""In the place of stage ``SPECIFIC`` where lambda is to be chosen."""


def _check(lambdas: Sequence[float] | None, tolerance: float, n_jobs: int) -> tuple[float, ...]:
    given = LAMBDAS if lambdas is None else lambdas
    if isinstance(given, str) or not np.iterable(given) or not len(given):
        raise ValueError(f"lambdas must be finite numbers above 0, at least one, but are {given!r}.")
    check_number("tolerance", tolerance)
    check_whole("n_jobs", n_jobs, 1)
    return tuple(dict.fromkeys(check_number("lambdas", value, above_zero=True) for value in given))


def _warn_if_none_is_within(path: LambdaPath) -> None:
    if not path.is_within:
        warnings.warn(path.reason, UserWarning, stacklevel=3)


def walk_in_parallel(walk: LambdaWalk, lambdas: Sequence[float], n_jobs: int) -> list[pd.DataFrame]:
    """Train and evaluate each lambda from the start of ``walk``, ``n_jobs`` at a time, each in a process of its own.

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
    with isolated_seed(walk.run.seed), limit_threads():
        return {"figures": walk.try_alone(config["lambda"]).to_dict(orient="list")}
