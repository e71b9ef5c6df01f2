"""The closed forms at both ends of stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc.nn import LinearMap, RidgeMap, chance_correlation, regularized_cca, shared_strength
from indiseek_sc.train import share_told

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

SUFFICIENT = 0.94
"""Directions are dropped as long as the others tell this share of what all of them tell of the other modality."""

ENOUGH = 0.95
"""Codes that tell a smaller share than this of what the features tell of the other modality are too narrow."""

MOST_CELLS = 20_000
"""Directions are compared on every n-th cell of more than about this many, training and validation each."""


def _analyse(codes: list[Tensor], split: Split, n: int, *, refit: bool = False) -> tuple:
    train, validation = torch.from_numpy(split.train), torch.from_numpy(split.validation)
    first, second = codes
    return regularized_cca(first, second, train.to(first.device), validation.to(first.device), n, refit=refit)


def _start_from(module: IndiSeekModule, maps: list[LinearMap]) -> None:
    for role, linear in zip(ROLES, maps, strict=True):
        module.encoders[role].start_from(linear._replace(weight=_pad(linear.weight, module.n_shared)))


def _encode(module: IndiSeekModule, features: Mapping[Role, Tensor]) -> list[Tensor]:
    """Return the columns of the raw codes that are in use."""
    return [module.encoders[role](features[role])[:, : module.encoders[role].n_active] for role in ROLES]


def _pad(matrix: Tensor, n_columns: int, n_rows: int | None = None) -> Tensor:
    """Add columns, and rows if asked, of 0."""
    missing = 0 if n_rows is None else n_rows - matrix.shape[0]
    return torch.nn.functional.pad(matrix, (0, n_columns - matrix.shape[-1], 0, missing))


@torch.no_grad()
def start_shared(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> list[LinearMap]:
    """Start the linear part of the encoders as regularised CCA, and return that."""
    *start, _ = _analyse([features[role] for role in ROLES], split, module.encoders["rna"].n_active)
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
    codes, width = _encode(module, features), module.encoders["rna"].n_active
    *maps, correlation = _analyse(codes, split, width, refit=True)
    if start is not None and not _is_stronger(correlation, start, features, split):
        *refitted, correlation = _analyse([features[role] for role in ROLES], split, width, refit=True)
        _start_from(module, refitted)
        codes = _encode(module, features)  # canonical directions as they are
        unit = torch.eye(width).to(correlation)
        maps = [LinearMap(torch.zeros_like(correlation), unit)] * len(ROLES)
    shared = correlation > chance_correlation(split.validation.size)
    # at least one, whatever chance says: an empty condition has no meaning to the networks behind
    shared[correlation.argmax()] = True
    maps = [linear._replace(weight=(linear.weight / correlation.clamp(min=1e-9))[:, shared]) for linear in maps]
    canonical = {role: linear(code.double()) for role, linear, code in zip(ROLES, maps, codes, strict=True)}
    axes = find_sufficient(canonical, features, split)
    *turned, correlation = _analyse([canonical[role] @ axes for role in ROLES], split, axes.shape[1], refit=True)
    order = correlation.argsort(descending=True, stable=True)
    for role, linear, turn in zip(ROLES, maps, turned, strict=True):
        weight = _pad(linear.weight @ axes @ turn.weight[:, order], module.n_shared, module.n_shared)
        center, padded = (_pad(x[None], module.n_shared)[0] for x in (linear.center, correlation[order]))
        module.rotations[role].set(LinearMap(center, weight), padded)


@torch.no_grad()
def is_sufficient(module: IndiSeekModule, features: Mapping[Role, Tensor], split: Split) -> bool:
    """Whether both shared codes tell nearly all that their modality tells of the other one.

    By :func:`~indiseek_sc.train.share_told`: regressions that are fitted anew on training cells and read on validation cells.
    """
    train, validation = (torch.from_numpy(some_rows(part)) for part in (split.train, split.validation))
    rows = torch.cat([train, validation]).to(features["rna"].device)
    seen = {role: features[role][rows] for role in ROLES}
    for role in ROLES:
        of_code, of_features = (
            share_told(source, seen[other(role)], len(train))
            for source in (module.shared(role, seen[role]), seen[role])
        )
        if of_code < ENOUGH * of_features:
            return False
    return True


def _is_stronger(correlation: Tensor, start: list[LinearMap], features: Mapping[Role, Tensor], split: Split) -> bool:
    """Whether directions correlate better on validation cells than those of the linear start, by more than chance."""
    codes = [linear(features[role].double()) for role, linear in zip(ROLES, start, strict=True)]
    # Analysed once more, as the codes of the networks were: choosing ridges on the validation cells flatters either.
    *_, start_correlation = _analyse(codes, split, correlation.shape[0])
    n_cells = split.validation.size
    threshold = (1 + chance_correlation(n_cells)) * shared_strength(start_correlation, n_cells)
    return shared_strength(correlation, n_cells) >= threshold


def find_sufficient(shared: Mapping[Role, Tensor], features: Mapping[Role, Tensor], split: Split) -> Tensor:
    """Return the narrowest turned axes of the shared codes that tell nearly all that all of them tell, without any label.

    Axes are those of a reduced-rank regression of both modalities on each other's code, the most telling first. Canonical
    directions themselves would not do: where their correlations are alike, any turn of them is as canonical, and each may
    tell a little of everything. Axes are kept until the regressions on them explain, on validation cells, the share
    ``SUFFICIENT`` of what they explain on all, averaged over both modalities: fewer are more purely shared, too few leave
    shared signal to the specific codes.

    Parameters
    ----------
    shared
        Codes of canonical directions by role, shape ``(n_cells, n_shared)``.
    features
        Features by role, shape ``(n_cells, n_features)``.
    split
        Regressions are fitted on its training cells and read on its validation cells.

    Returns
    -------
    Orthonormal axes, shape ``(n_shared, n_kept)``, for codes of unit variance.
    """
    pairs = [(shared[role], features[other(role)]) for role in ROLES]
    train, validation = (
        [(x[rows.to(x.device)].double(), y[rows.to(y.device)].double()) for x, y in pairs]
        for rows in (torch.from_numpy(some_rows(part)) for part in (split.train, split.validation))
    )

    def explain(axes: Tensor) -> Tensor:
        return torch.tensor(
            [
                _explained(x @ axes, y, seen @ axes, wanted)
                for (x, y), (seen, wanted) in zip(train, validation, strict=True)
            ],
            dtype=torch.float64,
        )

    covariances = [(x - x.mean(dim=0)).T @ (y - y.mean(dim=0)) / len(x) for x, y in train]
    told = torch.stack([c @ c.T / c.square().sum().clamp(min=1e-12) for c in covariances]).sum(dim=0)
    axes = torch.linalg.eigh(told).eigenvectors.flip(1)
    explained_by_all = explain(axes).clamp(min=1e-12)
    for n_kept in range(1, axes.shape[1]):
        if float((explain(axes[:, :n_kept]) / explained_by_all).mean()) >= SUFFICIENT:
            return axes[:, :n_kept]
    return axes


def some_rows(rows: np.ndarray) -> np.ndarray:
    """Return every n-th of more than about 20,000 rows."""
    return rows[:: max(1, rows.size // MOST_CELLS)]


def _explained(x: Tensor, y: Tensor, seen: Tensor, wanted: Tensor) -> float:
    """Share of the variance of ``wanted`` that a ridge regression of ``y`` on ``x`` predicts from ``seen``."""
    regression = RidgeMap(x.shape[1], y.shape[1]).to(x.device, x.dtype)
    regression.fit(x, y)
    missed = (wanted - regression(seen)).square().sum()
    return float(1 - missed / (wanted - y.mean(dim=0)).square().sum())
