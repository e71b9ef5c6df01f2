"""Refits: the same model trained again on halves of the cells, to measure how much results vary."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from anndata import AnnData
from joblib import Parallel, delayed
from mudata import MuData
from scvi.utils import track

from indiseek_sc import _keys
from indiseek_sc._checks import check_flag, check_whole
from indiseek_sc._fingerprint import Place, record_inputs
from indiseek_sc._lookup import find_labels, join_modalities
from indiseek_sc._text import listing
from indiseek_sc.model._cells import find_cells, get_design, require
from indiseek_sc.model._latents import encode_all, list_latents
from indiseek_sc.train import EarlyEndWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek

logger = logging.getLogger("scvi.indiseek_sc")

FEWEST_CELLS = 150
"""Smallest number of cells with both modalities; half of fewer cells is too small to train on."""

MOST_DRAWS = 100
"""Largest number of random divisions tried to find one whose halves both contain all batches."""

RESERVED_ARGUMENTS = (
    "held_out",
    "train_size",
    "stages",
    "keep_start",
    "checkpoint_dir",
    "lambda_",
    "enable_progress_bar",
)
"""Arguments of ``train`` that are set for each refit and cannot be given."""


def write_refits(
    model: IndiSeek,
    n_refits: int = 4,
    *,
    sample_key: str | None = None,
    n_jobs: int = 1,
    seed: int = 0,
    enable_progress_bar: bool = True,
    **train_kwargs: Any,
) -> None:
    """Train the model again on halves of the cells, and write the representations of each refit.

    A specific representation depends on the training cells and on the seed. Refits measure this
    variation, and :func:`indiseek_sc.tl.modality_importance` and
    :func:`indiseek_sc.tl.rank_correlation` take it into account. Refits come in pairs, trained on
    the two halves of a random division of the cells; each is evaluated on the half that it was not
    trained on. Both stages are trained, because refits with common shared representations agree
    more than models of independent data. Refits are not part of the IndiSeek paper.

    Parameters
    ----------
    n_refits
        Number of refits, an even number of at least 4.
    sample_key
        Column with the donor or sample of each cell. If given, all cells of a sample are in the
        same half, and standard errors computed from refits are over samples.
    n_jobs
        Number of refits trained in parallel, each in its own process with its own copy of the data.
    seed
        Seed of the halves and, together with the number of the refit, of the training.
    enable_progress_bar
        Show one progress bar for all refits.
    **train_kwargs
        Arguments of :meth:`train`, such as ``accelerator``, ``max_epochs`` or ``batch_size``.

    Raises
    ------
    KeyError
        If the representations have not been written (:meth:`write_latents`), or there is no column
        ``sample_key``.
    RuntimeError
        If the model is not trained or has no data, or the training of a refit ended early.
    TypeError, ValueError
        If an argument is invalid, there are too few cells or samples, or a half lacks a batch.

    Notes
    -----
    The following is written to the model's data: ``obsm["X_indiseek_refits_<modality>"]`` (shared
    and specific representations of all refits side by side, float32),
    ``obsm["indiseek_refits_held_out"]`` (the cells that each refit was not trained on, shape
    ``(n_cells, n_refits)``) and ``uns["indiseek_refits"]`` (widths and arguments). Nothing is
    written if an error is raised. Each refit takes about half as long as training the model.

    Examples
    --------
    ``model.write_refits(sample_key="donor", n_jobs=4)`` trains four refits in parallel, with all
    cells of a donor in the same half. Their representations are then in the data:

    >>> mdata.obsm["indiseek_refits_held_out"].shape
    (600, 4)
    """
    require(model, "specific")
    if check_whole("n_refits", n_refits, 4) % 2:
        raise ValueError(f"n_refits={n_refits} must be even: two refits are trained on the two halves of the cells.")
    check_whole("n_jobs", n_jobs, 1)
    check_whole("seed", seed, 0)
    check_flag("enable_progress_bar", enable_progress_bar)
    for name in RESERVED_ARGUMENTS:
        if name in train_kwargs:
            raise TypeError(f"{name}: it is set by write_refits for each refit. Leave it out.")
    mdata = model._validate_anndata(max_missing=0.0)
    lacking = [key for key in list_latents(model) if key not in mdata.obsm]
    if lacking:
        raise KeyError(f"mdata.obsm[{lacking[0]!r}] is missing. Call model.write_latents() first.")
    rows = np.flatnonzero(find_cells(model, mdata, model.modalities))
    if rows.size < FEWEST_CELLS:
        raise ValueError(
            f"mdata: refits are trained on halves of the cells with both modalities, and {rows.size} such cells are too few. "
            f"At least {FEWEST_CELLS} are needed."
        )
    halves = _draw_halves(model, mdata, rows, n_refits // 2, sample_key, seed)

    data = mdata if n_jobs == 1 else _Parts.of(mdata)
    refit = partial(_refit, type(model), model.registry_, dict(model.init_params_["non_kwargs"]), data)
    train_kwargs = {**train_kwargs, "lambda_": model.lambda_}
    jobs = (
        delayed(refit)(np.setdiff1d(rows, half), seed + 1 + number, train_kwargs) for number, half in enumerate(halves)
    )
    parallel = Parallel(n_jobs=min(n_jobs, n_refits), return_as="generator")
    bar = {"total": n_refits, "disable": not enable_progress_bar, "style": "tqdm"}
    latents = list(track(parallel(jobs), "Refits on halves of the cells", **bar))
    held_out = np.zeros((mdata.n_obs, n_refits), dtype=bool)
    for number, half in enumerate(halves):
        held_out[np.setdiff1d(rows, half), number] = True
    params: dict[str, Any] = {"n_refits": n_refits, "sample_key": sample_key or "", "seed": seed}
    for place, (role, name) in enumerate(model.modalities.items()):
        pairs = [of_refit[2 * place : 2 * place + 2] for of_refit in latents]
        mdata.obsm[_keys.refits(name)] = np.hstack([np.hstack(pair) for pair in pairs])
        params[f"widths_{role}"] = np.array([[x.shape[1] for x in pair] for pair in pairs])
    mdata.obsm[_keys.REFITS_HELD_OUT] = held_out
    mdata.uns[_keys.REFITS] = params
    record_inputs(mdata, _keys.REFITS, [Place("obsm", key) for key in list_latents(model)])


class _Parts(NamedTuple):
    """The parts of a MuData that a model reads, for another process; a MuData cannot be pickled."""

    modalities: dict[str, AnnData]
    obs: pd.DataFrame
    obsm: dict[str, Any]

    @classmethod
    def of(cls, mdata: MuData) -> _Parts:
        """Return the parts of a MuData."""
        obsm = {key: value for key, value in mdata.obsm.items() if key not in mdata.mod}
        return cls({name: _detach(modality) for name, modality in mdata.mod.items()}, mdata.obs, obsm)

    def join(self) -> MuData:
        """Return a MuData of these parts, with the cells in their order."""
        return join_modalities(self.modalities, self.obs, self.obsm)


def _detach(modality: AnnData) -> AnnData:
    """Return a modality in memory, without a reference to its file, which cannot be pickled."""
    if modality.isbacked:
        modality = modality.to_memory()
    parts = {name: dict(getattr(modality, name)) for name in ("obsm", "layers")}
    return AnnData(modality.X, modality.obs, modality.var, **parts)


def _draw_halves(
    model: IndiSeek, mdata: MuData, rows: np.ndarray, n_pairs: int, sample_key: str | None, seed: int
) -> list[np.ndarray]:
    """Return the row numbers of each refit's training cells.

    Samples are not divided, and each half contains cells of all batches.
    """
    sample = rows
    if sample_key is not None:
        found = find_labels(mdata, sample_key, "sample_key").iloc[rows]
        if found.isna().any():
            cells = mdata.obs_names[rows[found.isna().to_numpy()]]
            raise ValueError(f"sample_key={sample_key!r} is missing in cells {listing(cells)}. Fill it in.")
        sample = found.cat.codes.to_numpy()
    names, size = np.unique(sample, return_counts=True)
    if len(names) < 4:
        raise ValueError(
            f"sample_key={sample_key!r} has {len(names)} samples, too few to divide into halves; at least 4 are needed. "
            "Leave it out to divide cells instead of samples."
        )
    design = (get_design(model, mdata, rows) != 0).cpu().numpy()
    halves = []
    for pair in range(n_pairs):
        rng = np.random.default_rng([seed, pair])
        for _ in range(MOST_DRAWS):
            order = rng.permutation(len(names))
            # As close to half of the cells as whole samples allow.
            n_first = 1 + np.abs(np.cumsum(size[order])[:-1] - rows.size / 2).argmin()
            is_first = np.isin(sample, names[order[:n_first]])
            lacking = (design[is_first].any(axis=0) != design[~is_first].any(axis=0)).sum()
            if not lacking:
                break
        else:
            how = "Give sample_key to tl.modality_importance alone" if sample_key else "Leave small batches out"
            raise ValueError(
                f"sample_key={sample_key!r}: in each division that was tried, one half lacks {lacking} batches or other covariates, "
                f"whose effects a refit could not estimate. {how}."
            )
        halves += [rows[is_first], rows[~is_first]]
    return halves


def _refit(
    cls: type[IndiSeek],
    registry: dict[str, Any],
    parameters: dict[str, Any],
    data: MuData | _Parts,
    held_out: np.ndarray,
    seed: int,
    train_kwargs: dict[str, Any],
) -> list[np.ndarray]:
    """Train a model with given settings and held-out cells, without decoders.

    Returns
    -------
    Shared and specific representations of all cells, for each modality in turn.
    """
    mdata = data.join() if isinstance(data, _Parts) else data
    refit = cls(registry=registry, **{**parameters, "seed": seed})
    epochs = train_kwargs.get("max_epochs")
    if epochs is None or isinstance(epochs, Mapping):
        train_kwargs = {**train_kwargs, "max_epochs": {"decoder": 0, **(epochs or {})}}
    with _quiet():
        refit.adata = mdata
        outcome = refit.train(held_out=held_out, enable_progress_bar=False, **train_kwargs)
    if outcome.is_interrupted:
        raise KeyboardInterrupt
    if outcome.reason is not None:
        raise RuntimeError(f"The training of a refit ended early; nothing was written. {outcome.reason}")
    wanted: list[tuple[str, Role | None]] = [
        (kind, role) for role in refit.modalities for kind in ("shared", "specific")
    ]
    return encode_all(refit, mdata, np.arange(mdata.n_obs), wanted)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages and early-end warnings, which each refit would repeat."""
    above = logging.getLogger("scvi")
    level, own = above.level, logger.level
    above.setLevel(logging.ERROR)
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EarlyEndWarning)
            yield
    finally:
        above.setLevel(level)
        logger.setLevel(own)
