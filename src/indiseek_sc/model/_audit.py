"""Evaluation of the representations by probes that never saw the critics. Functions here are methods of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc.metrics import SpecificAuditor
from indiseek_sc.model._cells import evaluation_parts, find_cells, read_features, require, require_own_cells
from indiseek_sc.model._latents import encode_by_name

if TYPE_CHECKING:
    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.model._model import IndiSeek


def audit(model: IndiSeek, *, seed: int = 0, auditor: SpecificAuditor | None = None) -> AuditReport:
    """Evaluate the representations on cells that the model never saw, by probes that never saw the training critics.

    Probes are fitted on the cells that the model learned from and chose by, and evaluated on the cells that were held out
    (``held_out`` of :meth:`train`), or on the validation cells if none were.

    Parameters
    ----------
    seed
        Decides the probes' starts.
    auditor
        One that :meth:`make_auditor` made, of this model before stage 2 was trained again or of another one with the same
        shared representations (:meth:`take_over`): what depends on these alone is then probed no second time. It has its own seed.

    Returns
    -------
    Figures by modality; prints as a table. See :func:`indiseek_sc.metrics.audit` for what each means.

    Raises
    ------
    TypeError
        If ``auditor`` is none.
    RuntimeError
        If the model is not trained, or its data lack cells that it was trained with: a cell is known by its name and values.
    """
    require(model, "specific")
    if auditor is not None and not isinstance(auditor, SpecificAuditor):
        raise TypeError(f"auditor must be what make_auditor() returned, but is {type(auditor).__name__}.")
    auditor = model.make_auditor(seed=seed) if auditor is None else auditor
    latents = encode_by_name(model, "specific", "reconstruction")
    for name in [name for name, latent in latents["specific"].items() if latent.shape[1] == 0]:
        # An empty representation explains as much as a constant one, and what is decoded then was in the shared representation alone.
        n_cells = len(latents["reconstruction"][name])
        latents["specific"][name] = latents["reconstruction"][name] = np.zeros((n_cells, 1))
    return auditor.report(latents["specific"], latents["reconstruction"])


def make_auditor(model: IndiSeek, *, seed: int = 0) -> SpecificAuditor:
    """Make what evaluates specific representations beside the shared representations that are there, for :meth:`audit`.

    Parameters
    ----------
    seed
        Decides the probes' starts.

    Raises
    ------
    RuntimeError
        If the shared representations are not trained, or the data lack cells that they were trained with.
    """
    require(model, "shared")
    mdata = model._validate_anndata()
    rows = np.flatnonzero(find_cells(model, mdata, model.modalities))
    split = require_own_cells(model, mdata, evaluation_parts(model), "audit")
    train, test = split.among(rows).for_judging()
    features = {name: read_features(model, mdata, role, rows).cpu().numpy() for role, name in model.modalities.items()}
    shared = encode_by_name(model, "shared")["shared"]
    return SpecificAuditor(features, shared, train=np.sort(train), test=test, seed=seed)
