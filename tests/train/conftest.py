"""A small module, its cells at each stage, and what a runner needs of a model."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.module import IndiSeekModule, make_settings
from indiseek_sc.nn import build_transform
from indiseek_sc.train import KeepBest, StageData, StageProgress, StageRunner
from indiseek_sc.train._plans import StagePlan

N_FEATURES = {"rna": 7, "adt": 6}
N_CELLS = 120
TRAIN, VALIDATION = np.arange(0, 90), np.arange(90, 120)


@pytest.fixture
def make_module() -> Callable[..., IndiSeekModule]:
    """Return a function that makes a module whose features are handed through as they are."""

    def make(preset: str = "default", **changes) -> IndiSeekModule:
        torch.manual_seed(0)
        transforms = {r: build_transform(r, "representation", N_FEATURES[r], n_cells=N_CELLS) for r in ROLES}
        for transform in transforms.values():
            transform.center.zero_()
            transform.scale.fill_(1.0)
        settings = make_settings(preset, **{"n_shared": 3, "n_specific": 3, "n_hidden": 16, **changes})
        return IndiSeekModule(transforms, settings)

    return make


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    """Cells whose first two features are common to both modalities, up to noise."""
    generator = torch.Generator().manual_seed(0)
    cells = {role: torch.randn(N_CELLS, n, generator=generator) for role, n in N_FEATURES.items()}
    cells["adt"][:, :2] = cells["rna"][:, :2] + 0.3 * cells["adt"][:, :2]
    return cells


@pytest.fixture
def prepare(features) -> Callable[[IndiSeekModule], dict[str, dict[str, torch.Tensor]]]:
    """Return a function that brings a module to the critics' stage and returns its cells."""

    def bring(module: IndiSeekModule) -> dict[str, dict[str, torch.Tensor]]:
        module.frozen = ("transforms", "encoders", "rotations")
        module.eval()
        no_batch = torch.zeros(N_CELLS, dtype=torch.long)
        with torch.no_grad():
            conditions = {r: module.condition(r, module.shared(r, features[r]), no_batch) for r in ROLES}
            for role in ROLES:
                module.codecs[role].fit(features[role], conditions[role], module.n_shared)
                if module.settings.conditional_codec:
                    module.codecs[role].freeze_start(features[role], conditions[role])
            return {role: module.prepare_specific(role, features, conditions) for role in ROLES}

    return bring


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., StageRunner]:
    """Return a function that runs a stage in small batches and returns its runner, with the reason in ``reason``."""
    monkeypatch.chdir(tmp_path)

    def start(
        plan: StagePlan,
        cells,
        *,
        keep_best: KeepBest | None = None,
        n_extra: int = 0,
        model: SimpleNamespace | None = None,
        stage: str = "stage",
        max_epochs: int = 2,
        callbacks: tuple = (),
        progress: bool = False,
    ) -> StageRunner:
        torch.manual_seed(0)
        runner = StageRunner(
            SimpleNamespace(module=plan.module, history_=None) if model is None else model,
            plan,
            StageData(cells, TRAIN, VALIDATION, batch_size=30, n_extra=n_extra),
            stage=stage,
            keep_best=KeepBest({"latest": plan.module}, patience=0) if keep_best is None else keep_best,
            progress=StageProgress("Stage", {"train_loss": "loss"}),
            max_epochs=max_epochs,
            accelerator="cpu",
            callbacks=list(callbacks),
            enable_progress_bar=progress,
        )
        runner.reason = runner()
        return runner

    return start


@pytest.fixture
def changed() -> Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], set[str]]:
    """Return a function that names the entries of two state dicts that differ in any bit."""
    return lambda before, after: {name for name, x in before.items() if not torch.equal(x, after[name])}
