"""The closed forms at both ends of stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.nn import LinearMap, RidgeMap, chance_correlation, regularized_cca, shared_strength

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

SUFFICIENT = 0.94
"""Directions are dropped as long as the others tell this share of what all of them tell of the other modality."""

FEWEST_DIRECTIONS = 4

MOST_CELLS = 20_000
"""Directions are compared on every n-th cell of more than about this many, training and validation each."""


def _analyse(codes: list[Tensor], split: Split, n: int, *, refit: bool = False) -> tuple:
    train, validation = torch.from_numpy(split.train), torch.from_numpy(split.validation)
    return regularized_cca(*codes, train.to(codes[0].device), validation.to(codes[0].device), n, refit=refit)


def _start_from(module: IndiSeekModule, maps: list[LinearMap]) -> None:
    for role, linear in zip(ROLES, maps, strict=True):
        module.encoders[role].start_from(linear)


def _encode(module: IndiSeekModule, features: Mapping[Role, Tensor]) -> list[Tensor]:
    return [module.encoders[role](features[role]) for role in ROLES]


@torch.no_grad()
def start_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> list[LinearMap]:
    """Start the linear part of the encoders as regularised CCA, and return that."""
    *start, _ = _analyse([features[role] for role in ROLES], split, module.n_shared)
    _start_from(module, start)
    return start


@torch.no_grad()
def finish_shared(
    module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split, start: list[LinearMap] | None = None
) -> None:
    """Turn the codes into canonical directions, and drop those that are not shared and those that sufficiency can spare.

    A direction is not shared if its correlation on validation cells is no more than chance gives. So what a code holds
    privately is taken out of it here, and stays for the specific code. Where the networks have found hardly more than the linear
    ``start``, as on a few hundred cells, that is taken instead, fitted again on training and validation cells together.
    """
    module.eval()
    codes = _encode(module, features)
    *maps, correlation = _analyse(codes, split, module.n_shared, refit=True)
    if start is not None and not _is_stronger(correlation, start, features, split):
        *refitted, correlation = _analyse([features[role] for role in ROLES], split, module.n_shared, refit=True)
        _start_from(module, refitted)
        codes = _encode(module, features)  # canonical directions as they are
        unit = torch.eye(module.n_shared).to(correlation)
        maps = [LinearMap(torch.zeros_like(correlation), unit)] * len(ROLES)
    by_correlation = correlation.argsort(descending=True, stable=True)
    rotated = {
        role: linear(code.double())[:, by_correlation] for role, linear, code in zip(ROLES, maps, codes, strict=True)
    }
    # at least one, whatever chance says: an empty condition has no meaning to the networks behind
    n_shared = max(1, int((correlation > chance_correlation(split.validation.size)).sum()))
    kept = choose_directions({role: code[:, :n_shared] for role, code in rotated.items()}, features, split)
    dropped = [n for n in range(module.n_shared) if n not in kept]
    order = by_correlation[torch.tensor([*kept, *dropped], device=by_correlation.device)]
    correlation = correlation[order]
    correlation[len(kept) :] = 0.0
    for role, linear in zip(ROLES, maps, strict=True):
        module.rotations[role].set(linear._replace(weight=linear.weight[:, order]), correlation)


def _is_stronger(correlation: Tensor, start: list[LinearMap], features: Mapping[Role, Tensor], split: Split) -> bool:
    """Whether directions correlate better on validation cells than those of the linear start, by more than chance."""
    codes = [linear(features[role].double()) for role, linear in zip(ROLES, start, strict=True)]
    # Analysed once more, as the codes of the networks were: choosing ridges on the validation cells flatters either.
    *_, start_correlation = _analyse(codes, split, correlation.shape[0])
    n_cells = split.validation.size
    threshold = (1 + chance_correlation(n_cells)) * shared_strength(start_correlation, n_cells)
    return shared_strength(correlation, n_cells) >= threshold


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
    pairs = [(shared[role], features[other(role)]) for role in ROLES]
    train, validation = (
        [(x[rows.to(x.device)].double(), y[rows.to(y.device)].double()) for x, y in pairs]
        for rows in (_some(split.train), _some(split.validation))
    )

    def explain(directions: list[int]) -> Tensor:
        return torch.tensor(
            [
                _explained(x[:, directions], y, seen[:, directions], wanted)
                for (x, y), (seen, wanted) in zip(train, validation, strict=True)
            ],
            dtype=torch.float64,
        )

    explained_by_all = explain(kept).clamp(min=1e-12)
    while len(kept) > FEWEST_DIRECTIONS:
        candidates = [[n for n in kept if n != direction] for direction in reversed(kept)]
        told = [float((explain(directions) / explained_by_all).mean()) for directions in candidates]
        if max(told) < SUFFICIENT:
            break
        kept = candidates[told.index(max(told))]
    return kept


def _some(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows[:: max(1, rows.size // MOST_CELLS)])


def _explained(x: Tensor, y: Tensor, seen: Tensor, wanted: Tensor) -> float:
    """Share of the variance of ``wanted`` that a ridge regression of ``y`` on ``x`` predicts from ``seen``."""
    regression = RidgeMap(x.shape[1], y.shape[1]).to(x.device, x.dtype)
    regression.fit(x, y)
    missed = (wanted - regression(seen)).square().sum()
    return float(1 - missed / (wanted - y.mean(dim=0)).square().sum())
