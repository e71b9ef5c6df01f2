"""Choosing lambda without labels."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc._keys import ROLES
from indiseek_sc.metrics import LambdaPath, single_thread
from indiseek_sc.model._base import ModelBase
from indiseek_sc.model._lambda_walk import LAMBDAS, LambdaWalk
from indiseek_sc.model._parallel_walk import walk_in_parallel
from indiseek_sc.model._stage_runs import RunOptions
from indiseek_sc.train import Split, isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from indiseek_sc.model._stages import Stages


TOLERANCE = 0.02


class PathMixin(ModelBase):
    """The walk along lambda, and the choice that it makes."""

    def lambda_path(
        self,
        lambdas: Sequence[float] | None = None,
        *,
        tolerance: float = TOLERANCE,
        warm_start: bool = False,
        to_the_end: bool = True,
        apply: bool = False,
        n_jobs: int = 1,
        max_epochs: int | Mapping[str, int] | None = None,
        batch_size: int | None = None,
        accelerator: str = "auto",
        early_stopping: bool = True,
        enable_progress_bar: bool = True,
        seed: int = 0,
        **trainer_kwargs: Any,
    ) -> LambdaPath:
        """Train stage 2 at one lambda after another, judge each, and choose: no label is read.

        From the largest lambda, whose specific codes stay next to where they start, down to the smallest. Fresh probes, fitted on the training
        cells, judge each on the **validation cells**. Held-out cells are never read here, neither for training nor for
        the choice, so that :meth:`audit` can judge the chosen codes on them afterwards. Validation cells also stopped the
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
        warm_start
            Let each lambda go on from the codes and critics of the one before it, where a method allows that. Else each begins
            where the walk does, as :meth:`train` would at that lambda. Warm is no faster, and on 3,085 training cells (10x
            PBMC10k) it leaked up to .05 where the other leaked .003: encoders that train long against the same critics learn
            to evade them.
        to_the_end
            Go on to smaller lambdas once one is within ``tolerance``. The choice is the same without, since it is the largest one;
            what is saved is the rest of the walk. With several ``n_jobs`` all are trained in any case.
        apply
            Take over the codes of the chosen lambda, and train their decoder. Else the model is left as it was.
        n_jobs
            Lambdas to train at a time, by Ray Tune (``pip install "indiseek_sc[tune]"``). If more than one, no
            lambda starts warm.
        max_epochs, batch_size, accelerator, early_stopping, enable_progress_bar, **trainer_kwargs
            As in :meth:`train`.
        seed
            Seed of the probes.

        Returns
        -------
        The figures of each lambda, and which is chosen; prints as a table. See :func:`indiseek_sc.pl.frontier`.

        Raises
        ------
        RuntimeError
            If the shared codes are not trained, or not even the largest lambda could be finished.
        ValueError
            If a lambda is not above 0, ``tolerance`` is negative, or ``n_jobs`` is less than 1.
        ImportError
            If ``n_jobs`` asks for Ray Tune and it is not installed.
        """
        self._require("shared")
        wanted = _check(lambdas, tolerance, n_jobs)
        runner = {"accelerator": accelerator, "enable_progress_bar": enable_progress_bar, **trainer_kwargs}
        options = RunOptions(max_epochs, batch_size, early_stopping, runner)
        bystander = self._copy_without_data()
        run, batch = self._walking_stages(bystander, options)
        walk = LambdaWalk(run, batch, seed=seed)
        with isolated_seed(self.seed), single_thread():
            reason = walk.start(from_trained="specific" in self.stages_)
            path = None
            if reason is None and n_jobs > 1:
                path = walk.conclude(walk_in_parallel(walk, wanted, n_jobs), tolerance)
            elif reason is None:
                path, reason = walk.walk(wanted, tolerance, warm_start=warm_start, to_the_end=to_the_end)
            if path is None:
                raise RuntimeError(f"Not even the largest lambda was finished. {reason}")
            _warn_if_none_is_within(path)
            if apply:
                if n_jobs > 1:  # trained in other processes, and the same again from the same start
                    walk.try_alone(path.chosen)
                walk.return_to(path.chosen)
                run.finish_specific(reason)
        if apply:
            self.module.load_state_dict(bystander.module.state_dict())
            self.history_ = bystander.history_
            self._note_path(path)
            self.stages_, self.is_trained_ = ["shared", "specific"], True
        return path

    @property
    def chosen_path(self) -> LambdaPath | None:
        """The walk by which lambda was chosen; None if it was given."""
        noted = getattr(self, "lambda_path_", None)
        return None if noted is None else LambdaPath(**noted)

    def _train_along_path(self, run: Stages, batch: Tensor) -> None:
        """Stage 2 at the lambda that a walk chooses, which ends at the first lambda within the tolerance."""
        walk = LambdaWalk(run, batch, seed=self.seed)
        self.lambda_ = LAMBDAS[0]
        reason = walk.start(from_trained=run.options.keep_start)
        path = None
        if reason is None:
            path, reason = walk.walk(LAMBDAS, TOLERANCE, warm_start=False, to_the_end=False)
        if path is not None:
            _warn_if_none_is_within(path)
            walk.return_to(path.chosen)
            self._note_path(path)
        run.finish_specific(reason)

    def _note_path(self, path: LambdaPath) -> None:
        self.lambda_ = path.chosen
        # As a plain dictionary, so that saved models do not depend on where the class lies.
        self.lambda_path_ = {name: getattr(path, name) for name in path.__dataclass_fields__}

    def _copy_without_data(self) -> Any:
        """A model with weights of its own that can be trained without a trace in this one."""
        other = copy.copy(self)
        other._adata = other._adata_manager = other.trainer = None
        other.module, other.history_ = copy.deepcopy(self.module), dict(self.history_ or {})
        return other

    def _walking_stages(self, model: Any, options: RunOptions) -> tuple[Stages, Tensor]:
        """Stages of a copy on training and validation cells alone, and the batch of these."""
        mdata, split = self._validate_anndata(), self.split
        rows = np.sort(np.concatenate([split.train, split.validation]))
        features = {role: self._features(mdata, role, rows) for role in ROLES}
        there = Split(*(np.searchsorted(rows, part) for part in (split.train, split.validation, split.test[:0])))
        return self._stages_cls(model, features, options, there), self._batch(mdata, rows)


def _check(lambdas: Sequence[float] | None, tolerance: float, n_jobs: int) -> tuple[float, ...]:
    wanted = tuple(dict.fromkeys(float(value) for value in (LAMBDAS if lambdas is None else lambdas)))
    if not wanted or not all(np.isfinite(value) and value > 0 for value in wanted):
        raise ValueError(f"lambdas must be finite numbers above 0, at least one, but are {list(wanted)}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, but is {tolerance}.")
    if n_jobs < 1:
        raise ValueError(f"n_jobs must be at least 1, but is {n_jobs}.")
    return wanted


def _warn_if_none_is_within(path: LambdaPath) -> None:
    if not path.is_within:
        warnings.warn(path.reason, UserWarning, stacklevel=3)
