"""A small module, its cells at each stage, and the fit of a stage in small batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from indiseek_sc.module import IndiSeekModule, make_settings
from indiseek_sc.nn import build_transform
from indiseek_sc.train import Device, KeepBest, StageData, StageFit, StagePlan, StageProgress, TrainerOptions, fit_stage

N_FEATURES = {"rna": 7, "adt": 6}
N_CELLS = 120
TRAIN, VALIDATION = torch.arange(0, 90), torch.arange(90, 120)


def make(n_features: dict[str, int], preset: str, **changes) -> IndiSeekModule:
    torch.manual_seed(0)
    transforms = {name: build_transform("adt", "representation", n, n_cells=N_CELLS) for name, n in n_features.items()}
    for transform in transforms.values():
        transform.center.zero_()
        transform.scale.fill_(1.0)
    settings = make_settings(preset, **{"n_shared": 3, "n_specific": 3, "n_hidden": 16, **changes})
    return IndiSeekModule(transforms, settings.architecture)


@pytest.fixture
def make_module() -> Callable[..., IndiSeekModule]:
    """Return a function that creates a module whose transforms are identities."""
    return lambda preset="default", **changes: make(N_FEATURES, preset, **changes)


@pytest.fixture
def make_module_of_three() -> Callable[..., IndiSeekModule]:
    """Return a function that creates such a module with three modalities, without linear start."""
    return lambda **changes: make({**N_FEATURES, "atac": 5}, "default", **{"linear_start": False, **changes})


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    """Cells whose first two features are shared by both modalities, up to noise."""
    generator = torch.Generator().manual_seed(0)
    cells = {role: torch.randn(N_CELLS, n, generator=generator) for role, n in N_FEATURES.items()}
    cells["adt"][:, :2] = cells["rna"][:, :2] + 0.3 * cells["adt"][:, :2]
    return cells


@pytest.fixture
def features_of_three(features) -> dict[str, torch.Tensor]:
    """The same cells with a third modality that shares these two features."""
    third = torch.randn(N_CELLS, 5, generator=torch.Generator().manual_seed(2))
    third[:, :2] = features["rna"][:, :2] + 0.3 * third[:, :2]
    return {**features, "atac": third}


@pytest.fixture
def prepare_cells() -> Callable[..., dict[str, dict[str, torch.Tensor]]]:
    """Return a function that prepares a module for stage 2 and returns inputs of the critics."""

    def bring(module: IndiSeekModule, features: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        module.frozen = ("transforms", "encoders", "rotations")
        module.eval()
        no_batch = torch.zeros(N_CELLS, dtype=torch.long)
        with torch.no_grad():
            conditions = {m: module.condition(m, module.shared(m, x), no_batch) for m, x in features.items()}
            for name, encoder_decoder in module.encoder_decoders.items():
                encoder_decoder.fit(features[name], conditions[name], module.n_shared)
                if module.architecture.conditional_encoder_decoder:
                    encoder_decoder.fit_whitening(features[name], conditions[name], N_CELLS * 3 // 4)
                    encoder_decoder.freeze_start(features[name], conditions[name])
            return {name: module.prepare_specific(name, features, conditions) for name in module.modalities}

    return bring


@pytest.fixture
def prepare(features, prepare_cells) -> Callable[[IndiSeekModule], dict[str, dict[str, torch.Tensor]]]:
    """Return the same function for the cells of two modalities."""
    return lambda module: prepare_cells(module, features)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., StageFit]:
    """Return a function that fits a stage in small batches, with options of ``TrainerOptions``."""
    monkeypatch.chdir(tmp_path)

    def start(
        plan: StagePlan,
        cells,
        *,
        keep_best: KeepBest | None = None,
        n_extra: int = 0,
        stage: str = "stage",
        max_epochs: int = 2,
        limit_train_batches: int = 100,
        device: Device = Device(),
        progress: bool = False,
        **options,
    ) -> StageFit:
        torch.manual_seed(0)
        plan.to(device.torch)
        on_device = {
            name: {key: y.to(device.torch) for key, y in x.items()} if isinstance(x, dict) else x.to(device.torch)
            for name, x in cells.items()
        }
        rows = TRAIN.to(device.torch), VALIDATION.to(device.torch)
        fit, trainer = fit_stage(
            plan,
            StageData(on_device, *rows, batch_size=30, n_extra=n_extra),
            stage=stage,
            keep_best=KeepBest({"latest": plan.module}, patience=0) if keep_best is None else keep_best,
            progress=StageProgress("Stage", {"train_loss": "loss"}),
            device=device,
            options=TrainerOptions(enable_progress_bar=progress, **options),
            max_epochs=max_epochs,
            limit_train_batches=limit_train_batches,
        )
        assert trainer is plan.trainer
        return fit

    return start


@pytest.fixture
def changed() -> Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], set[str]]:
    """Return a function that lists the entries in which two state dicts differ."""
    return lambda before, after: {name for name, x in before.items() if not torch.equal(x, after[name])}
