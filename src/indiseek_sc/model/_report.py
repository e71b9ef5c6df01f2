"""A report of the model and its representations. ``report`` is a method of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc.data import find_covariates, read_input
from indiseek_sc.model._cells import describe_settings, require
from indiseek_sc.model._latents import encode_all, list_latents
from indiseek_sc.model._prediction import STAGE
from indiseek_sc.train import find_negative_bounds

if TYPE_CHECKING:
    from pathlib import Path

    from indiseek_sc._keys import Role
    from indiseek_sc.metrics import AuditReport, PredictionReport
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.report import ModelFacts


LATENTS_COMPARED = 200
"""Cells by which it is seen whether the data have the representations of the model."""

PREDICTED_CELLS = 2000
"""Cells whose predictions a report evaluates: of each there are as many values as genes are in use, four times."""


def report(
    model: IndiSeek,
    path: str | Path,
    *,
    label_key: str | None = None,
    audit: AuditReport | None = None,
    compare: bool = False,
    source: str | None = None,
    seed: int = 0,
    tables: str | Path | None = None,
) -> None:
    """Write one HTML file that can be sent, opened from disk and read without Python.

    It begins with what was found, how sure that is and what to doubt. Then it has the UMAPs that are there, theta, attributions, audit, retrieval, predictions if
    :meth:`train_prediction` was called, clusters and histories, each with words on how to read it, as SVG and with its table as CSV to save from the page; cautions, settings and
    versions; and a paragraph for a methods section with its references. What is not there is listed at the end, with the call that
    makes it. What is missing and takes seconds is computed; the data are left as they are.

    Parameters
    ----------
    path
        File to write, such as ``"report.html"``; one that is there is overwritten.
    label_key
        Column of cell types, in ``mdata.obs`` or in a modality's obs; by default the one that
        :func:`indiseek_sc.tl.modality_importance` was asked for, if it was.
    audit
        What :meth:`audit` returned; computed if not given.
    compare
        Also compare clusters of the representations, and theta with WNN weights, where the data have no such tables yet. It takes minutes.
    source
        What the cells are, for the title.
    seed
        Seed of what the report computes.
    tables
        Folder that is there, to which the tables are written as CSV files as well.

    Raises
    ------
    KeyError
        If :meth:`write_latents` was not called, or there is no column ``label_key``.
    ValueError
        If there can be no such file, or there is no folder ``tables``.
    RuntimeError
        If the model is not trained.
    """
    # Here, since a model can be trained where nobody draws: matplotlib, scanpy and Jinja are loaded by who asks for a report.
    from indiseek_sc.report import write_report

    require(model, "specific")
    write_report(
        path,
        model._validate_anndata(),
        label_key=label_key,
        model=model,
        facts=_gather_facts(model, seed),
        audit=audit,
        compare=compare,
        source=source,
        seed=seed,
        tables=tables,
    )


def _gather_facts(model: IndiSeek, seed: int) -> ModelFacts:
    from indiseek_sc.report import ModelFacts

    covariates = find_covariates(model.registry_)
    batch = covariates.batch
    return ModelFacts(
        method=type(model).__name__,
        preset=model.preset,
        settings=describe_settings(model),
        preprocessing={name: _describe_preprocessing(model, role) for role, name in model.modalities.items()},
        history=model.history,
        batch_key=batch,
        batches=[] if batch is None else list(covariates.levels[batch]),
        covariates=[name for names in covariates.others.values() for name in names],
        lambda_path=model.chosen_path,
        cautions=_find_cautions(model),
        predictions=_evaluate_predictions(model, seed),
    )


def _describe_preprocessing(model: IndiSeek, role: Role) -> str:
    """The steps from the values of a modality to its features, in words."""
    kind = read_input(model.registry_, role)[1]["kind"]
    transform = model.module.transforms[role]
    words = {"counts": "counts", "normalized": "normalised values", "representation": "a given representation"}
    some = (
        f" of the {transform.n_features:,} most variable of {transform.n_input:,} features"
        if transform.n_features < transform.n_input
        else ""
    )
    steps = f"{words[kind]}{some} went through {transform.recipe}"
    return steps + (f" to {len(transform.used)} components" if transform.recipe.project else "")


def _evaluate_predictions(model: IndiSeek, seed: int) -> dict[tuple[str, str], PredictionReport]:
    """Both directions, on some of the cells that were held out; nothing if nobody asked for the model to learn it."""
    if STAGE not in model.stages_:
        return {}
    cells = model.split.for_judging()[1]
    few = np.random.default_rng(seed).permutation(cells)[:PREDICTED_CELLS]
    first, second = model.modalities.values()
    pairs = [(second, first), (first, second)]
    return {pair: model.audit_prediction(*pair, indices=np.sort(few), units="normalized") for pair in pairs}


def _are_own(model: IndiSeek) -> bool:
    """Whether representations of some cells in the data are those that the model makes of them."""
    mdata = model._validate_anndata()
    rows = np.unique(np.linspace(0, mdata.n_obs - 1, LATENTS_COMPARED, dtype=int))
    wanted = list_latents(model)
    for key, latent in zip(wanted, encode_all(model, mdata, rows, list(wanted.values())), strict=True):
        written = mdata.obsm.get(key)
        if (
            written is None
            or written.shape[1] != latent.shape[1]
            or not np.allclose(written[rows], latent, atol=1e-3, equal_nan=True)
        ):
            return False
    return True


def _find_cautions(model: IndiSeek) -> list[str]:
    """What the model and its training have to say against the representations."""
    cautions = []
    if not _are_own(model):
        cautions.append(
            "The representations in the data are not those of this model as it is now: audit and histories are of others. Call model.write_latents(mdata) and make "
            "maps and tables again."
        )
    path = model.chosen_path
    if path is not None and not path.is_within:
        cautions.append(path.reason)
    negative = find_negative_bounds(model.history)
    if negative:
        listed = ", ".join(f"{name.rpartition('/')[2].replace('_', ' ')} {mean:.2f}" for name, mean in negative.items())
        cautions.append(
            f"On validation cells the bounds of critics stayed negative ({listed} nats): they are no bounds then, and say nothing of independence. "
            "Judge by the audit."
        )
    return cautions
