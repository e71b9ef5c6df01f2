from __future__ import annotations

import numpy as np
import pytest
import torch

from indiseek_sc.model._closed_forms import FEWEST_DIRECTIONS, SUFFICIENT, choose_directions
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
