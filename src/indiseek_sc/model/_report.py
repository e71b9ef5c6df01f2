"""Report of a model and its representations; ``report`` is a method of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc.data import find_covariates, read_input
from indiseek_sc.model._cells import describe_settings, require
from indiseek_sc.model._latents import encode_all, list_latents
from indiseek_sc.model._prediction_training import STAGE
from indiseek_sc.module import make_settings
from indiseek_sc.train import find_negative_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from indiseek_sc._keys import Role
    from indiseek_sc.metrics import AuditReport, PredictionReport
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.report import ModelFacts


LATENTS_COMPARED = 200
"""Number of cells on which representations in the data are compared with those of the model."""

PREDICTED_CELLS = 2000
"""Number of cells whose predictions a report evaluates; each needs four values per gene in use."""


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
    """Write a report as a single, self-contained HTML file.

    The report begins with the main findings, their uncertainty and cautions. It contains the UMAPs
    in the data, theta, attributions, the audit, retrieval, predictions (if :meth:`train_prediction`
    was called), clusters and training histories. Each has an explanation, an SVG figure and a table
    that can be saved as CSV. It ends with settings, versions, and a paragraph for a methods section
    with references. Results that are missing are computed if that takes seconds; otherwise they are
    listed with the call that computes them. The data are not changed.

    Parameters
    ----------
    path
        File to write, such as ``"report.html"``; an existing file is overwritten.
    label_key
        Column of cell types, in ``mdata.obs`` or in ``obs`` of a modality. By default, the column
        for which :func:`indiseek_sc.tl.modality_importance` was computed, if any.
    audit
        Result of :meth:`audit`; computed if not given.
    compare
        Also compare clusters of the representations, and theta with WNN weights, if the data do not
        contain these tables yet. This takes minutes.
    source
        Description of the cells, for the title.
    seed
        Seed of the computations of the report.
    tables
        Existing folder to which the tables are written as CSV files, too.

    Raises
    ------
    KeyError
        If :meth:`write_latents` was not called, or there is no column ``label_key``.
    ValueError
        If the file cannot be written, or the folder ``tables`` does not exist.
    RuntimeError
        If the model is not trained.

    Examples
    --------
    ``model.report("report.html", label_key="cell_type")`` writes the report with the audit, which
    takes about a minute.
    """
    # Imported here, so that training does not require matplotlib, scanpy and Jinja.
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
    """Return the properties of a model that a report describes."""
    from indiseek_sc.report import ModelFacts

    covariates = find_covariates(model.registry_)
    batch = covariates.batch
    return ModelFacts(
        method=type(model).__name__,
        preset=model.preset,
        settings=(settings := describe_settings(model)),
        changed=_find_changed(model, settings),
        preprocessing={name: _describe_preprocessing(model, role) for role, name in model.modalities.items()},
        history=model.history,
        batch_key=batch,
        batches=[] if batch is None else list(covariates.levels[batch]),
        covariates=[name for names in covariates.others.values() for name in names],
        lambda_path=model.chosen_path,
        cautions=_find_cautions(model),
        predictions=_evaluate_predictions(model, seed),
    )


def _find_changed(model: IndiSeek, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from those of the preset and the class of the model."""
    usual = make_settings(model.preset, **model._changed_settings).describe()
    used = model.settings.describe() | model.train_settings_
    return {name: settings[name] for name in used if name in settings and used[name] != usual.get(name)}


def _describe_preprocessing(model: IndiSeek, role: Role) -> str:
    """Return a description of the steps from the values of a modality to its features."""
    kind = read_input(model.registry_, role)[1]["kind"]
    transform = model.module.transforms[role]
    words = {"counts": "counts", "normalized": "normalised values", "representation": "a given representation"}
    selected = (
        f" of the {transform.n_features:,} most variable of {transform.n_input:,} features"
        if transform.n_features < transform.n_input
        else ""
    )
    steps = f"{words[kind]}{selected}, transformed by {transform.recipe}"
    return steps + (f" to {len(transform.used)} components" if transform.recipe.project else "")


def _evaluate_predictions(model: IndiSeek, seed: int) -> dict[tuple[str, str], PredictionReport]:
    """Return an evaluation of both directions of prediction, if trained, on some held-out cells."""
    if STAGE not in model.stages_:
        return {}
    cells = model.split.for_judging()[1]
    sample = np.random.default_rng(seed).permutation(cells)[:PREDICTED_CELLS]
    first, second = model.modalities.values()
    pairs = [(second, first), (first, second)]
    return {pair: model.audit_prediction(*pair, indices=np.sort(sample), units="normalized") for pair in pairs}


def _is_up_to_date(model: IndiSeek) -> bool:
    """Return whether the data contain the representations of the model, for a sample of cells."""
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
    """Return cautions about the representations that follow from the model and its training."""
    cautions = []
    if not _is_up_to_date(model):
        cautions.append(
            "The representations in the data are not those of the present model, to which audit and histories refer. "
            "Call model.write_latents(mdata), and compute UMAPs and tables again."
        )
    path = model.chosen_path
    if path is not None and not path.is_within:
        cautions.append(path.reason)
    negative = find_negative_bounds(model.history)
    if negative:
        listed = ", ".join(f"{name.rpartition('/')[2].replace('_', ' ')} {mean:.2f}" for name, mean in negative.items())
        cautions.append(
            f"On validation cells, the bounds estimated by critics remained negative ({listed} nats). Such bounds are not "
            "informative about independence; evaluate it by the audit."
        )
    return cautions
