from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.model._closed_forms import (
    FEWEST_DIRECTIONS,
    SUFFICIENT,
    choose_directions,
    finish_shared,
    start_shared,
)
from indiseek_sc.nn import CanonicalRotation, SharedEncoder
from indiseek_sc.train import Split

SPLIT = Split(np.arange(0, 1500), np.arange(1500, 2000), np.arange(0))


def draw(weights: list[float]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Six directions, of which each tells its weight of every modality's features, and noise as strong as the first."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(2000, len(weights), generator=generator)
    told = shared * torch.tensor(weights)
    features = torch.cat([told, torch.randn(2000, 1, generator=generator)], dim=1)
    return {"rna": shared, "adt": shared}, {"rna": features, "adt": features}


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ([1.0, 1.0, 1.0, 1.0, 0.01, 0.01], [0, 1, 2, 3]),
        ([1.0, 0.01, 1.0, 1.0, 0.01, 1.0], [0, 2, 3, 5]),  # the last one is needed, others before it are not
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_directions_that_tell_nothing_are_dropped_wherever_they_stand(weights, kept):
    assert choose_directions(*draw(weights), SPLIT) == kept


def test_some_directions_are_always_kept():
    kept = choose_directions(*draw([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), SPLIT)
    assert len(kept) == FEWEST_DIRECTIONS
    assert kept[0] == 0


def test_what_is_kept_is_sufficient():
    weights = [1.0, 0.6, 0.5, 0.4, 0.3, 0.2]
    kept = choose_directions(*draw(weights), SPLIT)
    told = sum(weights[n] ** 2 for n in kept) / sum(w**2 for w in weights)
    assert told >= SUFFICIENT - 0.02
    assert len(kept) < 6


def make_module() -> SimpleNamespace:
    torch.manual_seed(0)
    encoders = {role: SharedEncoder(6, 5, 16, 1, dropout=0.0) for role in ROLES}
    rotations = {role: CanonicalRotation(5) for role in ROLES}
    return SimpleNamespace(encoders=encoders, rotations=rotations, n_shared=5, eval=lambda: None)


def draw_pairs(*, hidden: bool) -> dict[str, torch.Tensor]:
    """Two modalities with four linear directions in common, and if hidden, a fifth that one of them holds as a square."""
    torch.manual_seed(1)
    common = torch.randn(2000, 5)
    second = torch.cat([common[:, :4], common[:, 4:].square() if hidden else torch.randn(2000, 1)], dim=1)
    noise = 0.5 * torch.randn(2, 2000, 6)
    return {
        "rna": torch.cat([common, torch.randn(2000, 1)], dim=1) + noise[0],
        "adt": torch.cat([second, torch.randn(2000, 1)], dim=1) + noise[1],
    }


def find_square(module: SimpleNamespace) -> None:
    """Let the network of the RNA add the square of its fifth feature to the last direction, as if it had learned it."""
    network = torch.nn.Module()
    network.forward = lambda x: torch.nn.functional.pad(x[:, 4:5].square(), (4, 0))
    module.encoders["rna"].network = torch.nn.Sequential(network, torch.nn.Linear(5, 5, bias=True))
    torch.nn.init.eye_(module.encoders["rna"].network[-1].weight)
    torch.nn.init.zeros_(module.encoders["rna"].network[-1].bias)
    module.encoders["adt"].linear.weight.data[-1] = torch.eye(6)[4]


def test_a_network_that_found_nothing_gives_way_to_the_linear_start():
    features, module = draw_pairs(hidden=False), make_module()
    start = start_shared(module, features, SPLIT)
    torch.nn.init.normal_(module.encoders["rna"].network[-1].weight, std=0.02)
    finish_shared(module, features, SPLIT, start)
    for role in ROLES:
        assert (module.encoders[role].network(features[role]) == 0).all()
    codes = [module.rotations[role](module.encoders[role](features[role])).detach() for role in ROLES]
    kept = module.rotations["rna"].n_kept
    assert kept == FEWEST_DIRECTIONS
    spread = torch.cat([code[:2000].std(dim=0, correction=0)[None] for code in codes])
    torch.testing.assert_close(
        spread[:, :kept], module.rotations["rna"].correlation[:kept].expand(2, -1), rtol=1e-3, atol=0
    )


def test_a_network_that_found_more_stays():
    features, module = draw_pairs(hidden=True), make_module()
    start = start_shared(module, features, SPLIT)
    find_square(module)
    finish_shared(module, features, SPLIT, start)
    assert (module.encoders["rna"].network(features["rna"]) != 0).any()
