"""A walk along lambda: specific codes are trained at one after another, and each judged on validation cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.metrics import LambdaPath, SpecificAuditor, choose_lambda

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from indiseek_sc.model._stages import Stages

LAMBDAS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""From next to no correction of the start to next to no regard for it."""


class LambdaWalk:
    """Trains stage 2 at lambdas and judges it, on training and validation cells alone.

    Parameters
    ----------
    run
        The stages, with shared codes that are trained.
    batch
        Batch of each cell, shape ``(n_cells,)``.
    seed
        Seed of the probes.
    """

    def __init__(self, run: Stages, batch: Tensor, *, seed: int) -> None:
        self.run, self.batch, self.seed = run, batch, seed
        split = run.split
        self.rows = np.concatenate([split.train, split.validation])
        self.parts = {"train": np.arange(split.train.size), "test": np.arange(split.train.size, self.rows.size)}
        self._auditor: SpecificAuditor | None = None
        self._states: dict[float, tuple[dict[str, Tensor], dict]] = {}
        self._start: dict[str, Tensor] = {}

    def start(self, *, from_trained: bool) -> str | None:
        """Bring the codes to the start of the walk; see :meth:`Stages.start_specific`."""
        reason = self.run.start_specific(self.batch, from_trained=from_trained)
        self._start = self._copy_state()
        return reason

    def walk(
        self, lambdas: Sequence[float], tolerance: float, *, warm_start: bool, to_the_end: bool
    ) -> tuple[LambdaPath | None, str | None]:
        """Go from the largest lambda down, and choose one.

        Returns
        -------
        What was found, None if not even the first lambda was finished; and why the walk ended early, in words, or None.
        """
        tables: list[pd.DataFrame] = []
        reason = None
        for lambda_ in sorted(lambdas, reverse=True):
            if tables and not (warm_start and self.run.CAN_START_WARM):
                self.return_to_start()
            if (reason := self._train(lambda_)) is not None:
                break
            tables.append(self.judge(lambda_))
            if not to_the_end and choose_lambda(tables[-1], tolerance).is_within:
                break
        return self.conclude(tables, tolerance) if tables else None, reason

    def try_alone(self, lambda_: float) -> pd.DataFrame:
        """Train at one lambda from the start, and judge."""
        self.return_to_start()
        if (reason := self._train(lambda_)) is not None:
            raise RuntimeError(f"Lambda {lambda_:g}: {reason}")
        return self.judge(lambda_)

    def _train(self, lambda_: float) -> str | None:
        """Train from where the codes are, and remember where that led, unless it ended early."""
        reason = self.run.train_critics(lambda_)
        if reason is None:
            self._states[lambda_] = self._copy_state(), dict(self.run.model.history_ or {})
        return reason

    def conclude(self, tables: Sequence[pd.DataFrame], tolerance: float) -> LambdaPath:
        """Put the figures of all lambdas together, and choose."""
        table = pd.concat(tables, ignore_index=True)
        choice = choose_lambda(table, tolerance)
        n_train, n_test = (part.size for part in self.parts.values())
        return LambdaPath(table, choice.value, tolerance, choice.reason, n_train=n_train, n_test=n_test)

    def return_to_start(self) -> None:
        """Forget what was trained since the start."""
        self.run.module.load_state_dict(self._start)

    def return_to(self, lambda_: float) -> None:
        """Bring the codes back to where they were at a lambda of this walk."""
        state, history = self._states[lambda_]
        self.run.module.load_state_dict(state)
        self.run.model.history_ = history

    def judge(self, lambda_: float) -> pd.DataFrame:
        """Figures of the codes as they are, a row a modality."""
        features, shared, specific, decoded = self._encode()
        # What does not depend on Z is probed once, unless a method changes its shared codes along the way.
        known = self._auditor
        if known is None or any(not np.array_equal(shared[name], known.shared[name]) for name in shared):
            self._auditor = known = SpecificAuditor(features, shared, **self.parts, seed=self.seed)
        figures = known(specific, decoded).rename_axis("modality").reset_index()
        figures.insert(0, "lambda", float(lambda_))
        return figures

    @torch.inference_mode()
    def _encode(self) -> list[dict[str, np.ndarray]]:
        """Features, shared codes, specific codes and what they decode to, by modality, of training and validation cells."""
        module, names = self.run.module, self.run.model.modalities
        module.eval()
        rows = torch.from_numpy(self.rows).to(self.batch.device)
        features = {role: x[rows] for role, x in self.run.features.items()}
        codes = module.describe(features, self.batch[rows])
        kinds = (features, codes["shared"], codes["specific"], codes["reconstruction"])
        return [{names[role]: kind[role].cpu().numpy() for role in ROLES} for kind in kinds]

    def _copy_state(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self.run.module.state_dict().items()}
