"""Small modules whose transforms return the raw values unchanged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.module import IndiSeekModule, make_settings
from indiseek_sc.nn import FeatureTransform, build_transform

N_FEATURES = {"rna": 7, "adt": 5}
N_FEATURES_OF_THREE = {"rna": 7, "adt": 5, "atac": 6}


def make_transform(n_features: int) -> FeatureTransform:
    transform = build_transform("adt", "representation", n_features, n_cells=100)
    transform.center.zero_()
    transform.scale.fill_(1.0)
    return transform


@pytest.fixture
def make_module() -> Callable[..., IndiSeekModule]:
    """Return a function that builds a module from a preset with changed settings."""

    def make(preset: str = "default", n_batches: int = 1, seed: int = 0, **changes) -> IndiSeekModule:
        torch.manual_seed(seed)
        settings = make_settings(preset, **{"n_shared": 3, "n_specific": 4, "n_hidden": 16, **changes})
        return IndiSeekModule({r: make_transform(N_FEATURES[r]) for r in ROLES}, settings.architecture, (n_batches,))

    return make


@pytest.fixture
def make_module_of_three() -> Callable[..., IndiSeekModule]:
    """Return a function that builds a module of three modalities, without a linear start."""

    def make(n_batches: int = 1, **changes) -> IndiSeekModule:
        torch.manual_seed(0)
        sizes = {"n_shared": 3, "n_specific": 4, "n_hidden": 16}
        settings = make_settings("default", **{**sizes, "linear_start": False, "dropout": 0.0, **changes})
        transforms = {name: make_transform(n) for name, n in N_FEATURES_OF_THREE.items()}
        return IndiSeekModule(transforms, settings.architecture, (n_batches,))

    return make


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    """Draw 60 cells whose first two features are common to both modalities, up to noise."""
    generator = torch.Generator().manual_seed(0)
    cells = {role: torch.randn(60, n, generator=generator) for role, n in N_FEATURES.items()}
    cells["adt"][:, :2] = cells["rna"][:, :2] + 0.3 * cells["adt"][:, :2]
    return cells


@pytest.fixture
def features_of_three(features) -> dict[str, torch.Tensor]:
    """Add a third modality that has the two features in common with the others."""
    third = torch.randn(60, N_FEATURES_OF_THREE["atac"], generator=torch.Generator().manual_seed(2))
    third[:, :2] = features["rna"][:, :2] + 0.3 * third[:, :2]
    return {**features, "atac": third}


@pytest.fixture
def disturb() -> Callable[[IndiSeekModule], None]:
    """Return a function that changes everything that a stage may have trained or fitted."""

    def move(module: IndiSeekModule) -> None:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for role in ROLES:
            rotation = module.rotations[role]
            rotation.weight += 0.1
            rotation.correlation.copy_(torch.linspace(0.9, 0.5, module.n_shared))

    return move
