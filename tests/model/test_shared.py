from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.model._shared import (
    MIN_R2_RATIO,
    MIN_RETAINED_R2,
    Within,
    find_sufficient,
    finish_shared,
    is_sufficient,
    start_shared,
)
from indiseek_sc.nn import CanonicalRotation, SharedEncoder
from indiseek_sc.train import Rows

ROWS = Rows(torch.arange(0, 1500), torch.arange(1500, 2000))
ALL = Within(None, ROWS.train)
"""No covariate effects are removed."""


def draw(weights: list[float]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Draw shared directions, and as features these times a weight and one noise feature."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(2000, len(weights), generator=generator)
    weighted = shared * torch.tensor(weights)
    features = torch.cat([weighted, torch.randn(2000, 1, generator=generator)], dim=1)
    return {"rna": shared, "adt": shared}, {"rna": features, "adt": features}


def kept_of(axes: torch.Tensor) -> torch.Tensor:
    """Return the share of each direction within the span of the axes, between 0 and 1."""
    return axes.square().sum(dim=1)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0, 1.0, 1.0, 1.0, 0.01, 0.01],
        [1.0, 0.01, 1.0, 1.0, 0.01, 1.0],  # uninformative directions before the last
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [0.01, 0.01, 1.0, 0.01, 0.01, 0.01],
    ],
)
def test_uninformative_axes_are_dropped_at_any_position(weights):
    axes = find_sufficient(*draw(weights), ROWS)
    is_informative = torch.tensor(weights) == 1
    assert axes.shape == (6, int(is_informative.sum()))
    torch.testing.assert_close(kept_of(axes), is_informative.double(), atol=0.02, rtol=0)


def test_informative_axes_are_found_after_a_rotation():
    """Two axes explain everything, even if all directions are rotated into each other."""
    shared, features = draw([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3))).Q
    axes = find_sufficient({role: x @ turn for role, x in shared.items()}, features, ROWS)
    assert axes.shape == (6, 2)
    torch.testing.assert_close(axes.T @ axes, torch.eye(2, dtype=axes.dtype))
    torch.testing.assert_close(kept_of(turn.double() @ axes)[:2], torch.ones(2).double(), atol=0.02, rtol=0)


def test_at_least_one_axis_is_kept():
    shared, features = draw([0.0, 0.0])
    axes = find_sufficient(shared, {role: torch.zeros_like(x) for role, x in features.items()}, ROWS)
    assert 1 <= axes.shape[1] <= 2


def test_kept_axes_are_sufficient():
    weights = [1.0, 0.6, 0.5, 0.4, 0.3, 0.2]
    axes = find_sufficient(*draw(weights), ROWS)
    explained = (kept_of(axes) * torch.tensor(weights).square()).sum() / sum(w**2 for w in weights)
    assert MIN_RETAINED_R2 - 0.02 <= explained < 1
    assert axes.shape[1] < 6


def make_module(n_active: int = 5) -> SimpleNamespace:
    torch.manual_seed(0)
    encoders = {role: SharedEncoder(6, 5, 16, 1, dropout=0.0, n_active=n_active) for role in ROLES}
    rotations = {role: CanonicalRotation(5) for role in ROLES}

    def shared(role: str, features: torch.Tensor) -> torch.Tensor:
        return rotations[role](encoders[role](features))

    return SimpleNamespace(
        modalities=ROLES,
        other=other,
        encoders=encoders,
        rotations=rotations,
        n_shared=5,
        shared=shared,
        eval=lambda: None,
    )


def draw_pairs(*, hidden: bool) -> dict[str, torch.Tensor]:
    """Draw modalities with four common linear directions and, if ``hidden``, a quadratic one."""
    torch.manual_seed(1)
    common = torch.randn(2000, 5)
    second = torch.cat([common[:, :4], common[:, 4:].square() if hidden else torch.randn(2000, 1)], dim=1)
    noise = 0.5 * torch.randn(2, 2000, 6)
    return {
        "rna": torch.cat([common, torch.randn(2000, 1)], dim=1) + noise[0],
        "adt": torch.cat([second, torch.randn(2000, 1)], dim=1) + noise[1],
    }


def find_square(module: SimpleNamespace) -> None:
    """Make the RNA network add the square of the fifth feature to the last direction."""
    network = torch.nn.Module()
    network.forward = lambda x: torch.nn.functional.pad(x[:, 4:5].square(), (4, 0))
    module.encoders["rna"].network = torch.nn.Sequential(network, torch.nn.Linear(5, 5, bias=True))
    torch.nn.init.eye_(module.encoders["rna"].network[-1].weight)
    torch.nn.init.zeros_(module.encoders["rna"].network[-1].bias)
    module.encoders["adt"].linear.weight.data[-1] = torch.eye(6)[4]


def test_an_uninformative_network_is_replaced_by_the_linear_start():
    features, module = draw_pairs(hidden=False), make_module()
    start = start_shared(module, features, ROWS, ALL)
    torch.nn.init.normal_(module.encoders["rna"].network[-1].weight, std=0.02)
    finish_shared(module, features, ROWS, ALL, start)
    for role in ROLES:
        assert (module.encoders[role].network(features[role]) == 0).all()
    latents = [module.rotations[role](module.encoders[role](features[role])).detach() for role in ROLES]
    kept = module.rotations["rna"].n_kept
    assert kept == 4
    spread = torch.cat([latent[:2000].std(dim=0, correction=0)[None] for latent in latents])
    torch.testing.assert_close(
        spread[:, :kept], module.rotations["rna"].correlation[:kept].expand(2, -1), rtol=1e-3, atol=0
    )


def test_an_informative_network_is_kept():
    features, module = draw_pairs(hidden=True), make_module()
    start = start_shared(module, features, ROWS, ALL)
    find_square(module)
    finish_shared(module, features, ROWS, ALL, start)
    assert (module.encoders["rna"].network(features["rna"]) != 0).any()


@pytest.mark.parametrize("n_active", [1, 2, 3, 4, 5])
def test_representations_are_sufficient_if_they_contain_all_directions(n_active):
    features, module = draw_pairs(hidden=False), make_module(n_active)
    finish_shared(module, features, ROWS, ALL, start_shared(module, features, ROWS, ALL))
    for role in ROLES:
        assert module.rotations[role].n_kept == min(n_active, 4)
        latent = module.shared(role, features[role])
        assert (latent[:, min(n_active, 4) :] == 0).all()
        assert (latent[:, : min(n_active, 4)].std(dim=0) > 0.1).all()
    assert is_sufficient(module, features, ROWS, ALL) == (n_active >= 4)


def test_both_representations_must_be_sufficient():
    features, module = draw_pairs(hidden=False), make_module()
    finish_shared(module, features, ROWS, ALL, start_shared(module, features, ROWS, ALL))
    lost = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0]))
    shared = module.shared
    for blind in ROLES:
        module.shared = lambda role, x, blind=blind: shared(role, x) @ lost if role == blind else shared(role, x)
        assert not is_sufficient(module, features, ROWS, ALL)
    assert 0.5 < MIN_R2_RATIO < 1


def test_batch_effects_of_both_modalities_are_not_a_shared_direction():
    """Without correction, the difference of batch means would be the most shared direction."""
    features = draw_pairs(hidden=False)
    design = torch.eye(3)[torch.arange(2000) % 3]
    added = design @ torch.tensor([[4.0], [0.0], [-4.0]])
    features = {role: torch.cat([x[:, :-1], x[:, -1:] + added], dim=1) for role, x in features.items()}
    explained = {}
    for within in (ALL, Within(design, ROWS.train)):
        module = make_module()
        finish_shared(module, features, ROWS, within, start_shared(module, features, ROWS, within))
        latent = module.shared("rna", features["rna"]).detach()
        means = design.T @ latent / design.sum(dim=0)[:, None]
        explained[within is ALL] = float((means.var(dim=0) / latent.var(dim=0).clamp(min=1e-9)).max())
    assert explained[True] > 0.8
    assert explained[False] < 0.1


def test_within_subtracts_a_regression_fitted_on_training_cells():
    values, design = torch.randn(2000, 4) + torch.arange(2000)[:, None] % 3, torch.eye(3)[torch.arange(2000) % 3]
    found = Within(design, ROWS.train)(values)
    torch.testing.assert_close(found.mean(dim=0), values.mean(dim=0), atol=0.02, rtol=0)
    means = torch.stack([found[ROWS.train][design[ROWS.train].argmax(dim=1) == b].mean(dim=0) for b in range(3)])
    torch.testing.assert_close(means, means[:1].expand_as(means), atol=0.02, rtol=0)
    some = torch.cat([ROWS.train[::2], ROWS.validation[::2]])
    torch.testing.assert_close(Within(design, ROWS.train)(values[some], some), found[some], atol=0.2, rtol=0)
