"""Small modules of the baselines and their inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.module import IndiSeekModule, make_settings
from indiseek_sc.nn import build_transform

N_FEATURES = {"rna": 7, "adt": 5}
N_CELLS = 60
BATCH = torch.eye(2)[torch.arange(N_CELLS) % 2]


@pytest.fixture
def make_module() -> Callable[..., IndiSeekModule]:
    """Return a function that creates the module of a model class with changed settings."""

    def make(model: type, n_batches: int = 2, **changes) -> IndiSeekModule:
        torch.manual_seed(0)
        transforms = {r: build_transform(r, "representation", N_FEATURES[r], n_cells=N_CELLS) for r in ROLES}
        sizes = {"n_shared": 3, "n_specific": 4, "n_hidden": 16, "dropout": 0.0}
        settings = make_settings("default", **{**model._changed_settings, **sizes, **changes})
        return model._module_cls(transforms, settings.architecture, (n_batches,))

    return make


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {role: torch.randn(N_CELLS, n, generator=generator) for role, n in N_FEATURES.items()}


@pytest.fixture
def prepare(features) -> Callable[[IndiSeekModule], dict[str, dict[str, torch.Tensor]]]:
    """Return a function that fits the encoder-decoders and returns the inputs of stage 2."""

    @torch.no_grad()
    def prepare(module: IndiSeekModule) -> dict[str, dict[str, torch.Tensor]]:
        module.eval()
        conditions = {r: module.condition(r, module.shared(r, features[r]), BATCH) for r in ROLES}
        for role in ROLES:
            module.encoder_decoders[role].fit(features[role], conditions[role], module.n_shared)
            if module.architecture.conditional_encoder_decoder:
                module.encoder_decoders[role].fit_whitening(features[role], conditions[role], N_CELLS * 3 // 4)
        return {role: module.prepare_specific(role, features, conditions) for role in ROLES}

    return prepare
