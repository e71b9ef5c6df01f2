"""The closed forms at both ends of stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.nn import LinearMap, RidgeMap, chance_correlation, regularized_cca, shared_strength

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

SUFFICIENT = 0.94
"""Directions are dropped as long as the others tell this share of what all of them tell of the other modality."""

FEWEST_DIRECTIONS = 4

MOST_CELLS = 20_000
"""Cells of each kind on which directions are compared; more would change no choice."""


def _analyse(codes: list[Tensor], split: Split, n: int, *, refit: bool = False) -> tuple:
    train, validation = torch.from_numpy(split.train), torch.from_numpy(split.validation)
    return regularized_cca(*codes, train.to(codes[0].device), validation.to(codes[0].device), n, refit=refit)


@torch.no_grad()
def start_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> None:
    """Start the linear part of the encoders as regularised CCA."""
    *maps, _ = _analyse([features[role] for role in ROLES], split, module.n_shared)
    for role, linear in zip(ROLES, maps, strict=True):
        module.encoders[role].start_from(linear)


@torch.no_grad()
def finish_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> None:
    """Turn the codes into canonical directions, and drop those that sufficiency can spare.

    Where the networks have found hardly more than the linear start, as on a few hundred cells, that is taken instead, fitted
    again on training and validation cells together.
    """
    module.eval()
    codes = [module.encoders[role](features[role]) for role in ROLES]
    *maps, correlation = _analyse(codes, split, module.n_shared, refit=True)
    *start, _ = _analyse([features[role] for role in ROLES], split, module.n_shared)
    start_codes = [linear(features[role].double()) for role, linear in zip(ROLES, start, strict=True)]
    # Both are read after a second analysis, since choosing its ridges on the validation cells flatters either.
    *_, start_correlation = _analyse(start_codes, split, module.n_shared)
    n_validation = split.validation.size
    strength, start_strength = (shared_strength(c, n_validation) for c in (correlation, start_correlation))
    if strength < (1 + chance_correlation(n_validation)) * start_strength:
        *start, correlation = _analyse([features[role] for role in ROLES], split, module.n_shared, refit=True)
        for role, linear in zip(ROLES, start, strict=True):
            module.encoders[role].start_from(linear)
        codes = [module.encoders[role](features[role]) for role in ROLES]
        identity = LinearMap(codes[0].new_zeros(module.n_shared), torch.eye(module.n_shared).to(codes[0]))
        maps = [identity, identity]
    by_correlation = correlation.argsort(descending=True, stable=True)
    rotated = {
        role: linear(code.to(linear.weight.dtype))[:, by_correlation]
        for role, linear, code in zip(ROLES, maps, codes, strict=True)
    }
    kept = choose_directions(rotated, features, split)
    dropped = [n for n in range(module.n_shared) if n not in kept]
    order = by_correlation[torch.tensor([*kept, *dropped], device=by_correlation.device)]
    correlation = correlation[order]
    correlation[len(kept) :] = 0.0
    for role, linear in zip(ROLES, maps, strict=True):
        module.rotations[role].set(linear._replace(weight=linear.weight[:, order]), correlation)


def choose_directions(shared: Mapping[Role, Tensor], features: Mapping[Role, Tensor], split: Split) -> list[int]:
    """Return directions that are sufficient together, in their order, without any label.

    Sufficiency is the share of the other modality's variance that a ridge regression on the directions explains, relative to
    that on all of them, averaged over both modalities and read on validation cells. The direction that the others can spare
    best is dropped, again and again, while they stay sufficient: fewer directions are more purely shared, too few leave
    shared signal to the specific codes.

    Parameters
    ----------
    shared
        Rotated codes by role, shape ``(n_cells, n_shared)``.
    features
        Features by role, shape ``(n_cells, n_features)``.
    split
        Regressions are fitted on its training cells and read on its validation cells.
    """
    kept = list(range(shared["rna"].shape[1]))
    told_by_all = {role: max(_explained(shared[role], features[other(role)], split), 1e-12) for role in ROLES}

    def told(directions: list[int]) -> float:
        explained = {role: _explained(shared[role][:, directions], features[other(role)], split) for role in ROLES}
        return sum(explained[role] / told_by_all[role] for role in ROLES) / len(ROLES)

    while len(kept) > FEWEST_DIRECTIONS:
        candidates = [[n for n in kept if n != direction] for direction in reversed(kept)]
        best = max(candidates, key=told)
        if told(best) < SUFFICIENT:
            break
        kept = best
    return kept


def _explained(x: Tensor, y: Tensor, split: Split) -> float:
    train, validation = (
        torch.from_numpy(rows[:: max(1, rows.size // MOST_CELLS)]).to(x.device)
        for rows in (split.train, split.validation)
    )
    regression = RidgeMap(x.shape[1], y.shape[1]).to(x.device, torch.float64)
    regression.fit(x[train], y[train])
    missed = (y[validation].double() - regression(x[validation].double())).square().sum()
    return float(1 - missed / (y[validation].double() - y[train].double().mean(dim=0)).square().sum())
