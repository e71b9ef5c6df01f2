"""Evaluation of representations by newly trained probes. Functions are methods of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc.metrics import PROBES, SpecificAuditor
from indiseek_sc.model._cells import evaluation_parts, find_cells, read_features, require, require_own_cells
from indiseek_sc.model._latents import encode_by_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.model._model import IndiSeek


def audit(
    model: IndiSeek,
    *,
    probes: Collection[str] = PROBES,
    seed: int = 0,
    auditor: SpecificAuditor | None = None,
) -> AuditReport:
    """Evaluate the representations on held-out cells by independently trained probes.

    Probes are trained on the training and validation cells, independently of the critics, and
    evaluated on the held-out cells (``held_out`` of :meth:`train`). If no cells were held out,
    probes are trained on the training cells and evaluated on the validation cells.

    Parameters
    ----------
    probes, seed
        As in :func:`indiseek_sc.metrics.audit`; an ``auditor`` has its own.
    auditor
        Auditor returned by :meth:`make_auditor` for this model before stage 2 was trained again, or
        for another model with the same shared representations (:meth:`take_over`). Probes that
        depend on the shared representations only are then not trained again.

    Returns
    -------
    Measures by modality, which are printed as a table. They are defined in
    :func:`indiseek_sc.metrics.audit`.

    Raises
    ------
    TypeError
        If ``auditor`` was not returned by :meth:`make_auditor`.
    ValueError
        If a kind of probe is unknown, or probes or a seed are given together with an auditor.
    RuntimeError
        If the model is not trained, or its data lack cells that it was trained with. Cells are
        identified by their names and values.

    Examples
    --------
    >>> report = model.audit()  # doctest: +SKIP
    >>> print(report)  # doctest: +SKIP
    """
    require(model, "specific")
    if auditor is not None and not isinstance(auditor, SpecificAuditor):
        raise TypeError(f"auditor must be an auditor returned by make_auditor(), but is {type(auditor).__name__}.")
    if auditor is None:
        auditor = model.make_auditor(probes=probes, seed=seed)
    elif tuple(probes) != PROBES or seed != 0:
        raise ValueError("auditor has its own probes and seed: give them to make_auditor() instead.")
    latents = encode_by_name(model, "specific", "reconstruction")
    for name in [name for name, latent in latents["specific"].items() if latent.shape[1] == 0]:
        # An empty representation explains as much as a constant one. Its reconstruction depends on
        # the shared representation only and is replaced too.
        n_cells = len(latents["reconstruction"][name])
        latents["specific"][name] = latents["reconstruction"][name] = np.zeros((n_cells, 1))
    return auditor.report(latents["specific"], latents["reconstruction"])


def make_auditor(model: IndiSeek, *, probes: Collection[str] = PROBES, seed: int = 0) -> SpecificAuditor:
    """Return an auditor of specific representations for the current shared representations.

    Give it to :meth:`audit` to audit several specific representations with the same shared
    representations.

    Parameters
    ----------
    probes, seed
        As in :func:`indiseek_sc.metrics.audit`.

    Returns
    -------
    The auditor. It trains the probes that depend on the shared representations only once.

    Raises
    ------
    ValueError
        If a kind of probe is unknown.
    RuntimeError
        If the shared representations are not trained, or the data lack cells that they were trained
        with.

    Examples
    --------
    >>> auditor = model.make_auditor()  # doctest: +SKIP
    >>> report = model.audit(auditor=auditor)  # doctest: +SKIP
    """
    require(model, "shared")
    mdata = model._validate_anndata()
    rows = np.flatnonzero(find_cells(model, mdata, model.modalities))
    split = require_own_cells(model, mdata, evaluation_parts(model), "audit")
    train, test = split.among(rows).for_judging()
    features = {name: read_features(model, mdata, role, rows).cpu().numpy() for role, name in model.modalities.items()}
    shared = encode_by_name(model, "shared")["shared"]
    return SpecificAuditor(features, shared, train=np.sort(train), test=test, probes=probes, seed=seed)
