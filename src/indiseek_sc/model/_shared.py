"""Stage 1: shared representations, trained between a linear start and a linear final rotation."""

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
"""Least number of training steps of stage 1; small data are given more epochs to reach it."""

MIN_RETAINED_R2 = 0.94
"""Share of the explained variance of the other modality that the directions kept must retain."""

MIN_R2_RATIO = 0.95
"""Least ratio of the variance of the other modality explained by a representation to that explained
by the features; below it, the representation is too narrow."""

MOST_CELLS = 20_000
"""Approximate number of training and of validation cells on which directions are compared; of more
cells, every n-th is used."""


class Within(NamedTuple):
    """Removal of linear covariate effects, so that stage 1 compares cells within batches.

    Otherwise a batch effect that both modalities have would help to match the two modalities of a
    cell, and would become part of the shared representations.
    """

    design: Tensor | None
    """Covariates of all cells, shape ``(n_cells, n_columns)``; None to remove nothing."""

    train: Tensor
    """Rows of the training cells."""

    def __call__(self, values: Tensor, rows: Tensor | None = None) -> Tensor:
        """Subtract the prediction of a linear regression on covariates, fitted on training cells.

        Parameters
        ----------
        values
            Values of all cells, or of those in ``rows``, shape ``(n_cells, n_columns)``.
        rows
            Row numbers of the cells, shape ``(n_rows,)``; all if not given.
        """
        if self.design is None:
            return values
        design = self.design if rows is None else self.design[rows]
        train = self.train if rows is None else torch.isin(rows, self.train).nonzero()[:, 0]
        regression = RidgeMap(design.shape[1], values.shape[1]).to(values.device, values.dtype)
        regression.fit(design.to(values), values, rows=train)
        center = design[train].mean(dim=0)
        return map_parts(lambda x, d: x - (d - center).to(x) @ regression.weight, values, design)


def learn_shared(run: StageRun, features: Mapping[Role, Tensor], design: Tensor) -> dict[str, Any]:
    """Train shared representations; train again with more dimensions if they are not sufficient."""
    module, a = run.module, run.module.architecture
    within = Within(design if a.within_batches and module.design.n_learned else None, run.rows.train)
    first = min(a.n_shared_first, module.n_shared) if a.linear_start else module.n_shared
    _learn_shared_of_width(run, features, design, within, first)
    if first < module.n_shared and run.reason is None and not is_sufficient(module, features, run.rows, within):
        _learn_shared_of_width(run, features, design, within, module.n_shared)
    return {}


def _learn_shared_of_width(
    run: StageRun, features: Mapping[Role, Tensor], design: Tensor, within: Within, width: int
) -> None:
    """Train shared representations of a given width from a new start."""
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
        # No early stopping in a learning-rate cycle: losses are lowest at its end.
        KeepBest(
            {"validation_loss": _SharedParts(module)}, patience=0 if o.one_cycle else o.patience, smallest_gain=1e-3
        ),
        f"Shared representations, {width} dimensions",
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
    """All parts that stage 1 trains, as one module whose best weights are kept."""

    def __init__(self, module: IndiSeekModule) -> None:
        super().__init__()
        self.encoders = module.encoders
        self.predictors = module.predictors
        self.log_scale = module.log_scale


def reset_encoders(run: StageRun, n_active: int | None = None) -> dict[str, Any]:
    """Reinitialise the encoders of stage 1."""
    run.module.reset_shared(n_active)
    run.module.to(run.options.device.torch)
    return {}


def _analyse(latents: list[Tensor], rows: Rows, n: int, *, refit: bool = False) -> tuple:
    """Return the linear maps of a regularised CCA with ``n`` directions, and its correlations."""
    first, second = latents
    return regularized_cca(first, second, rows.train, rows.validation, n, refit=refit)


def _start_from(module: IndiSeekModule, maps: list[LinearMap]) -> None:
    """Initialise the encoders with linear maps."""
    for name, linear in zip(module.modalities, maps, strict=True):
        module.encoders[name].start_from(linear._replace(weight=_pad(linear.weight, module.n_shared)))


def _encode(module: IndiSeekModule, features: Mapping[Role, Tensor]) -> list[Tensor]:
    """Return the active columns of the representations before rotation."""
    return [map_parts(encoder, features[name])[:, : encoder.n_active] for name, encoder in module.encoders.items()]


def _pad(matrix: Tensor, n_columns: int, n_rows: int | None = None) -> Tensor:
    """Pad a matrix with zeros to ``n_columns`` columns and, if given, ``n_rows`` rows."""
    missing = 0 if n_rows is None else n_rows - matrix.shape[0]
    return torch.nn.functional.pad(matrix, (0, n_columns - matrix.shape[-1], 0, missing))


@torch.no_grad()
def start_shared(
    module: IndiSeekModule, features: Mapping[Role, Tensor], rows: Rows, within: Within
) -> list[LinearMap]:
    """Initialise the linear part of the encoders by regularised CCA, and return its maps."""
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
    """Rotate the representations to canonical directions, and drop those that are not needed.

    A direction is dropped if its canonical correlation on validation cells does not exceed chance,
    since it is then private to its modality and belongs to the specific representation. Of the
    remaining directions, :func:`find_sufficient` selects those needed for sufficiency. If the
    networks are hardly better than the linear ``start``, as on a few hundred cells, the linear maps
    are used instead, refitted on training and validation cells together.
    """
    module.eval()
    latents, width = _encode(module, features), module.encoders[module.modalities[0]].n_active
    *maps, correlation = _analyse([within(latent) for latent in latents], rows, width, refit=True)
    compared = {name: within(x) for name, x in features.items()}
    if start is not None and not _is_stronger(correlation, start, compared, rows):
        *refitted, correlation = _analyse(list(compared.values()), rows, width, refit=True)
        _start_from(module, refitted)
        latents = _encode(module, features)  # already canonical directions
        unit = torch.eye(width).to(correlation)
        maps = [LinearMap(torch.zeros_like(correlation), unit)] * len(latents)
    shared = correlation > chance_correlation(len(rows.validation))
    # At least one is kept, since the networks of stage 2 need a condition.
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
    """Return whether both shared representations explain nearly all that the features explain.

    The variance of the other modality that is explained by a shared representation is compared with
    that explained by the features of its modality, in regressions fitted on training cells and
    evaluated on validation cells (:func:`~indiseek_sc.train.share_explained`).
    """
    train, validation = some_rows(rows.train), some_rows(rows.validation)
    cells = torch.cat([train, validation])
    latents = {name: within(module.shared(name, x[cells]), cells) for name, x in features.items()}
    compared = {name: within(x[cells], cells) for name, x in features.items()}
    for name, own in compared.items():
        by_latent, by_features = (
            share_explained(source, compared[module.other(name)], len(train)) for source in (latents[name], own)
        )
        if by_latent < MIN_R2_RATIO * by_features:
            return False
    return True


def _is_stronger(correlation: Tensor, start: list[LinearMap], features: Mapping[Role, Tensor], rows: Rows) -> bool:
    """Return whether validation correlations exceed those of the linear start beyond chance."""
    latents = [map_parts(linear.__call__, x) for x, linear in zip(features.values(), start, strict=True)]
    # CCA is applied again, as to the networks' representations: choosing the ridge penalty on the
    # validation cells biases both correlations upwards alike.
    *_, start_correlation = _analyse(latents, rows, correlation.shape[0])
    n_cells = len(rows.validation)
    threshold = (1 + chance_correlation(n_cells)) * shared_strength(start_correlation, n_cells)
    return shared_strength(correlation, n_cells) >= threshold


def find_sufficient(shared: Mapping[Role, Tensor], features: Mapping[Role, Tensor], rows: Rows) -> Tensor:
    """Return the fewest rotated axes of the shared representations that are sufficient.

    The axes are those of a reduced-rank regression of each modality on the other's representation,
    in decreasing order of the covariance explained. Canonical directions cannot be selected
    directly: where correlations are equal, any rotation of them is canonical too, and each
    direction may explain a little of everything. Axes are kept until regressions on them explain,
    on validation cells, the share ``MIN_RETAINED_R2`` of what regressions on all axes explain, averaged
    over both modalities. Fewer axes are more purely shared; too few leave shared signal to the
    specific representations. No labels are used.

    Parameters
    ----------
    shared
        Shared representations in canonical directions by role, shape ``(n_cells, n_shared)``.
    features
        Features by role, shape ``(n_cells, n_features)``.
    rows
        Training cells, on which regressions are fitted, and validation cells, on which they are
        evaluated.

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

    def compute_r2(axes: Tensor) -> Tensor:
        return torch.tensor(
            [
                _compute_r2(x @ axes, y, seen @ axes, wanted)
                for (x, y), (seen, wanted) in zip(train, validation, strict=True)
            ],
            dtype=torch.float64,
        )

    covariances = [(x - x.mean(dim=0)).T @ (y - y.mean(dim=0)) / len(x) for x, y in train]
    explained = torch.stack([c @ c.T / c.square().sum().clamp(min=1e-12) for c in covariances]).sum(dim=0)
    axes = torch.linalg.eigh(explained).eigenvectors.flip(1)
    explained_by_all = compute_r2(axes).clamp(min=1e-12)
    for n_kept in range(1, axes.shape[1]):
        if float((compute_r2(axes[:, :n_kept]) / explained_by_all).mean()) >= MIN_RETAINED_R2:
            return axes[:, :n_kept]
    return axes


def some_rows(rows: Tensor) -> Tensor:
    """Return every n-th row if there are more than about 20,000, else all rows."""
    return rows[:: max(1, len(rows) // MOST_CELLS)]


def _compute_r2(x: Tensor, y: Tensor, seen: Tensor, wanted: Tensor) -> float:
    """Return R2 of a ridge regression of ``y`` on ``x`` for other cells (``seen``, ``wanted``)."""
    regression = RidgeMap(x.shape[1], y.shape[1]).to(x.device, x.dtype)
    regression.fit(x, y)
    missed = (wanted - regression(seen)).square().sum()
    return float(1 - missed / (wanted - y.mean(dim=0)).square().sum())
