"""Stage 1: shared representations between two closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from indiseek_sc.nn import LinearMap, RidgeMap, chance_correlation, map_parts, regularized_cca, shared_strength
from indiseek_sc.train import KeepBest, SharedPlan, StageData, share_explained

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.model._runs import StageRun
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Rows

FEWEST_SHARED_STEPS = 200
"""Stage 1 has more epochs of small data, so that there are as many steps at least."""

SUFFICIENT = 0.94
"""Directions are dropped as long as the others tell this share of what all of them tell of the other modality."""

ENOUGH = 0.95
"""Representations that tell a smaller share than this of what the features tell of the other modality are too narrow."""

MOST_CELLS = 20_000
"""Directions are compared on every n-th cell of more than about this many, training and validation each."""


class Within(NamedTuple):
    """What stage 1 compares cells within: the levels of their covariates, if there are any.

    What a batch does to both modalities would else help to find a cell's partner, and be taken for what they share.
    """

    design: Tensor | None
    """Covariates of all cells, shape ``(n_cells, n_columns)``; none if all cells are compared."""

    train: Tensor
    """Rows of the training cells."""

    def __call__(self, values: Tensor, rows: Tensor | None = None) -> Tensor:
        """Subtract from values of all cells, or some rows, what a linear regression on the covariates explains in training cells."""
        if self.design is None:
            return values
        design = self.design if rows is None else self.design[rows]
        train = self.train if rows is None else torch.isin(rows, self.train).nonzero()[:, 0]
        regression = RidgeMap(design.shape[1], values.shape[1]).to(values.device, values.dtype)
        regression.fit(design.to(values), values, rows=train)
        center = design[train].mean(dim=0)
        return map_parts(lambda x, d: x - (d - center).to(x) @ regression.weight, values, design)


def learn_shared(run: StageRun, features: Mapping[Role, Tensor], design: Tensor) -> dict[str, Any]:
    """Train shared representations between two closed forms; once more and wider where narrow ones are not sufficient."""
    module, a = run.module, run.module.architecture
    within = Within(design if a.within_batches and module.design.n_learned else None, run.rows.train)
    first = min(a.n_shared_first, module.n_shared) if a.linear_start else module.n_shared
    _learn_shared_of(run, features, design, within, first)
    if first < module.n_shared and run.reason is None and not is_sufficient(module, features, run.rows, within):
        _learn_shared_of(run, features, design, within, module.n_shared)
    return {}


def _learn_shared_of(
    run: StageRun, features: Mapping[Role, Tensor], design: Tensor, within: Within, width: int
) -> None:
    module, rows, o = run.module, run.rows, run.options.optimisation
    reset_encoders(run, width)
    start = start_shared(module, features, rows, within) if module.architecture.linear_start else None
    cells: dict[str, Tensor] = dict(features.items())
    if design.shape[1]:
        cells["design"] = design
    data = StageData(cells, rows.train, rows.validation, batch_size=o.batch_size, seed=run.seed)
    steps, n_epochs = run.steps_per_epoch(data), run.max_epochs("shared")
    if o.one_cycle and "shared" not in run.options.max_epochs:
        n_epochs = max(n_epochs, -(-FEWEST_SHARED_STEPS // steps))
    run.fit(
        "shared",
        SharedPlan(module, o, n_epochs * steps),
        data,
        # A cycle goes to its end: losses are lowest when the learning rate has fallen.
        KeepBest(
            {"validation_loss": _SharedParts(module)}, patience=0 if o.one_cycle else o.patience, smallest_gain=1e-3
        ),
        f"Shared representations of {width}",
        {
            "validation_correlation": "correlation²",
            "validation_prediction": "predicted",
            "validation_info_nce": "InfoNCE",
        },
        max_epochs=n_epochs,
    )
    if start is not None:
        finish_shared(module, features, rows, within, start)


class _SharedParts(torch.nn.Module):
    """What stage 1 trains, as one part."""

    def __init__(self, module: IndiSeekModule) -> None:
        super().__init__()
        self.encoders = module.encoders
        self.predictors = module.predictors
        self.log_scale = module.log_scale


def reset_encoders(run: StageRun, n_active: int | None = None) -> dict[str, Any]:
    """Make new encoders of stage 1."""
    run.module.reset_shared(n_active)
    run.module.to(run.options.device.torch)
    return {}


def _analyse(latents: list[Tensor], rows: Rows, n: int, *, refit: bool = False) -> tuple:
    first, second = latents
    return regularized_cca(first, second, rows.train, rows.validation, n, refit=refit)


def _start_from(module: IndiSeekModule, maps: list[LinearMap]) -> None:
    for name, linear in zip(module.modalities, maps, strict=True):
        module.encoders[name].start_from(linear._replace(weight=_pad(linear.weight, module.n_shared)))


def _encode(module: IndiSeekModule, features: Mapping[Role, Tensor]) -> list[Tensor]:
    """Return the columns of the raw representations that are in use."""
    return [map_parts(encoder, features[name])[:, : encoder.n_active] for name, encoder in module.encoders.items()]


def _pad(matrix: Tensor, n_columns: int, n_rows: int | None = None) -> Tensor:
    """Add columns, and rows if asked, of 0."""
    missing = 0 if n_rows is None else n_rows - matrix.shape[0]
    return torch.nn.functional.pad(matrix, (0, n_columns - matrix.shape[-1], 0, missing))


@torch.no_grad()
def start_shared(
    module: IndiSeekModule, features: Mapping[Role, Tensor], rows: Rows, within: Within
) -> list[LinearMap]:
    """Start the linear part of the encoders as regularised CCA, and return that."""
    *start, _ = _analyse([within(x) for x in features.values()], rows, module.encoders[module.modalities[0]].n_active)
    _start_from(module, start)
    return start


@torch.no_grad()
def finish_shared(
    module: IndiSeekModule,
    features: Mapping[Role, Tensor],
    rows: Rows,
    within: Within,
    start: list[LinearMap] | None = None,
) -> None:
    """Turn the representations into canonical directions, and drop those that are not shared and those that sufficiency can spare.

    A direction is not shared if its correlation on validation cells is no more than chance gives. So what a representation holds
    privately is taken out of it here, and stays for the specific representation. Where the networks have found hardly more than the linear
    ``start``, as on a few hundred cells, that is taken instead, fitted again on training and validation cells together.
    """
    module.eval()
    latents, width = _encode(module, features), module.encoders[module.modalities[0]].n_active
    *maps, correlation = _analyse([within(latent) for latent in latents], rows, width, refit=True)
    compared = {name: within(x) for name, x in features.items()}
    if start is not None and not _is_stronger(correlation, start, compared, rows):
        *refitted, correlation = _analyse(list(compared.values()), rows, width, refit=True)
        _start_from(module, refitted)
        latents = _encode(module, features)  # canonical directions as they are
        unit = torch.eye(width).to(correlation)
        maps = [LinearMap(torch.zeros_like(correlation), unit)] * len(latents)
    shared = correlation > chance_correlation(len(rows.validation))
    # at least one, whatever chance says: an empty condition has no meaning to the networks behind
    shared[correlation.argmax()] = True
    maps = [linear._replace(weight=(linear.weight / correlation.clamp(min=1e-9))[:, shared]) for linear in maps]
    canonical = {
        name: within(linear(latent.double()))
        for name, linear, latent in zip(module.modalities, maps, latents, strict=True)
    }
    axes = find_sufficient(canonical, compared, rows)
    *turned, correlation = _analyse([latent @ axes for latent in canonical.values()], rows, axes.shape[1], refit=True)
    order = correlation.argsort(descending=True, stable=True)
    for name, linear, turn in zip(module.modalities, maps, turned, strict=True):
        weight = _pad(linear.weight @ axes @ turn.weight[:, order], module.n_shared, module.n_shared)
        center, padded = (_pad(x[None], module.n_shared)[0] for x in (linear.center, correlation[order]))
        module.rotations[name].set(LinearMap(center, weight), padded)


@torch.no_grad()
def is_sufficient(module: IndiSeekModule, features: Mapping[Role, Tensor], rows: Rows, within: Within) -> bool:
    """Whether both shared representations tell nearly all that their modality tells of the other one.

    By :func:`~indiseek_sc.train.share_explained`: regressions that are fitted anew on training cells and read on validation cells.
    """
    train, validation = some_rows(rows.train), some_rows(rows.validation)
    looked_at = torch.cat([train, validation])
    latents = {name: within(module.shared(name, x[looked_at]), looked_at) for name, x in features.items()}
    compared = {name: within(x[looked_at], looked_at) for name, x in features.items()}
    for name, own in compared.items():
        of_latent, of_features = (
            share_explained(source, compared[module.other(name)], len(train)) for source in (latents[name], own)
        )
        if of_latent < ENOUGH * of_features:
            return False
    return True


def _is_stronger(correlation: Tensor, start: list[LinearMap], features: Mapping[Role, Tensor], rows: Rows) -> bool:
    """Whether directions correlate better on validation cells than those of the linear start, by more than chance."""
    latents = [map_parts(linear.__call__, x) for x, linear in zip(features.values(), start, strict=True)]
    # Analysed once more, as the representations of the networks were: choosing ridges on the validation cells flatters either.
    *_, start_correlation = _analyse(latents, rows, correlation.shape[0])
    n_cells = len(rows.validation)
    threshold = (1 + chance_correlation(n_cells)) * shared_strength(start_correlation, n_cells)
    return shared_strength(correlation, n_cells) >= threshold


def find_sufficient(shared: Mapping[Role, Tensor], features: Mapping[Role, Tensor], rows: Rows) -> Tensor:
    """Return the narrowest turned axes of the shared representations that tell nearly all that all of them tell, without any label.

    Axes are those of a reduced-rank regression of both modalities on each other's representation, the most telling first. Canonical
    directions themselves would not do: where their correlations are alike, any turn of them is as canonical, and each may
    tell a little of everything. Axes are kept until the regressions on them explain, on validation cells, the share
    ``SUFFICIENT`` of what they explain on all, averaged over both modalities: fewer are more purely shared, too few leave
    shared signal to the specific representations.

    Parameters
    ----------
    shared
        Representations of canonical directions by role, shape ``(n_cells, n_shared)``.
    features
        Features by role, shape ``(n_cells, n_features)``.
    rows
        Regressions are fitted on the training cells and evaluated on the validation cells.

    Returns
    -------
    Orthonormal axes, shape ``(n_shared, n_kept)``, for representations of unit variance.
    """
    first, second = shared
    pairs = [(shared[first], features[second]), (shared[second], features[first])]
    train, validation = (
        [(x[part].double(), y[part].double()) for x, y in pairs]
        for part in (some_rows(rows.train), some_rows(rows.validation))
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


def some_rows(rows: Tensor) -> Tensor:
    """Return every n-th of more than about 20,000 rows."""
    return rows[:: max(1, len(rows) // MOST_CELLS)]


def _explained(x: Tensor, y: Tensor, seen: Tensor, wanted: Tensor) -> float:
    """Share of the variance of ``wanted`` that a ridge regression of ``y`` on ``x`` predicts from ``seen``."""
    regression = RidgeMap(x.shape[1], y.shape[1]).to(x.device, x.dtype)
    regression.fit(x, y)
    missed = (wanted - regression(seen)).square().sum()
    return float(1 - missed / (wanted - y.mean(dim=0)).square().sum())
